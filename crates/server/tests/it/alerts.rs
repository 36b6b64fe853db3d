//! Alerts: what a limit refuses is told to those who listen, once, signed, and again where they did not hear.

use crate::rig::{Rig, eventually};
use aws_lc_rs::hmac;
use axum::{Router, extract::State, routing::post};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use forebay_domain::{
    Role,
    id::TraceId,
    ledger::{Ask, Payer, Purpose, PurposeKind},
    money::UsdRate,
};
use forebay_store::ledger::HoldRequest;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

/// Where alerts go: keeps what comes, and answers the first ones with an error.
#[derive(Clone)]
struct Receiver {
    heard: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    failing: Arc<Mutex<u32>>,
    url: String,
}

impl Receiver {
    async fn start(failing: u32) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            heard: Arc::default(),
            failing: Arc::new(Mutex::new(failing)),
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
        };
        let router = Router::new().route("/hook", post(take)).with_state(receiver.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    fn heard(&self) -> Vec<(HeaderMap, Bytes)> {
        self.heard.lock().unwrap().clone()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.heard.lock().unwrap().push((headers, body));
    let mut failing = receiver.failing.lock().unwrap();
    if *failing == 0 {
        return StatusCode::NO_CONTENT;
    }
    *failing -= 1;
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn rig(receivers: Value) -> Rig {
    Rig::with(|config| {
        config.budgets = serde_json::from_value(json!([
            {"scope": "tenant", "window": "60m", "limit_usd": 1},
            {"scope": "tenant", "window": "30m", "limit_usd": 0.5, "enforcement": "soft"},
        ]))
        .unwrap();
        config.alerts = serde_json::from_value(json!({"webhooks": receivers})).unwrap();
    })
    .await
}

fn hook(receiver: &Receiver) -> Value {
    json!({"url": receiver.url, "secret": {"env": "WEBHOOK_SECRET"}})
}

async fn ask(rig: &Rig, usd: &str) -> bool {
    let app = &rig.gateway.app;
    let request = HoldRequest {
        payer: Payer {
            tenant: "acme".parse().unwrap(),
            project: None,
            key: None,
            session: None,
            subject: None,
        },
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
    app.store.ledger().hold(request).await.is_ok()
}

#[tokio::test]
async fn a_refusal_is_told_once_and_signed() {
    let (receiver, other) = (Receiver::start(0).await, Receiver::start(0).await);
    let mut choosy = hook(&other);
    choosy["events"] = json!(["spending.soft_limit"]);
    let rig = rig(json!({"ops": hook(&receiver), "choosy": choosy})).await;
    for _ in 0..5 {
        assert!(!ask(&rig, "1.01").await);
    }
    eventually("the refusal is heard", || async { !receiver.heard().is_empty() }).await;
    let (headers, body) = receiver.heard().remove(0);
    let of = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, at) = (of("webhook-id"), of("webhook-timestamp"));
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", &body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), &signed);
    assert_eq!(of("webhook-signature"), format!("v1,{}", BASE64_STANDARD.encode(tag)));
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&told["type"], &told["data"]["tenant"]),
        (&json!("spending.refused"), &json!("acme"))
    );
    assert_eq!(
        (&told["data"]["limit_usd"], &told["data"]["requested_usd"]),
        (&json!(1.0), &json!(1.01))
    );
    assert!(told["timestamp"].as_str().is_some(), "{told}");

    assert!(ask(&rig, "0.75").await, "a soft limit lets it pass");
    eventually("the soft limit is heard", || async {
        other.heard().len() == 1 && receiver.heard().len() == 2
    })
    .await;
    let told: Value = serde_json::from_slice(&other.heard()[0].1).unwrap();
    assert_eq!(told["type"], "spending.soft_limit", "the other one wanted nothing else");
    let metrics = rig.get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains("forebay_alerts_raised_total{kind=\"spending.refused\"} 5"),
        "{metrics}"
    );
    assert!(metrics.contains("forebay_alerts_told_total{kind=\"spending.refused\"} 1"));

    let otto = rig.key("acme", "otto", Role::Operator, &[]).await;
    let olga = rig.key("other", "olga", Role::Operator, &[]).await;
    let events = |key: String| {
        let rig = &rig;
        async move {
            let read = rig
                .request("GET", "/api/v1/events?limit=1000", &key)
                .send()
                .await
                .unwrap();
            read.text().await.unwrap()
        }
    };
    eventually("it is in the tenant's events", || async {
        events(otto.clone()).await.contains("alert:spending.refused")
    })
    .await;
    assert!(!events(olga).await.contains("alert:"), "and in nobody else's");
}

#[tokio::test]
async fn what_a_webhook_did_not_take_comes_again_with_the_same_id() {
    let receiver = Receiver::start(1).await;
    let rig = rig(json!({"ops": hook(&receiver)})).await;
    assert!(!ask(&rig, "1.01").await);
    eventually("it is told twice", || async { receiver.heard().len() == 2 }).await;
    let heard = receiver.heard();
    let id = |index: usize| heard[index].0["webhook-id"].clone();
    assert_eq!(id(0), id(1));
    assert_eq!(heard[0].1, heard[1].1);
}
