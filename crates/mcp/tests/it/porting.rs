//! The catalogue as other capabilities see it: the port through which they call tools and read resources.

use crate::{
    actor::{Actor, NAME, raw},
    support::{Gate, Scripted, Wish, principal, trace},
};
use forebay_domain::{
    Code, Role,
    event::{Outcome as Ending, Surface},
    port::{CallTool, Via},
    tool::ToolCall,
};
use serde_json::json;
use std::time::Duration;

fn via() -> Via {
    Via {
        surface: Surface::Mcp,
        trace: trace(),
        in_task: false,
    }
}

async fn gate() -> Gate {
    Gate::open(Wish {
        model: Scripted {
            names: vec!["tiny"],
            ..Scripted::default()
        },
        ..Wish::default()
    })
    .await
}

async fn call(gate: &Gate, tool: &str, patience: Option<Duration>) -> Result<(String, bool), Code> {
    let port: &dyn CallTool = &gate.catalogue;
    let arguments = raw(&json!({"expression": "40+2"}));
    let call = ToolCall {
        tool,
        arguments: &arguments,
        patience,
        cost: None,
    };
    let answer = port.call(&principal(Role::User), call, via()).await;
    answer
        .map(|answer| (answer.text, answer.is_error))
        .map_err(|failure| failure.code)
}

#[tokio::test]
async fn who_may_not_call_a_tool_does_not_find_it() {
    let gate = gate().await;
    Actor::join(&gate);
    let port: &dyn CallTool = &gate.catalogue;
    let user = principal(Role::User);
    let found = port.find(&user, "calculator").unwrap();
    assert_eq!((found.name.as_str(), found.server.as_str()), ("calculator", "forebay"));
    assert!(found.description.unwrap().len() > 20);
    assert!(found.input_schema.get().contains("expression"));
    assert!(found.is_trusted && found.hints.read_only && !found.hints.destructive && !found.hints.open_world);
    assert!(!port.find(&user, "chat").unwrap().is_trusted);
    assert!(
        !port.find(&user, "wait").unwrap().is_trusted,
        "trust is said, never assumed"
    );
    assert!(port.find(&user, "nothing").is_none());
    assert!(port.find(&principal(Role::Viewer), "calculator").is_none());
    let mut denied = principal(Role::User);
    denied.grants = vec!["!effect:open_world".parse().unwrap()];
    assert!(port.find(&denied, "chat").is_none());
    assert!(port.find(&denied, "calculator").is_some());

    let names = |server| -> Vec<String> {
        let tools = port.of_server(&user, server);
        tools.into_iter().map(|tool| tool.name).collect()
    };
    assert_eq!(names(NAME).len(), 12);
    assert_eq!(names("forebay"), ["calculator", "chat", "gateway_status"]);
    assert!(names("nothing").is_empty());
    assert!(port.of_server(&principal(Role::Viewer), NAME).is_empty());
}

#[tokio::test]
async fn a_tool_that_is_there_and_cannot_be_had_is_told_from_one_that_is_not() {
    let gate = gate().await;
    Actor::join(&gate);
    let port: &dyn CallTool = &gate.catalogue;
    let why = |principal, name: &str| port.withheld(&principal, name).map(|why| why.code);
    assert_eq!(why(principal(Role::User), "calculator"), None, "it is to be had");
    assert_eq!(why(principal(Role::User), "nothing"), None);
    assert_eq!(why(principal(Role::User), "no__server"), None);
    assert_eq!(why(principal(Role::Viewer), "calculator"), Some(Code::Forbidden));
    let mut denied = principal(Role::User);
    denied.grants = vec!["!effect:open_world".parse().unwrap()];
    assert_eq!(why(denied, "chat"), Some(Code::InsufficientScope));
}

#[tokio::test]
async fn a_tool_that_calls_others_is_refused_by_name_and_calls_none() {
    let gate = gate().await;
    let actor = Actor::join(&gate);
    let port: &dyn CallTool = &gate.catalogue;
    let user = principal(Role::User);
    let names = port.of_server(&user, "compose").into_iter().map(|tool| tool.name);
    assert_eq!(names.collect::<Vec<_>>(), ["search_tools"]);
    let inner = json!({"tool": "calculator", "arguments": {"expression": "40+2"}});
    for (name, member) in [("call_batch", "calls"), ("call_chain", "steps")] {
        assert!(port.find(&user, name).is_none());
        let why = port.withheld(&user, name).unwrap();
        assert_eq!(why.code, Code::InvalidRequest);
        assert!(
            why.message.starts_with(&format!("`{name}` calls other tools")),
            "{why:?}"
        );
        assert_eq!(
            port.withheld(&principal(Role::Viewer), name).unwrap().code,
            Code::Forbidden
        );
        let arguments = raw(&json!({ member: [inner] }));
        let call = ToolCall {
            tool: name,
            arguments: &arguments,
            patience: None,
            cost: None,
        };
        assert_eq!(
            port.call(&user, call, via()).await.unwrap_err().code,
            Code::InvalidRequest
        );
    }
    drop(actor);
    call(&gate, "calculator", None).await.unwrap();
    assert_eq!(gate.events(1).await.len(), 1, "nothing but this one was called");
}

#[tokio::test]
async fn effects_are_believed_only_where_the_gateway_or_its_operator_names_them() {
    let gate = gate().await;
    Actor::join(&gate);
    let port: &dyn CallTool = &gate.catalogue;
    let strange = port.find(&principal(Role::User), "wait").unwrap().hints;
    assert!(
        !strange.read_only && strange.destructive && strange.open_world,
        "it says that it only reads"
    );
    let own = port.find(&principal(Role::User), "calculator").unwrap().hints;
    assert!(own.read_only && !own.destructive && !own.open_world);
}

#[tokio::test]
async fn a_call_is_the_same_call_as_everybodys() {
    let gate = gate().await;
    let actor = Actor::join(&gate);
    let (text, is_error) = call(&gate, "calculator", None).await.unwrap();
    assert!(text.contains("42") && !is_error, "{text}");
    let unfit = call(&gate, "gateway_status", None).await.unwrap_err();
    assert_eq!(unfit, Code::InvalidArguments);
    assert_eq!(call(&gate, "nothing", None).await.unwrap_err(), Code::UnknownTool);
    assert_eq!(call(&gate, "refuse", None).await.unwrap_err(), Code::UpstreamFailed);
    // There is nobody whom it could ask.
    for tool in ["ask", "input"] {
        let failed = call(&gate, tool, None).await.unwrap_err();
        assert!(
            [Code::ClientSilent, Code::MissingClientCapability].contains(&failed),
            "{tool}: {failed}"
        );
    }
    let short = Some(Duration::from_millis(20));
    assert_eq!(call(&gate, "wait", short).await.unwrap_err(), Code::ToolTimedOut);
    {
        let mut pending = Box::pin(call(&gate, "wait", None));
        tokio::select! {
            biased;
            ended = &mut pending => panic!("{ended:?}"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    // A patience longer than the tool's own limit does not lengthen it.
    actor.release.add_permits(1);
    assert_eq!(call(&gate, "wait", Some(Duration::MAX)).await.unwrap().0, "waited");

    let events = gate.events(9).await;
    let endings: Vec<_> = events.iter().map(|event| event.outcome).collect();
    assert_eq!(endings[0], Ending::Ok);
    assert_eq!(endings[6], Ending::Failed(Code::ToolTimedOut));
    assert_eq!(endings[7], Ending::Cancelled, "dropping the future took the call back");
    assert_eq!(endings[8], Ending::Ok);
}

#[tokio::test]
async fn a_patience_does_not_lengthen_a_tools_own_limit() {
    let gate = gate().await;
    Actor::join(&gate);
    gate.freeze();
    let waited = call(&gate, "wait", Some(Duration::from_hours(1))).await;
    assert_eq!(waited.unwrap_err(), Code::ToolTimedOut);
    let began = tokio::time::Instant::now();
    let waited = call(&gate, "wait", Some(Duration::from_hours(1))).await;
    assert_eq!(waited.unwrap_err(), Code::ToolTimedOut);
    assert_eq!(began.elapsed().as_secs(), 30, "the tool's own");
}

#[tokio::test]
async fn a_resource_is_read_as_text() {
    let gate = gate().await;
    Actor::join(&gate);
    let port: &dyn CallTool = &gate.catalogue;
    let read = async |uri| port.read(&principal(Role::User), uri, via()).await;
    assert_eq!(read("actor://1").await.unwrap(), "t");
    assert_eq!(read("nobody://1").await.unwrap_err().code, Code::UnknownResource);
    let mut denied = principal(Role::User);
    denied.grants = vec!["!resources:read".parse().unwrap()];
    let refused = port.read(&denied, "actor://1", via()).await.unwrap_err();
    assert_eq!(refused.code, Code::InsufficientScope);
}
