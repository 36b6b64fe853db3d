//! Tools and resources over plain REST: the same catalogue, whole results, and plain words where there is none.

use crate::rig::Rig;
use forebay_domain::{Code, Failure, Principal, Role, port::BoxFuture, quarantine::Hints};
use forebay_mcp::{
    CallContext, Outcome,
    call::{Complete, RpcError},
    source::{Naming, Offer, Resource, Source, Tool, Wanted},
};
use serde_json::{Value, json, value::RawValue};
use std::{sync::Arc, time::Duration};

/// A server that answers in every way there is.
struct Docs;

/// Members and numbers that no type of ours knows.
const ODD: &str = r#"{"content":[],"x-odd":1.00,"big":12345678901234567890123,"_meta":{"a":{}}}"#;
const PAGE: &str = r#"{"contents":[{"uri":"docs://a","text":"A","x-odd":1.0}]}"#;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn complete(text: &str) -> Outcome {
    Outcome::Complete(Complete {
        raw: raw(text),
        is_error: false,
        failed: None,
    })
}

impl Source for Docs {
    fn name(&self) -> &'static str {
        "docs"
    }

    fn naming(&self) -> Naming {
        Naming::Prefixed
    }

    fn offer(&self) -> Arc<Offer> {
        let tools = ["odd", "pause", "ask", "refuse", "unfit"].map(|name| {
            let definition = format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}},"x-odd":1.00}}"#);
            Arc::new(Tool {
                name: name.to_owned(),
                raw: raw(&definition),
                hints: Hints::default(),
                headers: Vec::new(),
                time_limit: Duration::from_mins(1),
            })
        });
        Arc::new(Offer {
            tools: tools.to_vec(),
            resources: vec![Arc::new(Resource {
                uri: "docs://a".to_owned(),
                raw: raw(r#"{"uri":"docs://a","name":"a","x-odd":1.00}"#),
            })],
            ..Offer::default()
        })
    }

    fn serve<'a>(
        &'a self,
        _: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        let name = match wanted {
            Wanted::Tool { name, .. } => name,
            Wanted::Resource { .. } => return Box::pin(async { Ok(complete(PAGE)) }),
            Wanted::Prompt { .. } | Wanted::Completion { .. } => unreachable!("it offers none"),
        };
        let refused = |code| {
            Ok(Outcome::Refused(RpcError {
                code,
                message: "not today".to_owned(),
                data: Some(raw(r#"{"until":"tomorrow"}"#)),
            }))
        };
        Box::pin(async move {
            match name {
                "odd" => Ok(complete(ODD)),
                "pause" => Ok(Outcome::InputRequired(raw(
                    r#"{"resultType":"input_required","inputRequests":{"who":{"method":"elicitation/create","params":{"message":"Who?"}}},"requestState":"canary-state"}"#,
                ))),
                "ask" => {
                    let params = raw(r#"{"message":"Who?"}"#);
                    context.client.ask("elicitation/create", Some(params)).await?;
                    unreachable!("nobody answers")
                }
                "unfit" => refused(-32602),
                _ => refused(-32000),
            }
        })
    }
}

async fn rig() -> Rig {
    let rig = Rig::start().await;
    rig.gateway.app.catalogue.join(Arc::new(Docs));
    rig
}

async fn call(rig: &Rig, tool: &str, body: &Value) -> (u16, Value) {
    let answer = rig.post(&format!("/mcp/tools/{tool}"), &rig.admin, body).await;
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn tools_are_listed_whole_and_with_their_provider() {
    let rig = rig().await;
    let text = rig.get("/mcp/tools").await.text().await.unwrap();
    let listed: Value = serde_json::from_str(&text).unwrap();
    let tool = |name: &str| {
        let all = listed["tools"].as_array().unwrap();
        all.iter().find(|tool| tool["name"] == name).unwrap().clone()
    };
    let calculator = tool("calculator");
    assert_eq!(calculator["provider"], "forebay");
    assert_eq!(calculator["inputSchema"]["type"], "object");
    let odd = tool("docs__odd");
    assert_eq!((&odd["provider"], &odd["outputSchema"]), (&json!("docs"), &json!({})));
    assert!(text.contains(r#""x-odd":1.00"#), "{text}");

    let narrow = rig.key("acme", "n", Role::User, &["tool:docs__*", "tools:list"]).await;
    let listed: Value = rig
        .request("GET", "/mcp/tools", &narrow)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(listed["tools"].as_array().unwrap().len(), 5, "{listed}");
    let wrong = rig.get("/mcp/tools?cursor=nonsense").await;
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn a_call_answers_with_the_whole_result() {
    let rig = rig().await;
    let (status, answer) = call(&rig, "calculator", &json!({"expression": "6 * 7"})).await;
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer["result"]["content"][0]["text"].as_str().unwrap().contains("42"),
        "{answer}"
    );
    let answer = rig.post("/mcp/tools/docs__odd", &rig.admin, &json!({})).await;
    assert_eq!(answer.text().await.unwrap(), format!(r#"{{"result":{ODD}}}"#));
    let bare = rig
        .request("POST", "/mcp/tools/gateway_status", &rig.admin)
        .send()
        .await
        .unwrap();
    assert_eq!(bare.status(), 200, "a tool without arguments needs no body");
}

#[tokio::test]
async fn a_call_that_cannot_be_done_says_why() {
    let rig = rig().await;
    let denied = rig
        .key("acme", "d", Role::User, &["tool:*", "!tool:calculator", "mcp:connect"])
        .await;
    let refused = rig
        .post("/mcp/tools/calculator", &denied, &json!({"expression": "1"}))
        .await;
    assert_eq!(refused.status(), 403);
    for (tool, body, status, code) in [
        ("no_such_tool", json!({}), 404, Code::UnknownTool),
        ("calculator", json!({"expression": 5}), 422, Code::InvalidArguments),
        ("calculator", json!([1]), 422, Code::InvalidArguments),
        ("docs__refuse", json!({}), 502, Code::UpstreamFailed),
        ("docs__unfit", json!({}), 400, Code::InvalidParams),
    ] {
        let answer = rig.post(&format!("/mcp/tools/{tool}"), &rig.admin, &body).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{tool}");
        assert_eq!(answer.status(), status, "{tool}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], code.as_str(), "{problem}");
        if tool == "docs__refuse" {
            assert_eq!(
                problem["details"],
                json!({"code": -32000, "data": {"until": "tomorrow"}})
            );
        }
    }
    for (body, kind) in [(r#"{"a":1,"a":2}"#, "application/json"), ("{}", "text/plain")] {
        let answer = rig
            .request("POST", "/mcp/tools/calculator", &rig.admin)
            .header("content-type", kind)
            .body(body)
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_client_error(), "{body}: {}", answer.status());
    }
}

#[tokio::test]
async fn a_tool_that_needs_input_says_what_it_asks_for() {
    let rig = rig().await;
    for tool in ["docs__pause", "docs__ask"] {
        let (status, problem) = call(&rig, tool, &json!({})).await;
        assert_eq!(
            (status, &problem["code"]),
            (409, &json!("client_silent")),
            "{tool}: {problem}"
        );
        let asked = problem["details"]["inputRequests"].as_object().unwrap();
        let question = asked.values().next().unwrap();
        assert_eq!(
            question,
            &json!({"method": "elicitation/create", "params": {"message": "Who?"}}),
            "{tool}"
        );
        assert!(!problem.to_string().contains("canary-state"), "{problem}");
    }
}

#[tokio::test]
async fn resources_are_listed_and_read() {
    let rig = rig().await;
    let listed = rig.get("/mcp/resources").await.text().await.unwrap();
    assert!(
        listed.contains(r#"{"uri":"docs://a","name":"a","x-odd":1.00}"#),
        "{listed}"
    );
    let posted = rig.request("POST", "/mcp/resources", &rig.admin).send().await.unwrap();
    assert_eq!(posted.text().await.unwrap(), listed, "without a body it is the list");
    let read = rig
        .post("/mcp/resources", &rig.admin, &json!({"uri": "docs://a"}))
        .await;
    assert_eq!(
        (read.status().as_u16(), read.text().await.unwrap()),
        (200, PAGE.to_owned())
    );
    let unknown = rig
        .post("/mcp/resources", &rig.admin, &json!({"uri": "docs://b"}))
        .await;
    assert_eq!(unknown.status(), 404);
    let misspelt = rig
        .post("/mcp/resources", &rig.admin, &json!({"url": "docs://a"}))
        .await;
    assert_eq!(misspelt.status(), 400);
}
