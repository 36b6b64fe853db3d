//! Every piece of news of which somebody is told, from the news to the webhook, the event and the count.

use super::{Alerts, AlertsParts, Kind, Metrics};
use axum::{Router, extract::State, routing::post};
use forebay_compute::rental::{Paying, Rental, RentalNews};
use forebay_domain::{
    ledger::{Ask, Enforcement, Overrun, Payer, Purpose, PurposeKind, Purse, Reason, Scope, Standing, Window},
    market::Provider,
    money::{Usd, UsdRate},
};
use forebay_runtime::{Clock, Entropy, Tasks, http::trusted, secret::SecretReader};
use forebay_store::{
    Store, StoreParts,
    events::EventQuery,
    ledger::{Lapse, LedgerNews},
    rentals::{Desired, RentalState},
    responses::{OwnerKind, ResponseOwner},
};
use forebay_testkit::db::TestDb;
use jiff::Timestamp;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{broadcast, mpsc};

const AT: &str = "2026-11-20T00:00:00Z";
const PATIENCE: Duration = Duration::from_secs(20);

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn rental(desired: Desired) -> Arc<Rental> {
    let at: Timestamp = AT.parse().unwrap();
    Arc::new(Rental {
        id: "01machine".to_owned(),
        label: "fb:acme:01machine".to_owned(),
        owner: ResponseOwner {
            tenant: "acme".parse().unwrap(),
            project: None,
            kind: OwnerKind::Key,
            subject: "ann".parse().unwrap(),
        },
        offer: "vast.ai:4711".parse().unwrap(),
        machine: Some("99".to_owned()),
        state: RentalState::Up,
        desired,
        machine_state: None,
        status: None,
        seen_at: None,
        gpu: "RTX 4090".to_owned(),
        gpus: 1,
        vram_gb: 24,
        country: None,
        image: "cuda".to_owned(),
        disk_gb: 20,
        rate: UsdRate::per_hour(usd("0.40")),
        burn: UsdRate::per_hour(usd("0.40")),
        paying: Paying::Accrues,
        spent: Usd::ZERO,
        created_at: at,
        since: Some(at),
        ends_by: at,
        idle: None,
        ended_at: None,
        why: None,
        fault: None,
        endpoints: BTreeMap::new(),
        bare: true,
        reported_at: None,
    })
}

fn overrun() -> Overrun {
    let purse = Purse {
        tenant: "acme".parse().unwrap(),
        scope: Scope::Tenant,
        id: "acme".to_owned(),
    };
    Overrun {
        standing: Standing {
            purse,
            window: Window::new(60, usd("5"), Enforcement::Hard).unwrap(),
            posted: usd("4"),
            held: usd("0.90"),
            burn: UsdRate::ZERO,
        },
        ask: Ask {
            amount: usd("0.40"),
            rate: UsdRate::ZERO,
        },
        reason: Reason::Amount,
    }
}

fn of_machines() -> Vec<(RentalNews, Kind, &'static str)> {
    let at: Timestamp = AT.parse().unwrap();
    let near = |desired| RentalNews::NearLimit {
        rental: rental(desired),
        overrun: Box::new(overrun()),
        left: Some(Duration::from_mins(40)),
    };
    vec![
        (
            RentalNews::AmbiguousCreate(rental(Desired::Up)),
            Kind::AmbiguousCreate,
            "nobody knows whether it was made",
        ),
        (
            RentalNews::DestroyFailing {
                rental: rental(Desired::Gone),
                failures: 3,
                since: at,
            },
            Kind::DestroyFailing,
            "3 attempts failed since 2026-11-20T00:00:00Z",
        ),
        (
            RentalNews::PriceRise {
                rental: rental(Desired::Up),
                to: UsdRate::per_hour(usd("0.50")),
                at: Some(at),
            },
            Kind::PriceRise,
            "wants $0.50 an hour for it from 2026-11-20T00:00:00Z on, not $0.40; nothing was accepted",
        ),
        (
            near(Desired::Up),
            Kind::BreachAhead,
            "it goes on, and a limit would be met within 40 minutes",
        ),
        (
            RentalNews::Blind {
                provider: Provider::Vast,
                since: at,
                fault: "the key is wrong".to_owned(),
            },
            Kind::BlindProvider,
            "vast.ai has not shown what machines there are",
        ),
        (
            RentalNews::Orphan {
                provider: Provider::Vast,
                machine: "98".to_owned(),
                label: "fb:acme:01other".to_owned(),
            },
            Kind::Orphan,
            "machine 98 of vast.ai bears a label of ours",
        ),
    ]
}

fn of_money() -> Vec<(LedgerNews, Kind, &'static str)> {
    let lapse = Lapse {
        hold: "hold-1".parse().unwrap(),
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
        posted: usd("0.25"),
    };
    vec![
        (LedgerNews::SoftLimit(Box::new(overrun())), Kind::SoftLimit, "$5"),
        (LedgerNews::Refused(Box::new(overrun())), Kind::Refused, "$5"),
        (
            LedgerNews::Lapsed(Box::new(lapse)),
            Kind::Lapsed,
            "$0.25 that were held for it count as spent",
        ),
    ]
}

/// A webhook, and what comes to it.
async fn receiver() -> (String, mpsc::UnboundedReceiver<Value>) {
    let (tell, hears) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let take = async |State(heard): State<mpsc::UnboundedSender<Value>>, body: String| {
        heard.send(serde_json::from_str(&body).unwrap()).unwrap();
    };
    let router = Router::new().route("/hook", post(take)).with_state(tell);
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, hears)
}

struct Telling {
    alerts: Alerts,
    registry: Registry,
    tasks: Tasks,
}

async fn opened(db: &TestDb, clock: Clock, tasks: &Tasks) -> Store {
    let parts = StoreParts {
        clock,
        entropy: Entropy::system(),
        tasks: tasks.clone(),
    };
    Store::open(db.url(), parts).await.unwrap()
}

async fn telling(db: &TestDb, url: &str) -> Telling {
    let (clock, tasks) = (Clock::manual(AT.parse().unwrap()), Tasks::new());
    let store = opened(db, clock.clone(), &tasks).await;
    let mut registry = Registry::default();
    let parts = AlertsParts {
        store,
        clock,
        entropy: Entropy::system(),
        tasks: tasks.clone(),
        // Of 32 bytes.
        secrets: SecretReader::new(|_| Some("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned())),
        http: trusted(),
        metrics: Metrics::register(&mut registry),
    };
    let config = json!({"webhooks": {"ops": {"url": url, "secret": {"env": "SECRET"}}}});
    let alerts = Alerts::start(&serde_json::from_value(config).unwrap(), parts).unwrap();
    Telling {
        alerts,
        registry,
        tasks,
    }
}

#[tokio::test]
async fn each_kind_of_news_comes_to_a_webhook_an_event_and_a_count() {
    let (db, (url, mut hears)) = (TestDb::sqlite(), receiver().await);
    let telling = telling(&db, &url).await;
    let (machines, money) = (broadcast::Sender::new(64), broadcast::Sender::new(64));
    telling.alerts.feed_machines(&telling.tasks, machines.subscribe());
    telling.alerts.feed(&telling.tasks, money.subscribe());
    let mut expected = Vec::new();
    for (news, kind, words) in of_machines() {
        machines.send(news).unwrap();
        expected.push((kind.as_str(), words));
    }
    for (news, kind, words) in of_money() {
        money.send(news).unwrap();
        expected.push((kind.as_str(), words));
    }
    // A beginning and an end as they were asked for are no alerts.
    for news in [RentalNews::Found, RentalNews::Ending, RentalNews::Ended] {
        machines.send(news(rental(Desired::Up))).unwrap();
    }
    let mut told = BTreeMap::new();
    for _ in &expected {
        let body = tokio::time::timeout(PATIENCE, hears.recv()).await.unwrap().unwrap();
        told.insert(body["type"].as_str().unwrap().to_owned(), body);
    }
    let all: BTreeSet<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
    assert!(
        told.keys().eq(all.iter()),
        "each kind that there is was told: {:?}",
        told.keys()
    );
    telling.tasks.shut_down(PATIENCE).await;
    let mut metrics = String::new();
    encode(&mut metrics, &telling.registry).unwrap();
    for (kind, words) in expected {
        let body = &told[kind];
        let message = body["data"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{kind}: {message}");
        assert_eq!(body["timestamp"], AT, "{kind}");
        let is_of_nobody = ["market.blind", "rental.orphan"].contains(&kind);
        assert_eq!(
            body["data"].get("tenant") == Some(&json!("acme")),
            !is_of_nobody,
            "{kind}"
        );
        let line = format!("forebay_alerts_told_total{{kind=\"{kind}\"}} 1\n");
        assert!(metrics.contains(&line), "{kind}: {metrics}");
    }
    assert!(
        metrics.contains("forebay_alert_deliveries_total{outcome=\"delivered\"}"),
        "{metrics}"
    );
    // What was there is written by now, and its store closed.
    let again = opened(&db, Clock::system(), &Tasks::new()).await;
    let page = again.events().read(&EventQuery::default()).await.unwrap();
    let mut actions: Vec<_> = page.events.iter().map(|stored| stored.event.action.clone()).collect();
    actions.sort();
    let mut kinds = Kind::ALL.map(|kind| format!("alert:{}", kind.as_str()));
    kinds.sort();
    assert_eq!(actions, kinds);
}

#[test]
fn a_machine_that_goes_on_is_not_said_to_end() {
    let words = |desired| super::machines::near_limit(&rental(desired), &overrun(), None);
    assert!(words(Desired::Gone).starts_with("it is being destroyed, before a limit is met: "));
    assert!(words(Desired::Up).starts_with("it goes on, and a limit would be met; unless there is room"));
}
