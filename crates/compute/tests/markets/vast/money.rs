//! What was charged, by the provider's own account, and prices that are to rise.

use super::world::{World, hourly};
use forebay_compute::market::{ChargeQuery, Market, MarketFault};
use forebay_domain::money::Usd;
use std::time::Duration;

fn query(world: &World, id: &str) -> ChargeQuery {
    ChargeQuery {
        id: id.to_owned(),
        label: "fb:acme:1".to_owned(),
        since: forebay_testkit::markets::START.parse().unwrap(),
        until: world.fake.now(),
        paid_before: None,
        is_last: false,
    }
}

#[tokio::test(start_paused = true)]
async fn all_days_of_one_machine_are_added_up_and_no_other() {
    let world = World::new().await;
    world.fake.with(|vast| vast.boot_step = Duration::ZERO);
    let id = world.rented("fb:acme:1").await;
    let now = world.fake.now();
    world.fake.with(|vast| vast.add_stranger("fb:acme:2", now));
    world.fake.advance(Duration::from_hours(36));
    let charged = world
        .market
        .charged(&query(&world, &id))
        .await
        .unwrap()
        .expect("it says");
    let exact = hourly("0.399416667").cost_of(Duration::from_hours(36));
    assert!(
        (charged.micros() - exact.micros()).abs() <= 2_000,
        "{charged} of {exact}"
    );
    let whole = world.fake.with(|vast| vast.charged(id.parse().unwrap()));
    assert!(
        (charged.micros() - whole.micros()).abs() <= 1_000,
        "{charged} of {whole}"
    );

    // What is gone has still been charged.
    world.market.destroy(&id).await.unwrap();
    world.fake.advance(Duration::from_hours(48));
    let after = world.market.charged(&query(&world, &id)).await.unwrap();
    assert_eq!(after, Some(charged));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_said_yet_is_not_nothing() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    world.fake.advance(Duration::from_hours(1));
    world.fake.with(|vast| vast.charges_are_late = true);
    assert_eq!(world.market.charged(&query(&world, &id)).await, Ok(None));
    world.fault("charges", "garbage", Some(1));
    assert!(matches!(
        world.market.charged(&query(&world, &id)).await,
        Err(MarketFault::Broken(_))
    ));
}

/// Who has posted more than a bill says gives nothing back before the bill is whole.
#[tokio::test(start_paused = true)]
async fn a_part_of_a_bill_is_not_believed_at_once() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    world.fake.advance(Duration::from_hours(36));
    let whole = world.market.charged(&query(&world, &id)).await.unwrap().unwrap();
    world.market.destroy(&id).await.unwrap();
    let posted = whole.saturating_add(Usd::from_micros(100_000));
    let ask = |is_last| ChargeQuery {
        paid_before: Some(posted),
        is_last,
        ..query(&world, &id)
    };
    world.fake.with(|vast| vast.charge_days_missing = 1);
    assert_eq!(world.market.charged(&ask(false)).await, Ok(None), "a day of two");
    world.fake.with(|vast| vast.charge_days_missing = 0);
    assert_eq!(world.market.charged(&ask(false)).await, Ok(None), "it has just changed");
    assert_eq!(world.market.charged(&ask(false)).await, Ok(Some(whole)), "said twice");

    let anew = || super::world::client(&world.fake.url(), forebay_testkit::markets::vast::KEY);
    assert_eq!(
        anew().charged(&ask(false)).await,
        Ok(None),
        "who begins anew asks twice too"
    );
    assert_eq!(anew().charged(&ask(true)).await, Ok(Some(whole)), "nobody asks again");
    let more = ChargeQuery {
        paid_before: Some(Usd::ZERO),
        ..ask(false)
    };
    assert_eq!(
        anew().charged(&more).await,
        Ok(Some(whole)),
        "what is dearer counts at once"
    );
}

#[tokio::test(start_paused = true)]
async fn pages_of_charges_are_numbered_or_named() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    world.fake.advance(Duration::from_hours(60));
    let whole = world.market.charged(&query(&world, &id)).await.unwrap();
    world.fake.with(|vast| vast.charge_page = 1);
    for is_number in [false, true] {
        world.fake.with(|vast| vast.has_number_tokens = is_number);
        assert_eq!(
            world.market.charged(&query(&world, &id)).await,
            Ok(whole),
            "number: {is_number}"
        );
    }
    assert_eq!(world.fake.seen_at("charges").len(), 1 + 3 + 3);
}

#[tokio::test(start_paused = true)]
async fn a_rise_is_shown_with_its_hourly_rates_and_accepted_by_nobody() {
    let world = World::new().await;
    assert_eq!(world.market.price_changes().await, Ok(Vec::new()));
    let id = world.rented("fb:acme:1").await;
    world.fake.with(|vast| vast.raise_price(id.parse().unwrap(), 2));
    let changes = world.market.price_changes().await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].id, id);
    let near = |rate: forebay_domain::money::UsdRate, text: &str| {
        let wanted: Usd = text.parse().unwrap();
        (rate.hourly().micros() - wanted.micros()).abs() <= 1
    };
    assert!(near(changes[0].from, "0.399417"), "{changes:?}");
    assert!(near(changes[0].to, "0.788417"), "{changes:?}");
    assert!(world.fake.seen_at("accept").is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_paid_before_it_runs() {
    let world = World::new().await;
    assert!(matches!(
        world.market.extend("1", 1).await,
        Err(MarketFault::Unsupported(_))
    ));
    assert!(matches!(
        world.market.extension_price("1", 1).await,
        Err(MarketFault::Unsupported(_))
    ));
    assert!(world.fake.seen().is_empty());
}
