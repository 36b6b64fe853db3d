//! What is tried at more than one market in the same way.

use forebay_compute::market::{ChargeQuery, Created, Machine, Market, Order, Wanted};
use forebay_domain::{market::Offer, money::Usd};
use forebay_testkit::markets::{Fake, Fault, Vendor, faults};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

/// A provider that is tried: its fake, and our client of it.
pub(crate) trait Tried: Vendor + Default {
    type Client: Market;
    /// The route that makes machines.
    const CREATE: &'static str;

    /// One that knows nothing yet of what it was told before.
    fn client(url: &str) -> Self::Client;

    fn order(number: u32) -> Order;
}

/// One to whom nothing happens.
pub(crate) async fn kind<V: Tried>() -> (Fake<V>, V::Client) {
    let fake = Fake::start(V::default()).await;
    let market = V::client(&fake.url());
    (fake, market)
}

pub(crate) fn named<V: Tried>(name: &str) -> Fault {
    faults::by_name(name, V::default().named_faults()).unwrap()
}

pub(crate) fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

pub(crate) fn ids(offers: &[Offer]) -> Vec<&str> {
    offers.iter().map(|offer| offer.id.id()).collect()
}

pub(crate) fn wanted(disk_gb: u32) -> Wanted {
    Wanted {
        disk_gb,
        limit: 100,
        ..Wanted::default()
    }
}

pub(crate) fn order(offer: &str, label: String) -> Order {
    Order {
        offer: offer.to_owned(),
        label,
        image: "vllm/vllm-openai:v0.11.0".to_owned(),
        disk_gb: 50,
        env: [("MODEL".to_owned(), "qwen".to_owned())].into(),
        secrets: [("FOREBAY_TOKEN".to_owned(), "very secret".to_owned())].into(),
        ports: vec![8_080],
        on_start: Some("echo \"it's on\"\n".to_owned()),
        hours: 1,
    }
}

/// The id of what was certainly made.
pub(crate) fn confirmed(created: Created) -> String {
    let Created::Confirmed { id } = created else {
        panic!("it is not made: {created:?}");
    };
    id
}

/// One that was made so long ago that it runs.
pub(crate) async fn rented<V: Tried>(fake: &Fake<V>, market: &V::Client, boot: Duration) -> String {
    let id = confirmed(market.create(&V::order(0)).await);
    fake.advance(boot);
    id
}

/// All that was charged for it in the last so many hours.
pub(crate) fn charge<V: Tried>(fake: &Fake<V>, id: &str, since: Duration) -> ChargeQuery {
    ChargeQuery {
        id: id.to_owned(),
        label: String::new(),
        since: fake.now() - since,
        until: fake.now(),
        paid_before: None,
        is_last: false,
    }
}

/// What an order became, in words.
pub(crate) fn said(created: &Created) -> String {
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

/// What everybody's creates can meet: what it means, and how many machines there are then.
const UNCLEAR: [(&str, &str, usize); 14] = [
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
    ("no-id", "ambiguous", 1),
];

/// Orders once, whatever becomes of it; whoever finds out later finds it by its label, and at an id that was named with
/// an error.
pub(crate) async fn is_placed_once<V: Tried>(own: &[(&str, &str, usize)], look: impl Fn(&Fake<V>, usize, &str)) {
    for (name, meaning, made) in UNCLEAR.iter().chain(own).copied() {
        let (fake, market) = kind::<V>().await;
        let order = V::order(0);
        fake.fault(V::CREATE, named::<V>(name));
        let created = market.create(&order).await;
        assert_eq!(said(&created), meaning, "{name}: {created:?}");
        assert_eq!(fake.seen_at(V::CREATE).len(), 1, "{name}");
        assert_eq!(fake.created(), made, "{name}");
        let found = V::client(&fake.url()).machines().await.unwrap();
        let labels: Vec<&str> = found.iter().map(|machine| machine.label.as_str()).collect();
        assert_eq!(labels, vec![order.label; made], "{name}");
        look(&fake, made, name);
        if let Created::Ambiguous { id: Some(id), .. } | Created::Confirmed { id } = created {
            assert_eq!(found[0].id, id, "{name}");
        }
    }
}

/// Whoever gave the waiting up finds what was made.
pub(crate) async fn is_found_though_given_up<V: Tried>() {
    let (fake, market) = kind::<V>().await;
    fake.fault(V::CREATE, Fault::HeldAfter);
    let order = V::order(0);
    tokio::select! {
        created = market.create(&order) => panic!("it was answered: {created:?}"),
        () = fake.asked(V::CREATE, 1) => {}
    }
    while fake.created() == 0 {
        tokio::task::yield_now().await;
    }
    let found = market.machines().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].label, order.label);
}

/// After these nobody knows more than before.
pub(crate) const BLIND: [&str; 14] = [
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
    "rate-limited",
    "rate-limited-bare",
    "locked-out",
];

/// What the settings of a fake refuse.
pub(crate) fn refuses_nonsense<V: Tried>(fake: &Fake<V>) {
    for (name, _) in fake.with(|vendor| vendor.settings()) {
        assert!(fake.with(|vendor| vendor.set(name, &json!([]))).is_err(), "{name}");
    }
    assert!(fake.with(|vendor| vendor.set("nothing", &json!(1))).is_err());
}

/// JSON out of the words that a provider uses, in any order.
pub(crate) fn odd_json(keys: Vec<&'static str>, texts: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let key = prop::sample::select(keys);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[!#-\\[\\]-~]{0,12}".prop_map(Value::from),
        prop::sample::select(texts).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// Any bytes, and such JSON.
pub(crate) fn odd_body(odd: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        odd.prop_map(|json| json.to_string().into_bytes()),
    ]
}

/// Whether whoever is told this may know of such a machine.
fn is_told(body: &[u8], id: &str) -> bool {
    String::from_utf8_lossy(body).contains(&format!("\"{id}\""))
}

/// What is asked of one that always answers so: no machine is there that it did not name, and nothing was charged below zero.
pub(crate) async fn believes_in_nothing<V: Tried>(
    market: &V::Client,
    (status, body): (u16, &[u8]),
    query: &ChargeQuery,
) {
    let created = market.create(&V::order(0)).await;
    if let Created::Confirmed { id } = &created {
        assert!(status < 300 && is_told(body, id), "{created:?}");
    }
    let is_known = |machine: &Machine| is_told(body, &machine.id);
    let machines = market.machines().await;
    assert!(machines.iter().flatten().all(is_known), "{machines:?}");
    let machine = market.machine(&query.id).await;
    assert!(machine.iter().flatten().all(is_known), "{machine:?}");
    let charged = market.charged(query).await;
    assert!(charged.iter().flatten().all(|charged| !charged.is_negative()));
    let order = V::order(0);
    let _ = (market.offers(&wanted(50)).await, market.offer(&order.offer, 1).await);
    let _ = market.logs(&query.id, 3).await;
}
