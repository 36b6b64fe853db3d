//! Machines through the whole gateway, against a fake vast.ai: over MCP as clients in the field call it, and over REST.

use crate::rig::{Rig, eventually};
use forebay_domain::Role;
use forebay_runtime::Clock;
use forebay_testkit::markets::{Fake, vast::Vast};
use serde_json::{Value, json};
use std::time::Duration;

/// A gateway with vast.ai for a market, and so much to spend in an hour and in a day.
async fn rig(budgets: Value, rentals: Value) -> (Rig, Fake<Vast>) {
    let mut vast = Vast::new(40);
    vast.boot_step = Duration::ZERO;
    let fake = Fake::start_at(vast, 0, Clock::system()).await.unwrap();
    let url = fake.url();
    let rig = Rig::with(|config| {
        config.budgets = serde_json::from_value(budgets).unwrap();
        config.rentals = serde_json::from_value(rentals).unwrap();
        let vast = json!({"vast": {"api_key": {"env": "VAST_KEY"}, "url": url}});
        config.markets = serde_json::from_value(vast).unwrap();
    })
    .await;
    (rig, fake)
}

pub(crate) fn fifty() -> Value {
    json!([{"scope": "tenant", "window": "60m", "limit_usd": 50}, {"scope": "tenant", "window": "1440m", "limit_usd": 1000}])
}

/// What a tool answers, by what stands in its text block as clients in the field read it.
pub(crate) async fn call(rig: &Rig, key: &str, tool: &str, arguments: Value) -> (bool, Value) {
    let answer = rig
        .rpc(key, "tools/call", json!({"name": tool, "arguments": arguments}))
        .await;
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str();
    assert!(text.is_some(), "{tool}: {answer}");
    let text = text.unwrap();
    (result["isError"] == true, serde_json::from_str(text).unwrap())
}

pub(crate) async fn done(rig: &Rig, key: &str, tool: &str, arguments: Value) -> Value {
    let (failed, told) = call(rig, key, tool, arguments).await;
    assert!(!failed, "{tool}: {told}");
    told
}

pub(crate) async fn cheapest(rig: &Rig, key: &str) -> String {
    let list = done(rig, key, "list_gpu_instances", json!({"provider": "vast.ai"})).await;
    list["instances"][0]["instance_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_for_rent_is_found_by_memory_and_price() {
    let (rig, _fake) = rig(fifty(), json!({})).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let all = done(&rig, &key, "list_gpu_instances", json!({"provider": "all"})).await;
    let sizes = |list: &Value| -> Vec<u64> {
        let instances = list["instances"].as_array().unwrap().iter();
        instances.map(|one| one["vram_gb"].as_u64().unwrap()).collect()
    };
    assert!(
        sizes(&all).contains(&24) && sizes(&all).iter().any(|size| *size < 24),
        "{all}"
    );
    let large = done(
        &rig,
        &key,
        "list_gpu_instances",
        json!({"provider": "vast.ai", "min_vram": 24, "max_price": 2.0}),
    )
    .await;
    let found = large["instances"].as_array().unwrap();
    assert!(
        sizes(&large).contains(&24),
        "a card that reports 24,564 MB has 24 GB: {large}"
    );
    assert!(sizes(&large).iter().all(|size| *size >= 24), "{large}");
    assert!(
        found
            .iter()
            .all(|one| one["price_per_hour_usd"].as_f64().unwrap() <= 2.0),
        "{large}"
    );
    let first = &found[0];
    assert_eq!(
        first["id"],
        format!("vast.ai:{}", first["instance_id"].as_str().unwrap())
    );
    let states: Vec<_> = all["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["provider"], &one["state"]))
        .collect();
    assert!(states.contains(&(&json!("io.net"), &json!("off"))), "{states:?}");
}

#[tokio::test]
async fn a_machine_is_rented_within_the_limits_and_destroyed() {
    let (rig, fake) = rig(fifty(), json!({})).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let can = done(&rig, &key, "check_spending_limit", json!({"estimated_cost": 3.0})).await;
    assert_eq!(
        (&can["allowed"], can["windows"].as_array().unwrap().len()),
        (&json!(true), 2),
        "{can}"
    );
    let offer = cheapest(&rig, &key).await;
    let rent = json!({"provider": "vast.ai", "instance_id": offer, "image": "nvidia/cuda:12.0.0-base-ubuntu22.04"});
    let made = done(&rig, &key, "create_gpu_instance", rent).await;
    assert_eq!(
        (&made["outcome"], &made["instance"]["offer_id"]),
        (&json!("rented"), &json!(format!("vast.ai:{offer}")))
    );
    assert_eq!((fake.created(), fake.live()), (1, 1));
    let spending = done(&rig, &key, "get_spending_info", json!({})).await;
    assert!(spending["burn_usd_per_hour"].as_f64().unwrap() > 0.0, "{spending}");
    assert!(spending["windows"][0]["held_usd"].as_f64().unwrap() > 0.0, "{spending}");
    let mine = done(&rig, &key, "list_my_gpu_instances", json!({})).await;
    assert_eq!(mine["instances"].as_array().unwrap().len(), 1);

    let stranger = rig.key("other", "olga", Role::User, &[]).await;
    let theirs = json!({"provider": "vast.ai", "instance_id": offer});
    let (failed, told) = call(&rig, &stranger, "destroy_gpu_instance", theirs.clone()).await;
    assert_eq!((failed, &told["code"]), (true, &json!("UNKNOWN_INSTANCE")), "{told}");
    assert_eq!(fake.live(), 1);

    let ended = done(&rig, &key, "destroy_gpu_instance", theirs).await;
    assert!(
        ["destroying", "gone"].contains(&ended["state"].as_str().unwrap()),
        "{ended}"
    );
    eventually("the machine is gone", || async { fake.live() == 0 }).await;
    let history = done(&rig, &key, "get_billing_transactions", json!({})).await;
    let kinds: Vec<_> = history["transactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["purpose"])
        .collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| *kind == "machine"),
        "{history}"
    );
}

#[tokio::test]
async fn nothing_is_rented_beyond_a_limit_or_without_one() {
    let (rig, fake) = rig(
        json!([{"scope": "tenant", "tenant": "acme", "window": "60m", "limit_usd": 0.01}]),
        json!({}),
    )
    .await;
    for (tenant, code) in [("acme", "SPENDING_LIMIT_EXCEEDED"), ("free", "NO_SPENDING_LIMIT")] {
        let key = rig.key(tenant, "ann", Role::User, &[]).await;
        let rent = json!({"provider": "vast.ai", "instance_id": cheapest(&rig, &key).await});
        let (failed, told) = call(&rig, &key, "create_gpu_instance", rent).await;
        assert_eq!((failed, told["code"].as_str()), (true, Some(code)), "{told}");
        if tenant == "acme" {
            let details = &told["details"];
            assert_eq!(
                (&details["window_minutes"], &details["limit_usd"]),
                (&json!(60), &json!(0.01)),
                "{told}"
            );
            assert!(
                details["held_usd"].is_number() && details["posted_usd"].is_number(),
                "{told}"
            );
        }
    }
    assert_eq!(fake.created(), 0);
}

#[tokio::test]
async fn where_approval_is_wanted_a_quote_is_agreed_to() {
    let (rig, fake) = rig(fifty(), json!({"approval": "always"})).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let offer = cheapest(&rig, &key).await;
    let rent = json!({"provider": "vast.ai", "instance_id": offer});
    let asked = done(&rig, &key, "create_gpu_instance", rent).await;
    assert_eq!(asked["outcome"], "needs_approval", "{asked}");
    assert_eq!(fake.created(), 0);
    let quote = asked["quote"]["id"].as_str().unwrap();
    let agreed = json!({"provider": "vast.ai", "instance_id": offer, "quote_id": quote});
    assert_eq!(
        done(&rig, &key, "create_gpu_instance", agreed).await["outcome"],
        "rented"
    );
    assert_eq!(fake.created(), 1);
}

/// Whatever is neither the caller's own machine nor a model route is refused, and nobody is asked.
#[tokio::test]
async fn the_proxy_refuses_each_of_a_corpus_of_forged_targets() {
    let (rig, fake) = rig(fifty(), json!({})).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let own = rig.gateway.url();
    let bound = own.trim_start_matches("http://").to_owned();
    let engine = rig.engine.url();
    let engine_calls = rig.engine.seen().len();
    let corpus = [
        "http://127.0.0.1/".to_owned(),
        "http://127.1:80/".to_owned(),
        "http://2130706433/".to_owned(),
        "http://0x7f000001/".to_owned(),
        "http://0177.0.0.1/".to_owned(),
        "http://[::1]/".to_owned(),
        "http://[::ffff:127.0.0.1]/".to_owned(),
        "http://[::ffff:7f00:1]/".to_owned(),
        "http://0.0.0.0/".to_owned(),
        "http://localhost:22/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/latest/meta-data/".to_owned(),
        "http://metadata.google.internal/computeMetadata/v1/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "http://192.168.1.1/".to_owned(),
        "http://100.64.0.1/".to_owned(),
        "https://example.com/".to_owned(),
        "https://example.com@127.0.0.1/".to_owned(),
        "http://127.0.0.1.nip.io/".to_owned(),
        "http://203.0.113.42:40017/".to_owned(),
        "//127.0.0.1/v1/chat/completions".to_owned(),
        "/\\127.0.0.1/v1/chat/completions".to_owned(),
        "/v1/../api/v1/keys".to_owned(),
        "/v1/%2e%2e/api/v1/keys".to_owned(),
        "/api/v1/keys".to_owned(),
        "/metrics".to_owned(),
        "/mcp".to_owned(),
        "/dist/forebay".to_owned(),
        format!("{own}/api/v1/keys"),
        format!("{own}/v1/chat/completions/../../../api/v1/keys"),
        format!("http://user:pass@{bound}/v1/chat/completions"),
        format!("https://{bound}/v1/chat/completions"),
        format!("http://{bound}@127.0.0.1:1/v1/chat/completions"),
        format!("{engine}/chat/completions"),
        fake.url(),
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1:6379/_FLUSHALL".to_owned(),
        "ftp://127.0.0.1/".to_owned(),
        "unix:///var/run/docker.sock".to_owned(),
        "data:text/plain,hi".to_owned(),
        "javascript:alert(1)".to_owned(),
        "http:///etc/passwd".to_owned(),
        "http://".to_owned(),
        "not a url".to_owned(),
        " ".to_owned(),
    ];
    for target in corpus {
        for method in ["GET", "POST"] {
            let wish = json!({"target_url": target, "method": method, "body": {"model": "stub"}});
            let (failed, told) = call(&rig, &key, "proxy_inference_request", wish).await;
            assert_eq!(
                (failed, told["code"].as_str()),
                (true, Some("ADDRESS_NOT_ALLOWED")),
                "{target}: {told}"
            );
        }
    }
    assert_eq!(rig.engine.seen().len(), engine_calls, "no engine was asked");
}

#[tokio::test]
async fn the_proxy_asks_models_of_the_gateway_as_everybody_asks_them() {
    let (rig, _fake) = rig(json!([]), json!({})).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let body = json!({"model": "stub", "messages": [{"role": "user", "content": "hi"}]});
    for target in [
        "/v1/chat/completions".to_owned(),
        format!("{}/v1/chat/completions", rig.gateway.url()),
    ] {
        let wish = json!({"target_url": target, "body": body, "headers": {"Authorization": "Bearer stolen"}});
        let told = done(&rig, &key, "proxy_inference_request", wish).await;
        assert_eq!(
            (&told["status"], &told["body"]["object"]),
            (&json!(200), &json!("chat.completion")),
            "{told}"
        );
    }
    let narrowed = rig
        .key("acme", "bob", Role::User, &["tool:*", "gpu:*", "!model:*"])
        .await;
    let wish = json!({"target_url": "/v1/chat/completions", "body": body});
    let (failed, told) = call(&rig, &narrowed, "proxy_inference_request", wish).await;
    assert!(failed, "what a key may not ask it may not ask this way: {told}");
}

#[tokio::test]
async fn resources_tell_what_is_for_rent_and_what_is_spent() {
    let (rig, _fake) = rig(fifty(), json!({})).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let read = |uri: &'static str| {
        let (rig, key) = (&rig, &key);
        async move {
            let answer = rig.rpc(key, "resources/read", json!({"uri": uri})).await;
            let text = answer["result"]["contents"][0]["text"]
                .as_str()
                .unwrap_or_else(|| panic!("{answer}"));
            serde_json::from_str::<Value>(text).unwrap()
        }
    };
    let spending = read("spending://current").await;
    assert_eq!(spending["windows"][0]["limit_usd"], 50.0);
    let instances = read("gpu://instances").await;
    assert!(
        !instances["instances"].as_array().unwrap().is_empty() && instances["mine"] == json!([]),
        "{instances}"
    );
    let viewer = rig.key("acme", "vera", Role::Viewer, &[]).await;
    let listed = rig.rpc(&viewer, "resources/list", json!({})).await.to_string();
    assert!(
        !listed.contains("gpu://") && !listed.contains("spending://"),
        "{listed}"
    );
    let refused = rig
        .rpc(&viewer, "resources/read", json!({"uri": "gpu://instances"}))
        .await;
    assert!(refused.get("error").is_some(), "{refused}");
}

#[tokio::test]
async fn over_rest_a_machine_is_quoted_rented_once_and_destroyed() {
    let (rig, fake) = rig(fifty(), json!({})).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let get = |path: String, key: String| {
        let rig = &rig;
        async move { rig.request("GET", &path, &key).send().await.unwrap() }
    };
    let offers: Value = get("/api/v1/gpu/offers?min_vram=24&limit=3".to_owned(), key.clone())
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(offers["offers"].as_array().unwrap().len(), 3, "{offers}");
    let offer = offers["offers"][0]["id"].as_str().unwrap();
    let quoted = rig
        .post("/api/v1/gpu/quotes", &key, &json!({"offer_id": offer, "hours": 2}))
        .await;
    assert_eq!(quoted.status(), 201);
    let quote: Value = quoted.json().await.unwrap();
    assert_eq!(
        (&quote["allowed"], &quote["hours"]),
        (&json!(true), &json!(2.0)),
        "{quote}"
    );
    let dry = rig
        .post(
            "/api/v1/gpu/instances",
            &key,
            &json!({"offer_id": offer, "dry_run": true}),
        )
        .await;
    assert_eq!(dry.status(), 200);
    assert_eq!(fake.created(), 0);

    let wish = json!({"quote_id": quote["id"]});
    let rent = || async {
        let request = rig
            .request("POST", "/api/v1/gpu/instances", &key)
            .header("idempotency-key", "k1");
        request.json(&wish).send().await.unwrap()
    };
    let (first, again) = (rent().await, rent().await);
    assert_eq!((first.status().as_u16(), again.status().as_u16()), (201, 201));
    let (first, again): (Value, Value) = (first.json().await.unwrap(), again.json().await.unwrap());
    assert_eq!(first["instance"]["id"], again["instance"]["id"]);
    assert_eq!(fake.created(), 1);
    let id = first["instance"]["id"].as_str().unwrap().to_owned();
    let olga = rig.key("other", "olga", Role::Operator, &[]).await;
    for path in [
        format!("/api/v1/gpu/instances/{id}"),
        format!("/api/v1/gpu/instances/{id}/logs"),
    ] {
        assert_eq!(
            get(path, olga.clone()).await.status(),
            404,
            "another tenant's machine does not exist"
        );
    }
    let all: Value = get("/api/v1/gpu/instances?all=true".to_owned(), olga)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(all["instances"], json!([]));
    let ended = rig
        .request("DELETE", &format!("/api/v1/gpu/instances/{id}"), &key)
        .send()
        .await
        .unwrap();
    assert_eq!(ended.status(), 200);
    eventually("the machine is gone", || async { fake.live() == 0 }).await;
}

#[tokio::test]
async fn over_plain_json_rpc_a_named_call_rents_once() {
    let (rig, fake) = rig(fifty(), json!({})).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let offers: Value = rig
        .request("GET", "/api/v1/gpu/offers?min_vram=24&limit=1", &key)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let offer = &offers["offers"][0]["id"];
    let quoted = rig.post("/api/v1/gpu/quotes", &key, &json!({"offer_id": offer})).await;
    let quote: Value = quoted.json().await.unwrap();
    let send = |method: &'static str, tool: &'static str| {
        let arguments = json!({"provider": "vast.ai", "instance_id": offer, "quote_id": quote["id"]});
        let params = json!({"name": tool, "arguments": arguments});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let request = rig.request("POST", "/api/v1/mcp", &key).header("idempotency-key", "k1");
        async move { request.json(&body).send().await.unwrap() }
    };
    let mut rented = Vec::new();
    for _ in 0..2 {
        let answer: Value = send("tools/call", "create_gpu_instance").await.json().await.unwrap();
        let content = &answer["result"]["structuredContent"];
        assert_eq!(content["outcome"], "rented", "{answer}");
        rented.push(content["instance"]["id"].clone());
    }
    assert_eq!((fake.created(), &rented[0]), (1, &rented[1]));
    for (method, tool) in [("tools/call", "list_my_gpu_instances"), ("tools/list", "")] {
        assert_eq!(
            send(method, tool).await.status(),
            400,
            "{method} {tool}: nobody would heed it"
        );
    }
}

#[tokio::test]
async fn only_a_machine_gets_the_binary() {
    let (rig, _fake) = rig(fifty(), json!({})).await;
    for token in ["", "fbi_00", &rig.admin] {
        let request = rig
            .request("GET", "/dist/forebay", "")
            .header("authorization", format!("Bearer {token}"));
        assert_eq!(request.send().await.unwrap().status(), 401, "{token}");
        let request = rig
            .request("POST", "/api/v1/gpu/agent", "")
            .header("authorization", format!("Bearer {token}"));
        let report = request.json(&json!({"version": "1"})).send().await.unwrap();
        assert_eq!(report.status(), 401, "{token}");
    }
}
