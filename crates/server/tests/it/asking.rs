//! The routes to models beside chat: with `/v1` and without, what headers say, whose errors they speak, and why a
//! request goes where it goes.

use crate::rig::{Rig, eventually};
use forebay_domain::{
    Role,
    id::{SubjectId, TenantId},
};
use forebay_store::responses::{KEPT_FOR, OwnerKind, ResponseOwner, StoredResponse};
use forebay_testkit::openai::ANSWER;
use serde_json::{Value, json};

fn chat() -> Value {
    json!({"model": "stub", "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test]
async fn routes_stand_with_and_without_their_version() {
    let rig = Rig::start().await;
    let answer = rig.post("/chat/completions", &rig.admin, &chat()).await;
    assert!(answer.headers().contains_key("x-ratelimit-limit-requests"));
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], ANSWER);
    let of = async |path: &str| rig.get(path).await.json::<Value>().await.unwrap();
    assert_eq!(of("/models").await, of("/v1/models").await);
    assert_eq!(of("/models/stub").await, of("/v1/models").await["data"][0]);
}

#[tokio::test]
async fn one_model_is_shown_to_whoever_may_ask_it() {
    let rig = Rig::with(|config| {
        let model = config.models.0["stub"].clone();
        config.models.0.insert("org/stub".to_owned(), model);
    })
    .await;
    for path in ["/v1/models/org/stub", "/v1/models/org%2Fstub"] {
        let shown: Value = rig.get(path).await.json().await.unwrap();
        assert_eq!(
            (&shown["id"], &shown["object"]),
            (&json!("org/stub"), &json!("model")),
            "{path}"
        );
    }
    let narrow = rig.key("acme", "n", Role::User, &["model:other"]).await;
    for (path, key) in [("/v1/models/none", &rig.admin), ("/v1/models/stub", &narrow)] {
        let missing = rig.request("GET", path, key).send().await.unwrap();
        assert_eq!(missing.status(), 404, "{path}");
        let body: Value = missing.json().await.unwrap();
        assert_eq!(body["error"]["code"], "model_not_found", "{path}");
    }
}

#[tokio::test]
async fn a_header_says_how_urgent_a_request_is() {
    let rig = Rig::start().await;
    for (priority, status) in [
        ("low", 200),
        ("Critical", 200),
        ("3", 200),
        ("urgent", 400),
        ("5", 400),
        ("", 400),
    ] {
        let asked = rig.request("POST", "/v1/chat/completions", &rig.admin).json(&chat());
        let answer = asked.header("x-forebay-priority", priority).send().await.unwrap();
        assert_eq!(answer.status(), status, "{priority}");
        if status == 400 {
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["error"]["param"], "x-forebay-priority", "{body}");
        }
    }
    let twice = rig.request("POST", "/v1/chat/completions", &rig.admin).json(&chat());
    let twice = twice
        .header("x-forebay-priority", "low")
        .header("x-forebay-priority", "high");
    assert_eq!(twice.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn messages_are_refused_in_anthropics_words() {
    let rig = Rig::start().await;
    let viewer = rig.key("acme", "v", Role::Viewer, &[]).await;
    let asked = json!({"model": "none", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    for path in ["/v1/messages", "/messages"] {
        for (key, status, kind, code) in [
            (&String::new(), 401, "authentication_error", "missing_credentials"),
            (&viewer, 403, "permission_error", "forbidden"),
            (&rig.admin, 404, "not_found_error", "unknown_model"),
        ] {
            let request = rig.request("POST", path, key).header("anthropic-version", "2023-06-01");
            let refused = request.json(&asked).send().await.unwrap();
            assert_eq!(refused.status(), status, "{path}");
            let trace = refused.headers()["x-trace-id"].to_str().unwrap().to_owned();
            let body: Value = refused.json().await.unwrap();
            assert_eq!(
                (&body["type"], &body["error"]["type"]),
                (&json!("error"), &json!(kind)),
                "{body}"
            );
            assert_eq!(
                (&body["error"]["forebay_code"], &body["request_id"]),
                (&json!(code), &json!(trace))
            );
        }
    }
    for (method, path) in [("GET", "/v1/messages"), ("POST", "/v1/messages/none")] {
        let body: Value = rig
            .request(method, path, &rig.admin)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(body["type"], "error", "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn a_route_is_explained_to_whoever_may_ask_the_model() {
    let rig = Rig::start().await;
    for (role, sees_addresses) in [(Role::User, false), (Role::Operator, true)] {
        let key = rig.key("acme", "anna", role, &[]).await;
        let request = rig.request("GET", "/api/v1/explain/route?model=stub", &key);
        let told = request.send().await.unwrap().text().await.unwrap();
        assert_eq!(told.contains("127.0.0.1"), sees_addresses, "{role}: {told}");
    }
    let told = rig.get("/api/v1/explain/route?model=stub").await;
    let told: Value = told.json().await.unwrap();
    let step = &told["steps"][0];
    assert_eq!((&step["model"], &step["chosen"]), (&json!("stub"), &json!(0)), "{told}");
    let backend = &step["backends"][0];
    assert_eq!(
        (&backend["state"], &backend["in_flight"]),
        (&json!("up"), &json!(0)),
        "{told}"
    );
    assert!(backend["reason"].as_str().unwrap().starts_with("chosen"), "{told}");
    for (query, status) in [("?model=none", 404), ("", 400), ("?model=stub&affinity=1", 400)] {
        assert_eq!(
            rig.get(&format!("/api/v1/explain/route{query}")).await.status(),
            status,
            "{query}"
        );
    }
    let narrow = rig.key("acme", "n", Role::User, &["model:other"]).await;
    let refused = rig.request("GET", "/api/v1/explain/route?model=stub", &narrow);
    assert_eq!(refused.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn backends_are_asked_whether_they_are_well() {
    let rig = Rig::with(|config| config.models.0.get_mut("stub").unwrap().backends[0].probe.interval_s = 10).await;
    rig.engine.asked(1).await;
    assert_eq!(rig.engine.seen()[0].method, "GET");
    eventually("the metrics tell how the backend is", || async {
        let metrics = rig.get("/metrics").await.text().await.unwrap();
        metrics.contains("forebay_backend_up{model=\"stub\",backend=\"0\"} 1")
    })
    .await;
}

/// Keeps an answer for somebody, as asking with `store` does.
async fn keep(rig: &Rig, id: &str, tenant: &str, subject: &str, model: &str) {
    let raw = |value: Value| serde_json::value::to_raw_value(&value).unwrap();
    let now = rig.gateway.app.clock.now();
    let kept = StoredResponse {
        id: id.to_owned(),
        owner: ResponseOwner {
            tenant: TenantId::try_from(tenant).unwrap(),
            project: None,
            kind: OwnerKind::Key,
            subject: SubjectId::try_from(subject).unwrap(),
        },
        key: None,
        previous_id: None,
        model: model.to_owned(),
        status: "completed".to_owned(),
        created_at: now,
        expires_at: now + KEPT_FOR,
        input: raw(json!([{"role": "user", "content": "first"}, {"id": "msg_2", "role": "user", "content": "second"}])),
        body: raw(json!({"id": id, "object": "response", "x": [1]})),
    };
    rig.gateway.app.store.responses().put(&kept, 10).await.unwrap();
}

#[tokio::test]
async fn a_kept_answer_is_its_owners_alone() {
    let rig = Rig::start().await;
    let own = rig.key("acme", "ursula", Role::User, &[]).await;
    let colleague = rig.key("acme", "otto", Role::Operator, &[]).await;
    keep(&rig, "resp_1", "acme", "ursula", "stub").await;
    let ask = async |method: &str, path: &str, key: &str| {
        let answer = rig.request(method, path, key).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    for path in ["/v1/responses/resp_1", "/responses/resp_1"] {
        assert_eq!(
            ask("GET", path, &own).await,
            (200, json!({"id": "resp_1", "object": "response", "x": [1]}))
        );
        let items = format!("{path}/input_items");
        let (_, page) = ask("GET", &format!("{items}?limit=1"), &own).await;
        assert_eq!(
            (&page["data"][0]["content"], &page["has_more"]),
            (&json!("second"), &json!(true)),
            "{page}"
        );
        for (method, path) in [("GET", path), ("DELETE", path), ("GET", &items)] {
            for key in [&colleague, &rig.admin] {
                let (status, body) = ask(method, path, key).await;
                assert_eq!(
                    (status, &body["error"]["code"]),
                    (404, &json!("unknown_response")),
                    "{method} {path}"
                );
            }
        }
    }
    for query in ["?stream=true", "/input_items?order=up", "/input_items?after=none"] {
        let (status, body) = ask("GET", &format!("/v1/responses/resp_1{query}"), &own).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!("invalid_request")),
            "{query}"
        );
    }
    let (_, gone) = ask("DELETE", "/v1/responses/resp_1", &own).await;
    assert_eq!(gone, json!({"id": "resp_1", "object": "response", "deleted": true}));
    assert_eq!(ask("GET", "/v1/responses/resp_1", &own).await.0, 404);
}

#[tokio::test]
async fn a_kept_answer_is_for_whoever_may_ask_its_model() {
    let rig = Rig::start().await;
    let viewer = rig.key("acme", "ursula", Role::Viewer, &[]).await;
    let elsewhere = rig.key("acme", "ursula", Role::User, &["model:other"]).await;
    let own = rig.key("acme", "ursula", Role::User, &["model:stub"]).await;
    keep(&rig, "resp_1", "acme", "ursula", "stub").await;
    for (key, code) in [(&viewer, "forbidden"), (&elsewhere, "insufficient_scope")] {
        for (method, path) in [
            ("GET", "/v1/responses/resp_1"),
            ("GET", "/v1/responses/resp_1/input_items"),
            ("DELETE", "/v1/responses/resp_1"),
        ] {
            let answer = rig.request(method, path, key).send().await.unwrap();
            let (status, body) = (answer.status().as_u16(), answer.json::<Value>().await.unwrap());
            assert_eq!(
                (status, body["error"]["code"].as_str()),
                (403, Some(code)),
                "{method} {path}"
            );
        }
    }
    let kept = rig.request("GET", "/v1/responses/resp_1", &own).send().await.unwrap();
    assert_eq!(kept.status().as_u16(), 200);
}
