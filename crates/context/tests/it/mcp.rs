//! `mcp`: a tool and a resource as sources, with the permissions of whoever asks.

use crate::world::{World, asking, named, user, via};
use forebay_domain::{Code, port::FindContext};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

async fn world(config: Value) -> World {
    World::new(json!({ "providers": { "m": { "type": "mcp", "config": config } } })).await
}

#[tokio::test]
async fn a_tools_json_is_picked_apart_and_its_text_is_parted() {
    let world = world(json!({ "tool": "search", "argument": "q", "arguments": { "n": 3 } })).await;
    world
        .tools
        .says(&json!({ "results": [{ "title": "T", "snippet": "one" }, "two"] }).to_string());
    assert_eq!(world.texts("m", "x y").await, ["one", "two"]);
    assert_eq!(
        world.tools.calls.lock().unwrap()[0],
        ("u".to_owned(), json!({ "q": "x y", "n": 3 }))
    );
    world.tools.says("# A\nfirst part\n\n# B\nsecond part");
    assert_eq!(world.texts("m", "z").await, ["# A\nfirst part", "# B\nsecond part"]);
    world.tools.fails.store(true, Ordering::SeqCst);
    let (code, message) = world.failure("m", "other").await;
    assert_eq!(
        (code, message.as_str()),
        (Code::UpstreamFailed, "The tool `search` answered that it failed.")
    );
}

#[tokio::test]
async fn nobody_reads_what_a_tool_said_to_another() {
    let world = world(json!({ "tool": "search" })).await;
    world.tools.says("for u");
    assert_eq!(world.texts("m", "q").await, ["for u"]);
    assert!(world.find("m", "q").await.reports[0].from_cache);
    world.tools.says("for v");
    let found = world
        .providers
        .find(&named("v", &[]), &asking(&["m"], "q"), via())
        .await
        .unwrap();
    assert_eq!(found.items[0].text, "for v");
    // Who may not call the tool is not answered from what it said before either.
    let found = world
        .providers
        .find(&user(&["context:*"]), &asking(&["m"], "q"), via())
        .await
        .unwrap();
    assert!(found.items.is_empty());
    assert_eq!(found.reports[0].failure.as_ref().unwrap().code, Code::UnknownTool);
    assert_eq!(world.tools.calls.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_resource_is_read_and_what_fits_comes_first() {
    let of_all = world(json!({ "uri": "docs://handbook" })).await;
    of_all
        .tools
        .says("# Rain\nIt rains.\n\n# Zubrowka\nIts capital is Lutz.");
    assert_eq!(
        of_all.texts("m", "capital of Zubrowka?").await,
        ["# Zubrowka\nIts capital is Lutz."]
    );
    let found = world(json!({ "uri": "docs://find/{query}" })).await;
    found.tools.says("ranked by the server");
    assert_eq!(found.texts("m", "a/b c").await, ["ranked by the server"]);
    assert_eq!(found.tools.calls.lock().unwrap()[0].0, "docs://find/a%2Fb%20c");
}
