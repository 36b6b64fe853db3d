//! `Idempotency-Key`: what is sent under one name is done once.

use crate::rig::Rig;
use forebay_domain::Role;
use reqwest::Response;
use serde_json::{Value, json};

fn tool(name: &str) -> Value {
    json!({"name": name, "description": "The weather", "parameters": {"city": {"type": "string"}},
        "endpoint": {"url": "https://weather.example.com/{city}"}})
}

async fn send(rig: &Rig, path: &str, key: &str, name: &str, body: &Value) -> Response {
    let request = rig.request("POST", path, key).header("idempotency-key", name);
    request.json(body).send().await.unwrap()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let problem: Value = response.json().await.unwrap();
    (status, problem["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_same_request_is_done_once_and_answered_alike() {
    let rig = Rig::start().await;
    let first = send(&rig, "/api/v1/tools", &rig.admin, "a1", &tool("weather")).await;
    assert_eq!(
        (first.status().as_u16(), first.headers().get("idempotent-replayed")),
        (201, None)
    );
    let first_type = first.headers()["content-type"].clone();
    let first: Value = first.json().await.unwrap();

    let again = send(&rig, "/api/v1/tools", &rig.admin, "a1", &tool("weather")).await;
    assert_eq!(again.status(), 201, "without its name it would be a conflict");
    assert_eq!(
        (
            &again.headers()["idempotent-replayed"],
            &again.headers()["content-type"]
        ),
        (&"true".parse().unwrap(), &first_type)
    );
    assert_eq!(again.json::<Value>().await.unwrap(), first);

    let unnamed = rig.post("/api/v1/tools", &rig.admin, &tool("weather")).await;
    assert_eq!(unnamed.status(), 409, "it was done once");
    let other = send(&rig, "/api/v1/tools", &rig.admin, "a1", &tool("rain")).await;
    assert_eq!(code(other).await, (422, "idempotency_key_reused".to_owned()));
    let elsewhere = send(
        &rig,
        "/api/v1/keys",
        &rig.admin,
        "a1",
        &json!({"name": "n", "role": "user"}),
    )
    .await;
    assert_eq!(elsewhere.status(), 201, "another route, another request");
    let admin = rig.key("acme", "root", Role::Admin, &[]).await;
    let somebody = send(&rig, "/api/v1/tools", &admin, "a1", &tool("snow")).await;
    assert_eq!(somebody.status(), 201, "somebody else's name is another one");
}

#[tokio::test]
async fn of_many_at_once_one_is_done() {
    let rig = Rig::start().await;
    let (path, body) = ("/api/v1/keys", json!({"name": "once", "role": "user"}));
    let sent = (0..12).map(|_| send(&rig, path, &rig.admin, "k", &body));
    let mut done = 0;
    for response in futures_util::future::join_all(sent).await {
        match response.status().as_u16() {
            201 => done += 1,
            // Under way, or done and not to be shown again.
            409 => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(done, 1);
    let keys: Value = rig.get("/api/v1/keys").await.json().await.unwrap();
    let made = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["name"] == "once");
    assert_eq!(made.count(), 1);
}

#[tokio::test]
async fn a_secret_is_answered_once_and_kept_nowhere() {
    let rig = Rig::start().await;
    let body = json!({"name": "n", "role": "user"});
    let made: Value = send(&rig, "/api/v1/keys", &rig.admin, "k", &body)
        .await
        .json()
        .await
        .unwrap();
    let again = send(&rig, "/api/v1/keys", &rig.admin, "k", &body).await;
    assert_eq!(code(again).await, (409, "conflict".to_owned()));
    let secret = made["key"].as_str().unwrap().rsplit_once('_').unwrap().1.to_owned();
    let folder = rig.data.path().to_owned();
    rig.gateway.stop().await;
    for file in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if file.file_name() != "admin.key" {
            let bytes = std::fs::read(file.path()).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{:?} holds the secret", file.file_name());
        }
    }
}

#[tokio::test]
async fn what_did_not_fit_is_mended_under_the_same_name() {
    let rig = Rig::start().await;
    let wrong = send(
        &rig,
        "/api/v1/keys",
        &rig.admin,
        "m",
        &json!({"name": "n", "role": "king"}),
    )
    .await;
    assert_eq!(wrong.status(), 400);
    let mended = send(
        &rig,
        "/api/v1/keys",
        &rig.admin,
        "m",
        &json!({"name": "n", "role": "user"}),
    )
    .await;
    assert_eq!(mended.status(), 201);
    for name in ["", &"x".repeat(256)] {
        let refused = send(
            &rig,
            "/api/v1/keys",
            &rig.admin,
            name,
            &json!({"name": "n", "role": "user"}),
        )
        .await;
        assert_eq!(code(refused).await, (400, "invalid_request".to_owned()), "{name:?}");
    }
    let two = rig
        .request("POST", "/api/v1/keys", &rig.admin)
        .header("idempotency-key", "a");
    let two = two
        .header("idempotency-key", "b")
        .json(&json!({"name": "n", "role": "user"}));
    assert_eq!(two.send().await.unwrap().status(), 400);
    let forbidden = rig.key("acme", "u", Role::User, &[]).await;
    let refused = send(
        &rig,
        "/api/v1/keys",
        &forbidden,
        "m",
        &json!({"name": "n", "role": "user"}),
    )
    .await;
    assert_eq!(refused.status(), 403, "whoever may not does not learn what was done");
}
