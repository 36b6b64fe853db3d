//! Spending, limits and their history over REST: who sees what, who sets what, and what it means.

use crate::rig::{Rig, eventually};
use forebay_domain::{
    Role,
    id::TraceId,
    ledger::{Ask, Payer, Purpose, PurposeKind},
    money::{Usd, UsdRate},
};
use forebay_server::{AppConfig, config::BudgetsConfig};
use forebay_store::ledger::{Hold, HoldError, HoldRequest, Posting, Settlement};
use reqwest::Response;
use serde_json::{Map, Value, json};

async fn with_budgets(budgets: Value) -> Rig {
    let budgets: BudgetsConfig = serde_json::from_value(budgets).unwrap();
    Rig::with(|config| config.budgets = budgets).await
}

fn payer(tenant: &str, key: &str, subject: &str) -> Payer {
    Payer {
        tenant: tenant.parse().unwrap(),
        project: None,
        key: Some(key.split('_').nth(1).unwrap().parse().unwrap()),
        session: None,
        subject: Some(subject.parse().unwrap()),
    }
}

async fn hold(rig: &Rig, payer: Payer, usd: &str) -> Result<Hold, HoldError> {
    let app = &rig.gateway.app;
    let request = HoldRequest {
        payer,
        purpose: Purpose {
            kind: PurposeKind::Model,
            name: "qwen".to_owned(),
        },
        ask: Ask {
            amount: usd.parse().unwrap(),
            rate: UsdRate::ZERO,
        },
        trace: TraceId::new(app.clock.now(), app.entropy.bytes()),
        idempotency_key: None,
        lapses_at: app.clock.now() + jiff::SignedDuration::from_hours(1),
        needs_limit: false,
    };
    app.store.ledger().hold(request).await
}

async fn spend(rig: &Rig, payer: Payer, usd: &str) {
    let held = hold(rig, payer, usd).await.unwrap();
    let settlement = Settlement {
        actual: usd.parse().unwrap(),
        estimated: false,
    };
    rig.gateway
        .app
        .store
        .ledger()
        .settle(&held.id, settlement)
        .await
        .unwrap();
}

async fn read(rig: &Rig, path: &str, key: &str) -> Value {
    let response = rig.request("GET", path, key).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

async fn put(rig: &Rig, key: &str, body: &Value) -> Response {
    rig.request("PUT", "/api/v1/budgets", key)
        .json(body)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn spending_is_told_as_the_windows_stand() {
    let rig = with_budgets(json!([
        {"scope": "tenant", "window": "60m", "limit_usd": 50},
        {"scope": "tenant", "window": "1440m", "limit_usd": 1000},
        {"scope": "key", "window": "24h", "limit_usd": 5, "enforcement": "soft"},
    ]))
    .await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    spend(&rig, payer("acme", &key, "ann"), "45").await;
    hold(&rig, payer("acme", &key, "ann"), "0.25").await.unwrap();
    let told = read(&rig, "/api/v1/spending", &key).await;
    let windows = told["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 3, "{told}");
    let hour = windows.iter().find(|window| window["window_minutes"] == 60).unwrap();
    assert_eq!(
        *hour,
        json!({"scope": "tenant", "id": "acme", "window_minutes": 60, "limit_usd": 50.0, "spent_usd": 45.0,
            "held_usd": 0.25, "remaining_usd": 4.75, "enforcement": "hard", "status": "warning"})
    );
    let own = windows.iter().find(|window| window["scope"] == "key").unwrap();
    assert_eq!(
        (&own["status"], &own["remaining_usd"]),
        (&json!("exceeded"), &json!(0.0))
    );
    assert_eq!(told["burn_usd_per_hour"], 0.0);

    let can = read(&rig, "/api/v1/spending?estimated_cost=3.0", &key).await;
    assert_eq!(
        (&can["check"]["allowed"], &can["check"]["estimated_cost"]),
        (&json!(true), &json!(3.0))
    );
    assert_eq!(can["check"]["warnings"].as_array().unwrap().len(), 1, "{can}");
    let cannot = read(&rig, "/api/v1/spending?estimated_cost=4.750001", &key).await;
    assert_eq!(cannot["check"]["allowed"], false);
    assert!(
        cannot["check"]["reason"]
            .as_str()
            .unwrap()
            .contains("$50.00 in 60 minutes"),
        "{cannot}"
    );
    assert!(
        hold(&rig, payer("acme", &key, "ann"), "4.750001").await.is_err(),
        "the advice was right"
    );
    for wrong in ["-1", "NaN", "much"] {
        let path = format!("/api/v1/spending?estimated_cost={wrong}");
        assert_eq!(
            rig.request("GET", &path, &key).send().await.unwrap().status(),
            400,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn no_tenant_sees_the_money_of_another() {
    let rig = with_budgets(json!([{"scope": "tenant", "window": "60m", "limit_usd": 50}])).await;
    let ann = rig.key("acme", "ann", Role::User, &[]).await;
    let otto = rig.key("acme", "otto", Role::Operator, &[]).await;
    let olga = rig.key("other", "olga", Role::Operator, &[]).await;
    spend(&rig, payer("acme", &ann, "ann"), "10").await;
    let spent = |told: Value| told["windows"][0]["spent_usd"].as_f64().unwrap();
    assert!((spent(read(&rig, "/api/v1/spending", &otto).await) - 10.0).abs() < 1e-9);
    assert!(spent(read(&rig, "/api/v1/spending", &olga).await).abs() < 1e-9);
    assert!((spent(read(&rig, "/api/v1/spending?tenant=acme", &rig.admin).await) - 10.0).abs() < 1e-9);
    for (path, key) in [
        ("/api/v1/spending?tenant=acme", &olga),
        ("/api/v1/spending?tenant=other", &ann),
        ("/api/v1/spending?project=search", &ann),
        ("/api/v1/billing/transactions?tenant=acme", &olga),
        ("/api/v1/billing/transactions?subject=otto", &ann),
        ("/api/v1/budgets?tenant=acme", &olga),
    ] {
        assert_eq!(
            rig.request("GET", path, key).send().await.unwrap().status(),
            403,
            "{path}"
        );
    }
    let none = read(&rig, "/api/v1/billing/transactions", &olga).await;
    assert_eq!(none["transactions"], json!([]));
    let foreign = json!({"scope": "tenant", "tenant": "acme", "window": "60m", "limit_usd": 1});
    assert_eq!(put(&rig, &olga, &foreign).await.status(), 403);
    let gone = "/api/v1/budgets?scope=tenant&tenant=acme&window=60m";
    assert_eq!(rig.request("DELETE", gone, &olga).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn limits_are_listed_in_pages() {
    let rig = with_budgets(json!([{"scope": "tenant", "window": "24h", "limit_usd": 1000}])).await;
    let otto = rig.key("acme", "otto", Role::Operator, &[]).await;
    for (scope, id) in [
        ("tenant", None),
        ("project", Some("search")),
        ("key", None),
        ("session", Some("s-1")),
    ] {
        for window in ["60m", "120m"] {
            let mut wanted = json!({"scope": scope, "window": window, "limit_usd": 1});
            if let Some(id) = id {
                wanted["id"] = id.into();
            }
            assert_eq!(put(&rig, &otto, &wanted).await.status(), 200, "{wanted}");
        }
    }
    let all = read(&rig, "/api/v1/budgets", &otto).await;
    assert!(all.get("next").is_none(), "{all}");
    let (mut met, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = read(&rig, &format!("/api/v1/budgets?limit=3{after}"), &otto).await;
        met.extend(page["budgets"].as_array().unwrap().clone());
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={}", next.replace(' ', "%20"));
    }
    assert_eq!((pages, Value::from(met)), (3, all["budgets"].clone()));
    for wrong in ["x", "acme%20tenant%20%20soon", "a%20b%20c%20d%20e"] {
        let refused = rig.request("GET", &format!("/api/v1/budgets?after={wrong}"), &otto);
        assert_eq!(refused.send().await.unwrap().status(), 400, "{wrong}");
    }
}

/// Every tool that a gateway has of itself may have a price without a warning; what it has not, and cannot have, may not.
#[tokio::test]
async fn prices_that_name_no_tool_are_warned_of() {
    let rig = Rig::start().await;
    let listed = rig.rpc(&rig.admin, "tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().unwrap();
    let own: Map<String, Value> = tools
        .iter()
        .map(|tool| (tool["name"].as_str().unwrap().to_owned(), json!(1)))
        .collect();
    assert!(own.len() > 10, "{listed}");
    let advice = |tools: Value| {
        let config = AppConfig {
            prices: serde_json::from_value(json!({ "tools": tools })).unwrap(),
            upstreams: serde_json::from_value(json!({"docs": {"url": "https://docs.example.com/mcp"}})).unwrap(),
            ..AppConfig::default()
        };
        config.advice()
    };
    assert_eq!(advice(own.into()), [] as [String; 0]);
    assert_eq!(
        advice(json!({"docs__search": 1, "file_reader": 1, "web_search": 1})),
        [] as [String; 0]
    );
    let warned = advice(json!({"web_lookup": 1, "doc__search": 1}));
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(
        warned[0].contains("`doc`") && warned[1].contains("`prices.tools.web_lookup`"),
        "{warned:?}"
    );
}

#[tokio::test]
async fn a_limit_is_set_counts_at_once_and_is_taken_away() {
    let rig = with_budgets(json!([{"scope": "tenant", "window": "24h", "limit_usd": 1000}])).await;
    let (ann, otto) = (
        rig.key("acme", "ann", Role::User, &[]).await,
        rig.key("acme", "otto", Role::Operator, &[]).await,
    );
    let wanted = json!({"scope": "tenant", "window": "60m", "limit_usd": 2.5});
    assert_eq!(put(&rig, &ann, &wanted).await.status(), 403, "users read their limits");
    let set = put(&rig, &otto, &wanted).await;
    assert_eq!(set.status(), 200);
    let set: Value = set.json().await.unwrap();
    assert_eq!(
        set,
        json!({"scope": "tenant", "tenant": "acme", "window_minutes": 60, "limit_usd": 2.5, "enforcement": "hard",
            "origin": "api"})
    );
    assert!(hold(&rig, payer("acme", &ann, "ann"), "2.500001").await.is_err());
    spend(&rig, payer("acme", &ann, "ann"), "2").await;
    put(&rig, &otto, &json!({"scope": "tenant", "window": "1h", "limit_usd": 3})).await;
    assert!(
        hold(&rig, payer("acme", &ann, "ann"), "1.01").await.is_err(),
        "what is spent stays spent"
    );
    let listed = read(&rig, "/api/v1/budgets", &ann).await;
    let listed = listed["budgets"].as_array().unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|one| (one["origin"].as_str().unwrap(), &one["limit_usd"]))
        .collect();
    assert_eq!(shown, [("config", &json!(1000.0)), ("api", &json!(3.0))]);

    let gone = |window: &str| {
        rig.request(
            "DELETE",
            &format!("/api/v1/budgets?scope=tenant&window={window}"),
            &otto,
        )
    };
    let configured = gone("24h").send().await.unwrap();
    assert_eq!(configured.status(), 404, "what the file says is changed there");
    assert_eq!(gone("60m").send().await.unwrap().status(), 200);
    assert_eq!(gone("60m").send().await.unwrap().status(), 404);
    assert!(hold(&rig, payer("acme", &ann, "ann"), "100").await.is_ok());
    for (body, field) in [
        (json!({"scope": "tenant", "window": "0m", "limit_usd": 1}), "window"),
        (json!({"scope": "tenant", "window": "soon", "limit_usd": 1}), "window"),
        (
            json!({"scope": "tenant", "window": "60m", "limit_usd": -1}),
            "limit_usd",
        ),
        (
            json!({"scope": "key", "id": "a b", "window": "60m", "limit_usd": 1}),
            "id",
        ),
    ] {
        let refused = put(&rig, &otto, &body).await;
        assert_eq!(refused.status(), 400, "{body}");
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["details"]["field"], field, "{problem}");
    }
    let audit: Value = rig.get("/api/v1/audit?limit=1000").await.json().await.unwrap();
    let writes = audit["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["action"] == "budgets:write");
    assert!(writes.count() >= 5, "each change is announced before it is made");
}

#[tokio::test]
async fn limits_of_the_file_follow_it() {
    let rig = Rig::start().await;
    let ann = rig.key("acme", "ann", Role::User, &[]).await;
    assert_eq!(read(&rig, "/api/v1/spending", &ann).await["windows"], json!([]));
    let mut config = forebay_server::AppConfig {
        budgets: serde_json::from_value(json!([{"scope": "tenant", "window": "60m", "limit_usd": 1}])).unwrap(),
        ..forebay_server::AppConfig::default()
    };
    rig.gateway.app.reconfigure(&config).await.unwrap();
    assert!(hold(&rig, payer("acme", &ann, "ann"), "1.01").await.is_err());
    config.budgets =
        serde_json::from_value(json!([{"scope": "key", "id": "k", "window": "60m", "limit_usd": 1}])).unwrap();
    assert!(
        rig.gateway.app.reconfigure(&config).await.is_err(),
        "whose key it is is not said"
    );
    assert!(
        hold(&rig, payer("acme", &ann, "ann"), "1.01").await.is_err(),
        "the one before stays"
    );
    config.budgets = BudgetsConfig::default();
    rig.gateway.app.reconfigure(&config).await.unwrap();
    assert!(hold(&rig, payer("acme", &ann, "ann"), "1.01").await.is_ok());
}

#[tokio::test]
async fn the_history_is_the_readers_own_in_pages_and_as_csv() {
    let rig = Rig::start().await;
    let ann = rig.key("acme", "ann", Role::User, &[]).await;
    let bob = rig.key("acme", "bob", Role::User, &[]).await;
    let otto = rig.key("acme", "otto", Role::Operator, &[]).await;
    spend(&rig, payer("acme", &ann, "ann"), "1.25").await;
    let app = &rig.gateway.app;
    app.store.ledger().post_soon(Posting {
        payer: payer("acme", &bob, "bob"),
        purpose: Purpose {
            kind: PurposeKind::Tool,
            name: "=cmd|'/c calc'!A1".to_owned(),
        },
        amount: Usd::from_micros(5_000),
        trace: TraceId::new(app.clock.now(), app.entropy.bytes()),
        estimated: true,
    });
    let of = |key: String, query: &'static str| {
        let rig = &rig;
        async move { read(rig, &format!("/api/v1/billing/transactions{query}"), &key).await }
    };
    eventually("what bob posted is in the ledger", || async {
        of(bob.clone(), "").await["transactions"].as_array().unwrap().len() == 1
    })
    .await;
    let own = of(ann.clone(), "").await;
    let kinds: Vec<_> = own["transactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(kinds, ["settle", "hold"], "the newest first");
    let settled = &own["transactions"][0];
    assert_eq!(
        (&settled["amount_usd"], &settled["held_usd"]),
        (&json!(1.25), &json!(-1.25))
    );
    assert_eq!(
        (&settled["subject"], &settled["name"], &settled["purpose"]),
        (&json!("ann"), &json!("qwen"), &json!("model"))
    );
    assert_eq!(
        of(ann.clone(), "?posted=true").await["transactions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        of(otto.clone(), "").await["transactions"].as_array().unwrap().len(),
        3,
        "operators see their tenant"
    );
    assert_eq!(
        of(otto.clone(), "?purpose=tool").await["transactions"][0]["estimated"],
        true
    );

    let first = of(otto.clone(), "?limit=2").await;
    let next = first["next"].as_str().unwrap();
    let path = format!("/api/v1/billing/transactions?limit=2&before={next}");
    let second = read(&rig, &path, &otto).await;
    assert_eq!(
        (second["transactions"].as_array().unwrap().len(), second.get("next")),
        (1, None)
    );
    for wrong in ["?before=x", "?purpose=rent", "?format=xml", "?kind=hold"] {
        let path = format!("/api/v1/billing/transactions{wrong}");
        assert_eq!(
            rig.request("GET", &path, &otto).send().await.unwrap().status(),
            400,
            "{wrong}"
        );
    }

    for request in [
        rig.request("GET", "/api/v1/billing/transactions?format=csv", &bob),
        rig.request("GET", "/api/v1/billing/transactions", &bob)
            .header("accept", "text/csv"),
    ] {
        let csv = request.send().await.unwrap();
        assert_eq!(csv.headers()["content-type"], "text/csv; charset=utf-8");
        let text = csv.text().await.unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("id,at,kind,purpose,name,amount_usd"), "{text}");
        assert!(
            lines[1].contains(",post,tool,'=cmd|'/c calc'!A1,0.005,0.00,acme,"),
            "{text}"
        );
        assert_eq!(lines.len(), 3, "one line a movement: {text}");
    }
}
