//! RunPod, as unkind as it can be, and what its market concludes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a part that does not work shall fail its test at once"
)]

mod garbage;
mod offers;

use forebay_compute::market::{
    ChargeQuery, Created, Destroyed, Machine, MachineState, Market, MarketFault, Order, Wanted,
    runpod::{RunPod, RunPodConfig},
};
use forebay_domain::{
    market::{Billing, Offer},
    money::{Usd, UsdRate},
};
use forebay_runtime::{Secret, http::trusted};
use forebay_testkit::markets::{
    Answer, Fake, Fault, Vendor, faults,
    runpod::{self as fake, Scope, Status},
};
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
const OFFER: &str = "NVIDIA%20GeForce%20RTX%204090:COMMUNITY:1";

/// A market that knows nothing yet of what it was told before.
fn market_at(url: &str) -> RunPod {
    let config = json!({ "api_key": { "env": "KEY" }, "url": format!("{url}/v2") });
    let config: RunPodConfig = serde_json::from_value(config).unwrap();
    RunPod::new(&config, Secret::new(fake::KEY.to_owned()), trusted())
}

fn market(fake: &Fake<fake::RunPod>) -> RunPod {
    market_at(&fake.url())
}

async fn kind() -> (Fake<fake::RunPod>, RunPod) {
    let fake = Fake::start(fake::RunPod::default()).await;
    let market = market(&fake);
    (fake, market)
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn order(number: u32) -> Order {
    Order {
        offer: OFFER.to_owned(),
        label: format!("fb:acme:01jd3zk7xw5q{number}"),
        image: "vllm/vllm-openai:v0.11.0".to_owned(),
        disk_gb: 72,
        env: [("MODEL".to_owned(), "qwen".to_owned())].into(),
        secrets: [("FOREBAY_TOKEN".to_owned(), "very secret".to_owned())].into(),
        ports: vec![8_000, 9_000],
        on_start: Some("echo \"it's on\"\n".to_owned()),
        hours: 1,
    }
}

fn wanted() -> Wanted {
    Wanted {
        disk_gb: 72,
        limit: 100,
        ..Wanted::default()
    }
}

/// One that runs.
async fn rented(fake: &Fake<fake::RunPod>, market: &RunPod) -> String {
    let Created::Confirmed { id } = market.create(&order(0)).await else {
        panic!("it is not made");
    };
    fake.advance(MINUTE);
    id
}

fn named(name: &str) -> Fault {
    let vendor = fake::RunPod::default();
    faults::by_name(name, vendor.named_faults()).unwrap()
}

fn ids(offers: &[Offer]) -> Vec<&str> {
    offers.iter().map(|offer| offer.id.id()).collect()
}

#[tokio::test]
async fn what_is_ordered_arrives() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let asked = fake.seen_at("create");
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].header("authorization"),
        Some(format!("Bearer {}", fake::KEY).as_str())
    );
    assert_eq!(
        asked[0].json(),
        json!({
            "name": "fb-acme-01jd3zk7xxw5q0", "image": "vllm/vllm-openai:v0.11.0",
            "gpu": { "id": "NVIDIA GeForce RTX 4090", "count": 1 }, "cloud": "COMMUNITY", "disk": 72,
            "env": { "MODEL": "qwen", "FOREBAY_TOKEN": "very secret", "FOREBAY_ON_START": "echo \"it's on\"\n" },
            "ports": ["8000/http", "9000/http"], "args": "sh -c 'eval \"$FOREBAY_ON_START\"'",
        })
    );
    let machine = market.machine(&id).await.unwrap().unwrap();
    assert_eq!(
        (machine.state, machine.label.as_str()),
        (MachineState::Running, "fb:acme:01jd3zk7xw5q0")
    );
    let at = |port| (port, format!("https://{id}-{port}.proxy.runpod.net"));
    assert_eq!(machine.endpoints, [at(8_000), at(9_000)].into());
    assert_eq!(
        machine.rate,
        Some(UsdRate::per_hour(usd("0.35"))),
        "as it was offered, with the disk"
    );
    assert!(!format!("{machine:?}").contains("very secret"));
    assert_eq!(market.machines().await.unwrap(), [machine]);
}

#[tokio::test]
async fn a_pod_walks_through_its_states() {
    let (fake, market) = kind().await;
    let Created::Confirmed { id } = market.create(&order(0)).await else {
        panic!("it is not made");
    };
    let machine = async || market.machine(&id).await.unwrap().unwrap();
    let first = machine().await;
    assert_eq!((first.state, first.endpoints.len()), (MachineState::Starting, 0));
    fake.advance(Duration::from_secs(15));
    assert_eq!(machine().await.state, MachineState::Starting);
    fake.advance(MINUTE);
    assert_eq!(machine().await.state, MachineState::Running);
    fake.with(|vendor| vendor.pods[0].status = Status::Exited);
    let exited = machine().await;
    assert_eq!(exited.state, MachineState::Exited);
    assert_eq!(exited.rate, Some(UsdRate::per_hour(usd("0.01"))), "its disk costs on");
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
    assert_eq!(market.machine(&id).await, Ok(None));
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Gone));
    fake.with(|vendor| vendor.fails_boot = true);
    let Created::Confirmed { id } = market.create(&order(1)).await else {
        panic!("it is not made");
    };
    fake.advance(MINUTE);
    assert_eq!(market.machine(&id).await.unwrap().unwrap().state, MachineState::Failed);
}

#[tokio::test]
async fn a_pod_that_stays_in_the_list_after_its_end_is_gone_too() {
    let (fake, market) = kind().await;
    fake.with(|vendor| vendor.keeps_terminated = true);
    let id = rented(&fake, &market).await;
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
    assert_eq!(market.machines().await.unwrap()[0].state, MachineState::Ended);
    assert_eq!(market.machine(&id).await.unwrap().unwrap().state, MachineState::Ended);
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Gone));
}

/// What an order became, in words.
fn said(created: &Created) -> String {
    match created {
        Created::Confirmed { .. } => "confirmed".to_owned(),
        Created::Refused(why) => {
            let why = format!("{why:?}");
            let kind = why.split(['(', ' ']).next().unwrap_or_default().to_owned();
            format!("refused {kind}")
        }
        Created::Ambiguous { id: None, .. } => "ambiguous".to_owned(),
        Created::Ambiguous { id: Some(_), .. } => "ambiguous with id".to_owned(),
    }
}

#[tokio::test]
async fn an_order_is_placed_once_whatever_becomes_of_it() {
    for (name, meaning, made) in [
        ("pass", "confirmed", 1),
        ("drop-before", "ambiguous", 0),
        ("drop-after", "ambiguous", 1),
        ("empty", "ambiguous", 1),
        ("garbage", "ambiguous", 1),
        ("truncated", "ambiguous", 1),
        ("endless", "ambiguous", 1),
        ("empty-500", "ambiguous", 0),
        ("html-502", "ambiguous", 0),
        ("empty-503", "ambiguous", 0),
        ("html-404", "ambiguous", 0),
        ("done-500", "ambiguous", 1),
        ("done-504", "ambiguous", 1),
        ("problem-500", "ambiguous", 1),
        ("no-id", "ambiguous", 1),
        ("error-with-id", "ambiguous with id", 1),
        ("no-room", "refused OfferGone", 0),
        ("moved", "refused OfferGone", 0),
        ("no-credit", "refused NoCredit", 0),
        ("no-credit-400", "refused NoCredit", 0),
        ("locked-out", "refused LockedOut", 0),
        ("forbidden", "refused LockedOut", 0),
        ("rate-limited", "refused RateLimited", 0),
        ("rate-limited-bare", "refused RateLimited", 0),
        ("locked", "refused Refused", 0),
    ] {
        let (fake, market) = kind().await;
        fake.fault("create", named(name));
        let created = market.create(&order(0)).await;
        assert_eq!(said(&created), meaning, "{name}: {created:?}");
        assert_eq!(fake.seen_at("create").len(), 1, "{name}");
        assert_eq!(fake.created(), made, "{name}");
        // A pod behind an error runs and costs: whoever finds out later finds it by its label.
        let found = market_at(&fake.url()).machines().await.unwrap();
        let labels: Vec<&str> = found.iter().map(|machine| machine.label.as_str()).collect();
        assert_eq!(labels, vec!["fb:acme:01jd3zk7xw5q0"; made], "{name}");
        fake.advance(HOUR);
        assert_eq!(
            fake.with(|vendor| vendor.pods.iter().map(fake::Pod::cost).sum::<i64>() > 0),
            made == 1,
            "{name}"
        );
        if let Created::Ambiguous { id: Some(id), .. } | Created::Confirmed { id } = created {
            assert_eq!(found[0].id, id, "{name}");
        }
    }
}

#[tokio::test]
async fn nothing_is_ordered_where_the_offer_or_the_provider_is_not_there() {
    let (fake, market) = kind().await;
    let at = |offer: &str| Order {
        offer: offer.to_owned(),
        ..order(0)
    };
    assert_eq!(said(&market.create(&at("nonsense")).await), "refused OfferGone");
    assert_eq!(fake.seen_at("create").len(), 0);
    assert_eq!(
        said(&market.create(&at("NVIDIA%20X:SECURE:1")).await),
        "refused OfferGone"
    );
    assert_eq!(
        said(&market.create(&at("NVIDIA%20B200:SECURE:1")).await),
        "refused OfferGone"
    );
    let nameless = Order {
        image: String::new(),
        ..order(0)
    };
    assert_eq!(said(&market.create(&nameless).await), "refused Refused");
    assert_eq!(fake.created(), 0);
    let url = fake.url();
    drop(fake);
    assert_eq!(said(&market_at(&url).create(&order(0)).await), "refused Unreachable");
}

#[tokio::test]
async fn an_order_that_is_given_up_on_can_be_found() {
    let (fake, market) = kind().await;
    fake.fault("create", Fault::HeldAfter);
    let order = order(0);
    tokio::select! {
        created = market.create(&order) => panic!("it was answered: {created:?}"),
        () = fake.asked("create", 1) => {}
    }
    while fake.created() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(market.machines().await.unwrap()[0].label, order.label);
}

const BLIND: [&str; 16] = [
    "drop-before",
    "drop-after",
    "empty",
    "garbage",
    "truncated",
    "endless",
    "empty-500",
    "html-502",
    "empty-503",
    "html-404",
    "done-500",
    "problem-500",
    "rate-limited",
    "rate-limited-bare",
    "locked-out",
    "forbidden",
];

#[tokio::test]
async fn whoever_sees_nothing_concludes_nothing() {
    let (fake, first) = kind().await;
    let id = rented(&fake, &first).await;
    for name in BLIND {
        let fresh = || market(&fake);
        fake.fault("list", named(name));
        assert!(fresh().machines().await.unwrap_err().is_blind(), "list, {name}");
        fake.fault("get", named(name));
        assert!(fresh().machine(&id).await.unwrap_err().is_blind(), "get, {name}");
        fake.fault("bill", named(name));
        assert!(
            fresh().charged(&charge(&fake, &id)).await.unwrap_err().is_blind(),
            "bill, {name}"
        );
        fake.fault("gpus", named(name));
        assert!(
            fresh().offers(&wanted()).await.unwrap_err().is_blind(),
            "offers, {name}"
        );
        fake.fault("log", named(name));
        let logs = fresh().logs(&id, 5).await;
        assert!(logs.is_ok() || logs.unwrap_err().is_blind(), "logs, {name}");
    }
    for name in ["bad-row", "moved"] {
        fake.fault("list", named(name));
        assert!(market(&fake).machines().await.unwrap_err().is_blind(), "{name}");
    }
    fake.with(|vendor| vendor.key = "another".to_owned());
    let market = market(&fake);
    assert!(matches!(market.machines().await, Err(MarketFault::LockedOut(_))));
    assert!(matches!(market.machine(&id).await, Err(MarketFault::LockedOut(_))));
    assert!(matches!(market.destroy(&id).await, Err(MarketFault::LockedOut(_))));
}

#[tokio::test]
async fn a_key_may_see_and_not_touch() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    fake.with(|vendor| vendor.scopes = [Scope::ReadPods].into());
    assert_eq!(market.machines().await.unwrap().len(), 1);
    assert!(matches!(market.destroy(&id).await, Err(MarketFault::LockedOut(_))));
    assert_eq!(said(&market.create(&order(1)).await), "refused LockedOut");
    assert!(matches!(
        market.charged(&charge(&fake, &id)).await,
        Err(MarketFault::LockedOut(_))
    ));
    assert!(matches!(market.offers(&wanted()).await, Err(MarketFault::LockedOut(_))));
}

#[tokio::test]
async fn a_404_is_no_end_unless_the_list_agrees() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    fake.fault("get", named("moved"));
    assert_eq!(
        market.machine(&id).await.unwrap().unwrap().id,
        id,
        "the list still has it"
    );
    fake.fault("destroy", named("moved"));
    assert!(market.destroy(&id).await.is_err());
    fake.faults("*", named("moved"), None);
    assert!(
        market.machine(&id).await.unwrap_err().is_blind(),
        "the whole API has moved"
    );
    assert!(market.destroy(&id).await.unwrap_err().is_blind());
    fake.no_more_faults();
    for name in ["html-404", "garbage", "empty-500", "drop-before", "rate-limited"] {
        fake.fault("destroy", Fault::Instead(Answer::html(200)));
        assert!(
            crate::market(&fake).destroy(&id).await.is_err(),
            "a success that is a proxy's"
        );
        fake.fault("destroy", named(name));
        let destroyed = crate::market(&fake).destroy(&id).await;
        // It was done behind a page of a proxy: what it means nobody may guess, and the next wish tells.
        assert!(destroyed.is_err() || name == "garbage", "{name}: {destroyed:?}");
    }
    assert_eq!(market.machine("podffffffffffff").await, Ok(None));
    for nonsense in ["", "..", "a/b", "x?y", "é"] {
        assert!(
            market.machine(nonsense).await.is_err() && market.destroy(nonsense).await.is_err(),
            "{nonsense}"
        );
    }
}

#[tokio::test]
async fn a_locked_pod_is_not_gone() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    fake.with(|vendor| vendor.pods[0].is_locked = true);
    assert!(matches!(market.destroy(&id).await, Err(MarketFault::Refused(_))));
    assert_eq!(fake.live(), 1);
    fake.with(|vendor| vendor.pods[0].is_locked = false);
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
    assert_eq!(fake.live(), 0);
}

#[tokio::test]
async fn a_new_pod_may_be_missing_from_the_list_at_first() {
    let (fake, market) = kind().await;
    fake.with(|vendor| vendor.list_lag = 1);
    let id = rented(&fake, &market).await;
    assert!(market.machines().await.unwrap().is_empty());
    assert_eq!(market.machines().await.unwrap()[0].id, id);
}

fn charge(fake: &Fake<fake::RunPod>, id: &str) -> ChargeQuery {
    ChargeQuery {
        id: id.to_owned(),
        label: String::new(),
        since: fake.now() - 12 * HOUR,
        until: fake.now(),
        paid_before: None,
        is_last: false,
    }
}

#[tokio::test]
async fn the_bill_is_believed_once_it_reaches_far_enough() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let other = market.create(&order(1)).await;
    assert!(matches!(other, Created::Confirmed { .. }));
    fake.advance(100 * MINUTE);
    let query = charge(&fake, &id);
    let cost = fake.with(|vendor| vendor.pods[0].cost());
    // 101 minutes at 0.34 and a cent for the disk; each hour is rounded by itself.
    assert!((usd("0.589163").micros() - cost).abs() <= 4, "{cost}");
    let charged = market.charged(&query).await.unwrap().unwrap();
    assert_eq!(charged.micros(), cost);
    market.destroy(&id).await.unwrap();
    fake.advance(2 * HOUR);
    assert_eq!(
        market.charged(&query).await.unwrap(),
        Some(charged),
        "nothing is charged after the end"
    );
    fake.with(|vendor| vendor.bill_lag = 3);
    assert_eq!(market.charged(&query).await.unwrap(), None, "nobody knows yet");
}

#[tokio::test]
async fn a_pod_that_has_exited_is_charged_for_its_disk() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let before = fake.with(|vendor| {
        vendor.pods[0].status = Status::Exited;
        vendor.pods[0].cost()
    });
    fake.advance(10 * HOUR);
    let charged = market.charged(&charge(&fake, &id)).await.unwrap().unwrap();
    assert!((charged.micros() - before - 100_000).abs() <= 11, "{charged}");
}

#[tokio::test]
async fn the_last_lines_of_the_log() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let log = market.logs(&id, 2).await.unwrap();
    assert_eq!(
        log,
        "line 39 of fb-acme-01jd3zk7xxw5q0\nline 40 of fb-acme-01jd3zk7xxw5q0"
    );
    assert_eq!(
        market.logs(&id, 100_000).await.unwrap().lines().count(),
        40,
        "no more is asked for than may be"
    );
    fake.fault("log", Fault::Endless);
    assert!(
        market.logs(&id, 2).await.unwrap().len() < 1 << 20,
        "a log without an end ends"
    );
    assert!(market.logs("podffffffffffff", 2).await.is_err());
}

#[tokio::test]
async fn who_asks_for_fewer_requests_gets_fewer() {
    let (fake, market) = kind().await;
    fake.with(|vendor| vendor.limit = 2);
    assert!(market.machines().await.is_ok() && market.machines().await.is_ok());
    let minute = Some(MINUTE);
    assert_eq!(
        market.machines().await,
        Err(MarketFault::RateLimited { retry_after: minute })
    );
    let again = market.machines().await;
    assert!(
        matches!(again, Err(MarketFault::RateLimited { retry_after: Some(after) }) if after <= MINUTE),
        "{again:?}"
    );
    assert_eq!(said(&market.create(&order(0)).await), "refused RateLimited");
    assert_eq!(
        (fake.seen_at("list").len(), fake.seen_at("create").len()),
        (3, 0),
        "nothing was sent"
    );
}

#[tokio::test]
async fn time_is_not_sold_in_advance() {
    let (_fake, market) = kind().await;
    assert!(matches!(market.extend("p", 1).await, Err(MarketFault::Unsupported(_))));
    assert!(matches!(
        market.extension_price("p", 1).await,
        Err(MarketFault::Unsupported(_))
    ));
    assert_eq!(market.price_changes().await, Ok(Vec::new()));
}

#[tokio::test]
async fn settings_of_the_fake_do_what_they_say() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let set = |name: &str, value: Value| fake.with(|vendor| vendor.set(name, &value)).unwrap();
    set("read_only", json!(true));
    assert!(matches!(market.destroy(&id).await, Err(MarketFault::LockedOut(_))));
    set("read_only", json!(false));
    assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
    for (name, _) in fake.with(|vendor| vendor.settings()) {
        assert!(fake.with(|vendor| vendor.set(name, &json!([]))).is_err(), "{name}");
    }
    assert!(fake.with(|vendor| vendor.set("nothing", &json!(1))).is_err());
}

#[test]
fn a_configuration_names_no_price_below_zero() {
    let config = |price: Value| {
        let config = json!({ "api_key": { "env": "KEY" }, "disk_usd_per_gb_month": price });
        serde_json::from_value::<RunPodConfig>(config)
    };
    assert_eq!(config(json!(0)).unwrap().disk_usd_per_gb_month, Usd::ZERO);
    assert_eq!(config(json!(0.2)).unwrap().url.as_str(), "https://api.runpod.io/v2");
    assert!(config(json!(-0.1)).is_err() && config(json!("much")).is_err());
    let stranger = json!({ "api_key": { "env": "KEY" }, "urls": "http://x" });
    assert!(serde_json::from_value::<RunPodConfig>(stranger).is_err());
}
