//! What is ordered, and what becomes of it.

use super::*;

#[tokio::test]
async fn what_is_ordered_arrives_and_secrets_stay_secret() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let id = rented(&fake, &market, BOOT).await;
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
async fn a_partners_text_stays_a_text() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let offer = "caas:gpu_1x_l40:1:FI".to_owned();
    let created = market
        .create(&Order {
            offer,
            ..fake::IoNet::order(0)
        })
        .await;
    assert!(matches!(created, Created::Confirmed { .. }), "{created:?}");
    let asked = fake.seen_at("deploy")[0].json();
    assert_eq!(
        (&asked["hardware_id"], &asked["location_ids"]),
        (&json!("gpu_1x_l40"), &json!(["FI"]))
    );
}

#[tokio::test]
async fn an_order_is_placed_once_whatever_becomes_of_it() {
    let own = [
        ("not-found", "ambiguous", 0),
        ("error-with-id", "ambiguous with id", 1),
        ("payment-required-id", "ambiguous with id", 1),
        ("payment-required", "refused NoCredit", 0),
        ("no-credit", "refused NoCredit", 0),
        ("no-credit-403", "refused NoCredit", 0),
        ("rate-limited", "refused RateLimited", 0),
        ("rate-limited-bare", "refused RateLimited", 0),
        ("locked-out", "refused LockedOut", 0),
    ];
    is_placed_once::<fake::IoNet>(&own, |_, _, _| {}).await;
}

#[tokio::test]
async fn nothing_is_ordered_where_the_offer_or_the_provider_is_not_there() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let at = |offer: &str| Order {
        offer: offer.to_owned(),
        ..fake::IoNet::order(0)
    };
    for gone in ["caas:999:1:US", "caas:203:1:JP", "nonsense"] {
        assert_eq!(said(&market.create(&at(gone)).await), "refused OfferGone", "{gone}");
    }
    let two = Order {
        ports: vec![80, 81],
        ..fake::IoNet::order(0)
    };
    assert_eq!(said(&market.create(&two).await), "refused Unsupported");
    fake.fault("places", named::<fake::IoNet>("html-502"));
    assert_eq!(said(&market.create(&fake::IoNet::order(0)).await), "refused Broken");
    fake.with(|vendor| vendor.credit = 100_000);
    assert_eq!(said(&market.create(&fake::IoNet::order(0)).await), "refused NoCredit");
    assert_eq!(
        (fake.seen_at("deploy").len(), fake.created()),
        (1, 0),
        "only the last one was asked for"
    );
    let url = fake.url();
    drop(fake);
    assert_eq!(
        said(&fake::IoNet::client(&url).create(&fake::IoNet::order(0)).await),
        "refused Unreachable"
    );
}

#[tokio::test]
async fn an_order_that_is_given_up_on_can_be_found() {
    is_found_though_given_up::<fake::IoNet>().await;
}

#[tokio::test]
async fn who_asks_for_fewer_requests_gets_fewer() {
    let (fake, market) = kind::<fake::IoNet>().await;
    fake.fault("list", named::<fake::IoNet>("rate-limited"));
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
    assert_eq!(
        said(&market.create(&fake::IoNet::order(0)).await),
        "refused RateLimited"
    );
    assert_eq!(
        (fake.seen_at("list").len(), fake.seen_at("deploy").len()),
        (1, 0),
        "nothing was sent"
    );
}
