//! The models of one more server (`mcp.server_url`): listed, asked there, and gone with it.

use crate::rig::{Rig, eventually};
use forebay_domain::Role;
use forebay_testkit::openai::{ANSWER, Engine, Reply};
use serde_json::{Value, json};

async fn models(rig: &Rig, key: &str) -> Vec<String> {
    let list: Value = rig
        .request("GET", "/v1/models", key)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let names = list["data"].as_array().unwrap().iter();
    names.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_another_server_lists_is_asked_there_unless_the_configuration_has_it() {
    let other = Engine::start().await;
    // It also has one of the configuration's names, and one that is none.
    let listed = json!({ "data": [{ "id": "fake" }, { "id": "stub" }, { "id": "" }, { "id": "x".repeat(500) }] });
    other.will(Reply::json(200, &listed));
    let mut config = None;
    let rig = Rig::with(|own| {
        let address = other.url().trim_end_matches("/v1").to_owned();
        own.mcp.server_url = Some(address.parse().unwrap());
        config = Some(own.clone());
    })
    .await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    eventually("the other server's models are offered", || async {
        models(&rig, &key).await == ["fake", "stub"]
    })
    .await;
    for (model, engine) in [("fake", &other), ("stub", &rig.engine)] {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Hi" }] });
        let answer = rig.post("/v1/chat/completions", &key, &body).await;
        assert_eq!(answer.status(), 200);
        let seen = engine.seen();
        let asked: Vec<_> = seen.iter().filter(|seen| seen.method == "POST").collect();
        assert_eq!((asked.len(), &asked[0].json()["model"]), (1, &json!(model)));
        assert_eq!(asked[0].path, "/v1/chat/completions");
    }
    let made = rig
        .post("/api/v1/mcp/contexts", &key, &json!({ "model_id": "fake" }))
        .await;
    let made: Value = made.json().await.unwrap();
    let prompt = format!("/api/v1/mcp/contexts/{}/prompt", made["id"].as_str().unwrap());
    let said: Value = rig
        .post(&prompt, &key, &json!({ "prompt": "Hi" }))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(said["node"]["content"], ANSWER, "{said}");

    let mut config = config.unwrap();
    config.mcp.server_url = None;
    rig.gateway.app.reconfigure(&config).await.unwrap();
    eventually("they are gone with it", || async {
        models(&rig, &key).await == ["stub"]
    })
    .await;
}
