//! Keys whose lists show a few of many tools.

use crate::rig::Rig;
use serde_json::{Value, json};

async fn names(rig: &Rig, key: &str) -> Vec<String> {
    let listed = rig.rpc(key, "tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().unwrap().iter();
    tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_is_made_that_lists_some_tools_and_calls_the_others() {
    let rig = Rig::start().await;
    let wanted = json!({"name": "agent", "role": "user", "shown": ["calc*", "nothing__*"]});
    let made: Value = rig
        .post("/api/v1/keys", &rig.admin, &wanted)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(made["shown"], json!(["calc*", "nothing__*"]));
    let key = made["key"].as_str().unwrap();
    assert_eq!(names(&rig, key).await, ["calculator", "search_tools"]);
    let call = json!({"name": "gateway_status", "arguments": {}});
    assert_eq!(rig.rpc(key, "tools/call", call).await["result"]["isError"], false);
    let search = json!({"name": "search_tools", "arguments": {"query": "status"}});
    let found = rig.rpc(key, "tools/call", search).await;
    let found = &found["result"]["structuredContent"]["tools"][0]["name"];
    assert_eq!(found, "gateway_status");
    let listed: Value = rig
        .request("GET", "/api/v1/keys", &rig.admin)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let listed = listed["keys"].as_array().unwrap().iter();
    let shown: Vec<_> = listed.map(|key| (&key["name"], &key["shown"])).collect();
    assert!(
        shown.contains(&(&json!("agent"), &json!(["calc*", "nothing__*"]))),
        "{shown:?}"
    );
    assert!(shown.contains(&(&json!("admin"), &json!([]))), "{shown:?}");
}

#[tokio::test]
async fn what_is_no_pattern_is_refused_by_name() {
    let rig = Rig::start().await;
    let many: Vec<String> = (0..101).map(|index| format!("tool{index}")).collect();
    for shown in [json!(["tool:web"]), json!([""]), json!(["a b"]), json!(many)] {
        let wanted = json!({"name": "agent", "role": "user", "shown": shown});
        let refused = rig.post("/api/v1/keys", &rig.admin, &wanted).await;
        assert_eq!(refused.status(), 400, "{shown}");
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["details"]["field"], "shown", "{problem}");
    }
}
