//! How often vast.ai is asked: no oftener than it documents, and not at all while it wants to be left alone.

use super::world::World;
use forebay_compute::market::{Created, Market, MarketFault, Order, Wanted};
use std::time::Duration;
use tokio::time::Instant;

/// The fake refuses whatever is above the documented rates. It has nothing to refuse.
#[tokio::test(start_paused = true)]
async fn the_documented_rates_are_kept() {
    let world = World::with(200).await;
    world.fake.with(|vast| vast.enforces_rates = true);
    let wanted = Wanted {
        disk_gb: 50,
        limit: 1_000,
        ..Wanted::default()
    };
    assert!(world.market.offers(&wanted).await.unwrap().len() > 150);
    for label in ["fb:acme:1", "fb:acme:2"] {
        let offer = world.cheapest().await;
        let order = Order {
            offer: offer.id.id().to_owned(),
            ..super::world::order(label)
        };
        let created = world.market.create(&order).await;
        let Created::Confirmed { id } = created else {
            panic!("{created:?}");
        };
        for _ in 0..3 {
            assert!(world.market.machine(&id).await.unwrap().is_some());
        }
    }
    let now = world.fake.now();
    world
        .fake
        .with(|vast| (0..60).map(|_| vast.add_stranger("by-hand", now)).last());
    assert_eq!(world.market.machines().await.unwrap().len(), 62);
    for machine in world.market.machines().await.unwrap().iter().take(4) {
        world.market.destroy(&machine.id).await.unwrap();
    }
    let creates = world.fake.seen_at("create");
    assert!(creates[1].at - creates[0].at >= Duration::from_millis(4_500));
}

/// Ten searches a minute, in any minute. Whoever lists leaves some of them to those who rent.
#[tokio::test(start_paused = true)]
async fn an_eleventh_search_of_a_minute_is_not_sent() {
    let world = World::new().await;
    world.fake.with(|vast| vast.enforces_rates = true);
    let wanted = Wanted {
        limit: 10,
        ..Wanted::default()
    };
    for _ in 0..6 {
        world.market.offers(&wanted).await.unwrap();
    }
    assert!(!world.market.offers(&wanted).await.unwrap().is_empty());
    assert_eq!(
        world.fake.seen_at("search").len(),
        6,
        "the rest is for quotes and orders"
    );
    for _ in 0..4 {
        assert!(world.market.offer("21874411", 50).await.unwrap().is_some());
    }
    let fault = world.market.offer("21874411", 50).await.unwrap_err();
    assert!(
        matches!(fault, MarketFault::RateLimited { retry_after: Some(after) } if after.as_secs() > 50),
        "{fault:?}"
    );
    assert_eq!(world.fake.seen_at("search").len(), 10);
}

#[tokio::test(start_paused = true)]
async fn who_says_when_to_ask_again_is_asked_again_then() {
    for (fault, seconds) in [("429-header", 2.5), ("429-body", 3.0)] {
        let world = World::new().await;
        let id = world.rented("fb:acme:1").await;
        world.fault("show", fault, Some(1));
        assert!(world.market.machine(&id).await.unwrap().is_some());
        let asked = world.fake.seen_at("show");
        assert_eq!(asked.len(), 2, "{fault}");
        let apart = (asked[1].at - asked[0].at).as_secs_f64();
        assert!((apart - seconds).abs() < 0.1, "{fault}: {apart}");
    }
}

/// A storm of refusals: fewer and fewer requests, and no answer is a list.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_is_left_alone_longer_and_longer() {
    let world = World::new().await;
    world.rented("fb:acme:1").await;
    world.fault("list", "429-text", None);
    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(10) {
        let fault = world.market.machines().await.unwrap_err();
        assert!(matches!(fault, MarketFault::RateLimited { .. }), "{fault:?}");
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    let times: Vec<u64> = world
        .fake
        .seen_at("list")
        .iter()
        .map(|seen| (seen.at - began).as_secs())
        .collect();
    let apart: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(apart.is_sorted() && apart[0] >= 10, "{apart:?}");
    assert!(times.len() <= 9, "{times:?}");
    world.fake.no_more_faults();
    tokio::time::advance(Duration::from_mins(2)).await;
    assert_eq!(world.market.machines().await.unwrap().len(), 1);
}

/// The fake's midnight is the client's: both clocks stand at the begin of a day.
#[tokio::test(start_paused = true)]
async fn the_searches_of_a_day_are_not_asked_for_again() {
    let world = World::new().await;
    world.fault("search", "429-quota", None);
    for _ in 0..3 {
        let fault = world.market.offer("21874411", 50).await.unwrap_err();
        let MarketFault::RateLimited {
            retry_after: Some(after),
        } = fault
        else {
            panic!("{fault:?}");
        };
        assert!(after > Duration::from_mins(59), "{after:?}");
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert_eq!(world.fake.seen_at("search").len(), 1);
}

/// One create in four and a half seconds. Some wait; whoever would wait for too long is refused before anything is sent.
#[tokio::test(start_paused = true)]
async fn creates_wait_for_each_other_and_none_is_sent_too_soon() {
    let world = World::with(20).await;
    world.fake.with(|vast| vast.enforces_rates = true);
    let orders: Vec<Order> = (0..10)
        .map(|number| Order {
            offer: (21_874_411 + 17 * number).to_string(),
            ..super::world::order(&format!("fb:acme:{number}"))
        })
        .collect();
    let created = futures_util::future::join_all(orders.iter().map(|order| world.market.create(order))).await;
    let (confirmed, others): (Vec<_>, Vec<_>) = created
        .into_iter()
        .partition(|created| matches!(created, Created::Confirmed { .. }));
    assert_eq!(confirmed.len(), 7);
    for other in others {
        assert!(
            matches!(other, Created::Refused(MarketFault::RateLimited { .. })),
            "{other:?}"
        );
    }
    assert_eq!((world.fake.created(), world.fake.seen_at("create").len()), (7, 7));
}
