//! What is ordered, and what becomes of it.

use super::*;

#[tokio::test]
async fn what_is_ordered_arrives() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let id = rented(&fake, &market, BOOT).await;
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
async fn an_order_is_placed_once_whatever_becomes_of_it() {
    let own = [
        ("problem-500", "ambiguous", 1),
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
    ];
    // A pod behind an error runs and costs.
    is_placed_once::<fake::RunPod>(&own, |fake, made, name| {
        fake.advance(HOUR);
        let cost = fake.with(|vendor| vendor.pods.iter().map(fake::Pod::cost).sum::<i64>());
        assert_eq!(cost > 0, made == 1, "{name}");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_ordered_where_the_offer_or_the_provider_is_not_there() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let at = |offer: &str| Order {
        offer: offer.to_owned(),
        ..fake::RunPod::order(0)
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
        ..fake::RunPod::order(0)
    };
    assert_eq!(said(&market.create(&nameless).await), "refused Refused");
    assert_eq!(fake.created(), 0);
    let url = fake.url();
    drop(fake);
    assert_eq!(
        said(&fake::RunPod::client(&url).create(&fake::RunPod::order(0)).await),
        "refused Unreachable"
    );
}

#[tokio::test]
async fn an_order_that_is_given_up_on_can_be_found() {
    is_found_though_given_up::<fake::RunPod>().await;
}

#[tokio::test]
async fn who_asks_for_fewer_requests_gets_fewer() {
    let (fake, market) = kind::<fake::RunPod>().await;
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
    assert_eq!(
        said(&market.create(&fake::RunPod::order(0)).await),
        "refused RateLimited"
    );
    assert_eq!(
        (fake.seen_at("list").len(), fake.seen_at("create").len()),
        (3, 0),
        "nothing was sent"
    );
}

#[tokio::test]
async fn time_is_not_sold_in_advance() {
    let (_fake, market) = kind::<fake::RunPod>().await;
    assert!(matches!(market.extend("p", 1).await, Err(MarketFault::Unsupported(_))));
    assert!(matches!(
        market.extension_price("p", 1).await,
        Err(MarketFault::Unsupported(_))
    ));
    assert_eq!(market.price_changes().await, Ok(Vec::new()));
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
