//! io.net, as unkind as it can be, and what its market concludes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a part that does not work shall fail its test at once"
)]

mod garbage;
mod offers;

use forebay_compute::market::{
    ChargeQuery, Created, Destroyed, Machine, MachineState, Market, MarketFault, Order, Wanted,
    ionet::{IoNet, IoNetConfig},
};
use forebay_domain::{
    market::{Billing, Offer},
    money::{Usd, UsdRate},
};
use forebay_runtime::{Secret, http::trusted};
use forebay_testkit::markets::{
    Answer, Fake, Fault, Vendor, faults,
    ionet::{self as fake, Phase},
};
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
const OFFER: &str = "caas:203:1:US";

/// A market that knows nothing yet of what it was told before.
fn market_at(url: &str) -> IoNet {
    let config: IoNetConfig = serde_json::from_value(json!({ "api_key": { "env": "KEY" }, "url": url })).unwrap();
    IoNet::new(&config, Secret::new(fake::KEY.to_owned()), trusted())
}

fn market(fake: &Fake<fake::IoNet>) -> IoNet {
    market_at(&fake.url())
}

async fn kind() -> (Fake<fake::IoNet>, IoNet) {
    let fake = Fake::start(fake::IoNet::default()).await;
    let market = market(&fake);
    (fake, market)
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn order(number: u32) -> Order {
    Order {
        offer: OFFER.to_owned(),
        label: format!("fb:Acme-1:01JD3ZK7XW5Q{number}"),
        image: "vllm/vllm-openai:v0.11.0".to_owned(),
        disk_gb: 50,
        env: [("MODEL".to_owned(), "qwen".to_owned())].into(),
        secrets: [("FOREBAY_TOKEN".to_owned(), "very secret".to_owned())].into(),
        ports: vec![8_080],
        on_start: Some("echo \"it's on\"\n".to_owned()),
        hours: 1,
    }
}

fn wanted() -> Wanted {
    Wanted {
        disk_gb: 50,
        limit: 100,
        ..Wanted::default()
    }
}

/// One that runs and is well.
async fn rented(fake: &Fake<fake::IoNet>, market: &IoNet) -> String {
    let Created::Confirmed { id } = market.create(&order(0)).await else {
        panic!("it is not made");
    };
    fake.advance(3 * MINUTE);
    id
}

fn named(name: &str) -> Fault {
    let vendor = fake::IoNet::default();
    faults::by_name(name, vendor.named_faults()).unwrap()
}

fn ids(offers: &[Offer]) -> Vec<&str> {
    offers.iter().map(|offer| offer.id.id()).collect()
}

#[tokio::test]
async fn what_is_ordered_arrives_and_secrets_stay_secret() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let asked = fake.seen_at("deploy");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("x-api-key"), Some(fake::KEY));
    assert_eq!(
        asked[0].json(),
        json!({
            "resource_private_name": "fb-xcaxccmexd1-01xcjd3zk7xxw5q0", "duration_hours": 1, "gpus_per_container": 1,
            "hardware_id": 203, "location_ids": [3],
            "container_config": {
                "replica_count": 1, "traffic_port": 8080, "entrypoint": ["/bin/sh", "-c"],
                "args": ["echo \"it's on\"\n"], "env_variables": { "MODEL": "qwen" },
                "secret_env_variables": { "FOREBAY_TOKEN": "very secret" },
            },
            "registry_config": { "image_url": "vllm/vllm-openai:v0.11.0" },
        })
    );
    let machine = market.machine(&id).await.unwrap().unwrap();
    let url = "https://c-0001.worker.example".to_owned();
    assert_eq!(
        (machine.state, machine.label.as_str()),
        (MachineState::Running, "fb:Acme-1:01JD3ZK7XW5Q0")
    );
    assert_eq!(machine.endpoints, [(8_080, url)].into());
    assert_eq!(
        (machine.paid, machine.rate),
        (Some(usd("0.33")), Some(UsdRate::per_hour(usd("0.33"))))
    );
    assert_eq!(machine.ends_at, Some("2026-11-20T01:02:10Z".parse().unwrap()));
    assert!(!format!("{machine:?}").contains("very secret"));
}

#[tokio::test]
async fn the_list_says_of_ours_what_they_cost_and_where_they_are() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let seen = fake.now();
    fake.with(|vendor| vendor.add("somebody-elses", seen));
    let machines = market.machines().await.unwrap();
    let ours = machines.iter().find(|machine| machine.id == id).unwrap();
    assert_eq!((ours.paid, ours.endpoints.len()), (Some(usd("0.33")), 1));
    assert_eq!(Some(ours), market.machine(&id).await.unwrap().as_ref());
    let asked = fake.seen_at("get");
    assert!(
        asked.iter().all(|seen| seen.path.ends_with(&id)),
        "nobody else's is looked into"
    );
    for name in ["drop-before", "empty-500", "garbage", "not-found", "locked-out"] {
        fake.fault("get", named(name));
        let again = market.machines().await.unwrap();
        assert_eq!(again, machines, "what it last said still holds: {name}");
        fake.fault("containers", named(name));
        assert_eq!(market.machines().await.unwrap(), machines, "{name}");
    }
    fake.fault("get", named("empty-500"));
    let stranger = crate::market(&fake).machines().await.unwrap();
    let ours = stranger.iter().find(|machine| machine.id == id).unwrap();
    assert_eq!(
        (ours.state, ours.paid, ours.endpoints.len()),
        (MachineState::Running, None, 0),
        "it is there all the same"
    );
    market.destroy(&id).await.unwrap();
    fake.fault("get", named("empty-500"));
    let ending = market.machines().await.unwrap();
    let ours = ending.iter().find(|machine| machine.id == id).unwrap();
    assert_eq!(
        (ours.state, ours.endpoints.len()),
        (MachineState::Ending, 0),
        "the list is newer"
    );
}

#[tokio::test]
async fn a_partners_text_stays_a_text() {
    let (fake, market) = kind().await;
    let offer = "caas:gpu_1x_l40:1:FI".to_owned();
    let created = market.create(&Order { offer, ..order(0) }).await;
    assert!(matches!(created, Created::Confirmed { .. }), "{created:?}");
    let asked = fake.seen_at("deploy")[0].json();
    assert_eq!(
        (&asked["hardware_id"], &asked["location_ids"]),
        (&json!("gpu_1x_l40"), &json!(["FI"]))
    );
}

#[tokio::test]
async fn a_deployment_walks_through_its_states() {
    for has_odd_case in [false, true] {
        let (fake, market) = kind().await;
        fake.with(|vendor| vendor.has_odd_case = has_odd_case);
        let Created::Confirmed { id } = market.create(&order(0)).await else {
            panic!("it is not made");
        };
        let state = async || market.machine(&id).await.unwrap().unwrap().state;
        let listed = async || market.machines().await.unwrap()[0].state;
        assert_eq!(
            (state().await, listed().await),
            (MachineState::Starting, MachineState::Starting)
        );
        fake.advance(Duration::from_secs(135));
        let machine = market.machine(&id).await.unwrap().unwrap();
        assert_eq!(machine.state, MachineState::Running);
        assert!(machine.endpoints.is_empty(), "it is not well yet");
        assert_eq!(market.destroy(&id).await, Ok(Destroyed::Accepted));
        assert_eq!(
            (state().await, listed().await),
            (MachineState::Ending, MachineState::Ending)
        );
        fake.advance(MINUTE);
        assert_eq!(
            (state().await, listed().await),
            (MachineState::Ended, MachineState::Ended)
        );
        assert_eq!(
            market.destroy(&id).await,
            Ok(Destroyed::Gone),
            "however the second wish is refused"
        );
    }
}

#[tokio::test]
async fn a_deployment_that_fails_or_ends_by_itself_says_so() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    fake.with(|vendor| vendor.fails_boot = true);
    let Created::Confirmed { id: other } = market.create(&order(1)).await else {
        panic!("it is not made");
    };
    fake.advance(HOUR);
    assert_eq!(market.machine(&id).await.unwrap().unwrap().state, MachineState::Ended);
    assert_eq!(
        market.machine(&other).await.unwrap().unwrap().state,
        MachineState::Failed
    );
    for over in [&id, &other] {
        assert_eq!(
            market.destroy(over).await,
            Ok(Destroyed::Gone),
            "there is nothing to end"
        );
    }
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
        ("done-500", "ambiguous", 1),
        ("done-504", "ambiguous", 1),
        ("no-id", "ambiguous", 1),
        ("html-404", "ambiguous", 0),
        ("not-found", "ambiguous", 0),
        ("error-with-id", "ambiguous with id", 1),
        ("payment-required-id", "ambiguous with id", 1),
        ("payment-required", "refused NoCredit", 0),
        ("no-credit", "refused NoCredit", 0),
        ("no-credit-403", "refused NoCredit", 0),
        ("rate-limited", "refused RateLimited", 0),
        ("rate-limited-bare", "refused RateLimited", 0),
        ("locked-out", "refused LockedOut", 0),
    ] {
        let (fake, market) = kind().await;
        fake.fault("deploy", named(name));
        let created = market.create(&order(0)).await;
        assert_eq!(said(&created), meaning, "{name}: {created:?}");
        assert_eq!(fake.seen_at("deploy").len(), 1, "{name}");
        assert_eq!(fake.created(), made, "{name}");
        // Whoever finds out later finds it by its label, and at an id that was named with an error.
        let found = market_at(&fake.url()).machines().await.unwrap();
        let labels: Vec<&str> = found.iter().map(|machine| machine.label.as_str()).collect();
        assert_eq!(labels, vec!["fb:Acme-1:01JD3ZK7XW5Q0"; made], "{name}");
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
    for gone in ["caas:999:1:US", "caas:203:1:JP", "nonsense"] {
        assert_eq!(said(&market.create(&at(gone)).await), "refused OfferGone", "{gone}");
    }
    let two = Order {
        ports: vec![80, 81],
        ..order(0)
    };
    assert_eq!(said(&market.create(&two).await), "refused Unsupported");
    fake.fault("places", named("html-502"));
    assert_eq!(said(&market.create(&order(0)).await), "refused Broken");
    fake.with(|vendor| vendor.credit = 100_000);
    assert_eq!(said(&market.create(&order(0)).await), "refused NoCredit");
    assert_eq!(
        (fake.seen_at("deploy").len(), fake.created()),
        (1, 0),
        "only the last one was asked for"
    );
    let url = fake.url();
    drop(fake);
    assert_eq!(said(&market_at(&url).create(&order(0)).await), "refused Unreachable");
}

#[tokio::test]
async fn an_order_that_is_given_up_on_can_be_found() {
    let (fake, market) = kind().await;
    fake.fault("deploy", Fault::HeldAfter);
    let order = order(0);
    tokio::select! {
        created = market.create(&order) => panic!("it was answered: {created:?}"),
        () = fake.asked("deploy", 1) => {}
    }
    while fake.created() == 0 {
        tokio::task::yield_now().await;
    }
    let found = market.machines().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].label, order.label);
}

/// Straight into the provider: how they are ordered is tried elsewhere.
fn add(fake: &Fake<fake::IoNet>, number: usize) {
    let now = fake.now();
    fake.with(|vendor| vendor.add(&format!("machine-{number}"), now));
}

#[tokio::test]
async fn all_pages_are_read_whatever_the_number_of_the_first() {
    for (first_page, count) in [(0, 250), (1, 250), (0, 100), (1, 100), (0, 0), (1, 101)] {
        let (fake, market) = kind().await;
        fake.with(|vendor| vendor.first_page = first_page);
        for number in 0..count {
            add(&fake, number);
        }
        let mut found: Vec<String> = market
            .machines()
            .await
            .unwrap()
            .into_iter()
            .map(|machine| machine.id)
            .collect();
        let shown = found.len();
        found.dedup();
        assert_eq!((shown, found.len()), (count, count), "pages from {first_page}");
    }
}

#[tokio::test]
async fn a_list_is_whole_or_none() {
    let (fake, _) = kind().await;
    for number in 0..150 {
        add(&fake, number);
    }
    fake.fault("list", named("short"));
    assert!(
        matches!(market(&fake).machines().await, Err(MarketFault::Broken(_))),
        "the pages disagree"
    );
    fake.faults("list", named("short"), None);
    assert!(
        matches!(market(&fake).machines().await, Err(MarketFault::Broken(_))),
        "it counts more than it shows"
    );
    fake.no_more_faults();
    fake.fault("list", Fault::Pass);
    fake.fault("list", named("empty-503"));
    assert!(
        market(&fake).machines().await.unwrap_err().is_blind(),
        "half of it was read"
    );
    assert_eq!(market(&fake).machines().await.unwrap().len(), 150);
}

const BLIND: [&str; 15] = [
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
    "not-found",
    "done-500",
    "rate-limited",
    "rate-limited-bare",
    "locked-out",
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
        fake.fault("containers", named(name));
        assert!(fresh().machine(&id).await.unwrap_err().is_blind(), "containers, {name}");
        fake.fault("get", named(name));
        let query = charge(&fake, &id);
        assert!(fresh().charged(&query).await.unwrap_err().is_blind(), "charged, {name}");
        fake.fault("hardware", named(name));
        assert!(
            fresh().offers(&wanted()).await.unwrap_err().is_blind(),
            "offers, {name}"
        );
        fake.fault("log", named(name));
        let logs = fresh().logs(&id, 5).await;
        assert!(logs.is_ok() || logs.unwrap_err().is_blind(), "logs, {name}");
    }
    fake.no_more_faults();
    for status in [401, 403] {
        fake.with(|vendor| (vendor.key, vendor.auth_status) = ("another".to_owned(), status));
        let market = market(&fake);
        assert!(matches!(market.machines().await, Err(MarketFault::LockedOut(_))));
        assert!(matches!(market.machine(&id).await, Err(MarketFault::LockedOut(_))));
        assert!(matches!(market.destroy(&id).await, Err(MarketFault::LockedOut(_))));
    }
}

#[tokio::test]
async fn a_404_is_no_end_unless_the_list_agrees() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let unknown = || Fault::Instead(Answer::json(404, &json!({ "detail": "Deployment not found" })));
    fake.fault("get", unknown());
    assert_eq!(
        market.machine(&id).await.unwrap().unwrap().id,
        id,
        "the list still has it"
    );
    fake.fault("destroy", unknown());
    assert!(market.destroy(&id).await.is_err());
    fake.fault("destroy", unknown());
    fake.fault("list", named("empty-503"));
    assert!(market.destroy(&id).await.unwrap_err().is_blind());
    for name in [
        "html-404",
        "not-found",
        "empty",
        "garbage",
        "empty-500",
        "drop-before",
        "rate-limited",
    ] {
        fake.fault("destroy", named(name));
        assert!(crate::market(&fake).destroy(&id).await.is_err(), "{name}");
    }
    let stranger = "00000000-0000-4000-8000-00000000ffff";
    assert_eq!(market.machine(stranger).await, Ok(None));
    assert_eq!(market.destroy(stranger).await, Ok(Destroyed::Gone));
    for nonsense in ["", "..", "a/b", "x?y", "é"] {
        assert!(
            market.machine(nonsense).await.is_err() && market.destroy(nonsense).await.is_err(),
            "{nonsense}"
        );
    }
}

#[tokio::test]
async fn a_new_deployment_may_be_missing_from_the_list_at_first() {
    let (fake, market) = kind().await;
    fake.with(|vendor| vendor.list_lag = 2);
    let Created::Confirmed { id } = market.create(&order(0)).await else {
        panic!("it is not made");
    };
    assert!(market.machines().await.unwrap().is_empty());
    assert!(market.machine(&id).await.unwrap().is_some());
    assert!(market.machines().await.unwrap().is_empty());
    assert_eq!(market.machines().await.unwrap().len(), 1);
}

#[tokio::test]
async fn hours_are_priced_before_and_bought_once() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    assert_eq!(market.extension_price(&id, 2).await, Ok(usd("0.66")));
    market.extend(&id, 2).await.unwrap();
    let machine = market.machine(&id).await.unwrap().unwrap();
    assert_eq!(
        (machine.paid, machine.ends_at),
        (Some(usd("0.99")), Some("2026-11-20T03:02:10Z".parse().unwrap()))
    );
    fake.fault("extend", Fault::DropAfter);
    assert!(market.extend(&id, 1).await.unwrap_err().is_blind());
    assert_eq!(fake.seen_at("extend").len(), 2, "asked once each time");
    assert_eq!(
        market.machine(&id).await.unwrap().unwrap().paid,
        Some(usd("1.32")),
        "what was done is seen"
    );
    for name in ["empty", "garbage"] {
        fake.fault("extend", named(name));
        assert!(market.extend(&id, 1).await.is_err(), "{name}");
    }
    fake.fault("extend", named("payment-required"));
    assert!(matches!(market.extend(&id, 1).await, Err(MarketFault::NoCredit(_))));
    fake.with(|vendor| vendor.credit = 0);
    assert!(matches!(market.extend(&id, 1).await, Err(MarketFault::NoCredit(_))));
    fake.with(|vendor| vendor.stock[0].place.free = 0);
    assert!(matches!(
        market.extension_price(&id, 1).await,
        Err(MarketFault::OfferGone(_))
    ));
}

fn charge(fake: &Fake<fake::IoNet>, id: &str) -> ChargeQuery {
    ChargeQuery {
        id: id.to_owned(),
        label: String::new(),
        since: fake.now(),
        until: fake.now(),
        paid_before: None,
        is_last: false,
    }
}

#[tokio::test]
async fn what_is_given_back_is_what_io_net_gives_back() {
    for (shows_net, used, stays) in [
        (false, 5 * MINUTE, "0.33"),
        (false, 150 * MINUTE, "0.825"),
        (true, 5 * MINUTE, "0.33"),
        (true, 150 * MINUTE, "0.825"),
    ] {
        let (fake, market) = kind().await;
        fake.with(|vendor| vendor.shows_net = shows_net);
        let Created::Confirmed { id } = market.create(&Order { hours: 4, ..order(0) }).await else {
            panic!("it is not made");
        };
        fake.advance(Duration::from_secs(130));
        fake.advance(used);
        assert_eq!(market.charged(&charge(&fake, &id)).await, Ok(Some(usd("1.32"))));
        market.destroy(&id).await.unwrap();
        fake.advance(MINUTE);
        let charged = market.charged(&charge(&fake, &id)).await.unwrap().unwrap();
        assert_eq!(charged, usd(stays), "net {shows_net}, used {used:?}");
        // A gateway that began anew remembers nothing, and its ledger knows what was paid.
        let anew = ChargeQuery {
            paid_before: Some(usd("1.32")),
            ..charge(&fake, &id)
        };
        let known = market_at(&fake.url()).charged(&anew).await;
        assert_eq!(known, Ok(Some(charged)), "net {shows_net}, used {used:?}");
        let net = fake.with(|vendor| vendor.deployments[0].paid - vendor.deployments[0].refunded);
        assert_eq!(charged.micros(), net, "to the micro-dollar");
        assert_eq!(fake.with(|vendor| vendor.credit), 1_000_000_000 - net);
    }
}

#[tokio::test]
async fn the_last_lines_of_both_streams() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let name = "fb-xcaxccmexd1-01xcjd3zk7xxw5q0";
    let log = market.logs(&id, 2).await.unwrap();
    let lines = [("stdout", 39), ("stdout", 40), ("stderr", 39), ("stderr", 40)];
    let lines = lines.map(|(stream, line)| format!("{stream} line {line} of {name}"));
    assert_eq!(log, lines.join("\n"));
    fake.faults("log", Fault::Endless, Some(2));
    assert!(
        market.logs(&id, 2).await.unwrap().len() < 1 << 20,
        "a log without an end ends"
    );
    assert!(market.logs("00000000-0000-4000-8000-00000000ffff", 2).await.is_err());
}

#[tokio::test]
async fn who_asks_for_fewer_requests_gets_fewer() {
    let (fake, market) = kind().await;
    fake.fault("list", named("rate-limited"));
    let seven = Duration::from_secs(7);
    assert_eq!(
        market.machines().await,
        Err(MarketFault::RateLimited {
            retry_after: Some(seven)
        })
    );
    let again = market.machines().await;
    let Err(MarketFault::RateLimited {
        retry_after: Some(after),
    }) = again
    else {
        panic!("{again:?}");
    };
    assert!(after <= seven);
    assert_eq!(said(&market.create(&order(0)).await), "refused RateLimited");
    assert_eq!(
        (fake.seen_at("list").len(), fake.seen_at("deploy").len()),
        (1, 0),
        "nothing was sent"
    );
}

#[tokio::test]
async fn envelopes_may_be_missing() {
    let (fake, market) = kind().await;
    fake.with(|vendor| vendor.is_bare = true);
    let id = rented(&fake, &market).await;
    assert_eq!(market.offers(&wanted()).await.unwrap().len(), 5);
    assert_eq!(market.machine(&id).await.unwrap().unwrap().state, MachineState::Running);
    assert_eq!(market.machines().await.unwrap().len(), 1);
}

#[tokio::test]
async fn settings_of_the_fake_do_what_they_say() {
    let (fake, market) = kind().await;
    let id = rented(&fake, &market).await;
    let set = |name: &str, value: Value| fake.with(|vendor| vendor.set(name, &value)).unwrap();
    set("odd_case", json!(true));
    assert_eq!(market.machine(&id).await.unwrap().unwrap().status, "Running");
    for (name, _) in fake.with(|vendor| vendor.settings()) {
        assert!(fake.with(|vendor| vendor.set(name, &json!([]))).is_err(), "{name}");
    }
    assert!(fake.with(|vendor| vendor.set("nothing", &json!(1))).is_err());
    assert_eq!(fake.with(|vendor| vendor.deployments[0].phase), Phase::Running);
}
