//! Prices that rise in mid-run: told, accepted by nobody, and counted by every guard rail as soon as they are seen.

use crate::world::{Gateway, LOOK, MINUTE, World, ann, limit, told, usd};
use forebay_compute::rental::{RentalNews, Why};
use forebay_domain::{
    ledger::Standing,
    money::{Usd, UsdRate},
};
use forebay_store::rentals::RentalState;
use forebay_testkit::markets::{runpod::RunPod, vast::Vast};

/// The prices that somebody was told of.
fn rises(news: &[RentalNews]) -> Vec<(String, UsdRate, bool)> {
    let rise = |one: &RentalNews| match one {
        RentalNews::PriceRise { rental, to, at } => Some((rental.id.clone(), *to, at.is_some())),
        _ => None,
    };
    news.iter().filter_map(rise).collect()
}

fn within(standing: &Standing) {
    assert!(standing.used() <= standing.window.limit, "{standing:?}");
}

/// What the ledger counts is what the provider charges, but for what passes between two looks.
async fn counts_as_charged(world: &World<RunPod>, gateway: &Gateway, burn: UsdRate) {
    let now = world.clock.now();
    let charged = world.fake.with(|runpod| {
        forebay_testkit::markets::Vendor::pass(runpod, now);
        runpod.pods[0].cost()
    });
    let posted = gateway.standing().await.posted;
    let most = burn.cost_of(2 * LOOK).micros() + 10;
    let beyond = posted.micros() - charged;
    assert!((-10..=most).contains(&beyond), "posted {posted}, charged {charged}");
}

#[tokio::test]
async fn dearer_than_agreed_is_told_and_counted_and_ends_before_the_limit() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    // An hour ahead fits beside half of one.
    limit(&gateway.store, &offer.rate.cost_of(90 * MINUTE).to_string());
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 10 * MINUTE).await;
    assert_eq!(gateway.standing().await.burn, rental.rate);
    let mut news = gateway.rentals.news();
    world.fake.with(|runpod| runpod.pods[0].gpu_price *= 3);
    world.pass(&gateway, MINUTE).await;
    let told = rises(&told(&mut news));
    let [(id, to, is_later)] = told.as_slice() else {
        panic!("told once: {told:?}");
    };
    assert_eq!((id, *is_later), (&rental.id, false));
    assert!(*to > rental.rate, "{to:?}");
    assert_eq!(
        gateway.standing().await.burn,
        *to,
        "what is let in beside it is judged by it"
    );
    let shown = gateway.get(&rental.id).await;
    assert_eq!(shown.rate, rental.rate, "nothing was accepted");
    assert_eq!(shown.burn, *to, "its owner sees both");
    counts_as_charged(&world, &gateway, *to).await;

    let mut minutes = 0;
    while gateway.get(&rental.id).await.state == RentalState::Up {
        world.pass(&gateway, MINUTE).await;
        within(&gateway.standing().await);
        minutes += 1;
        assert!(minutes < 60, "its end never began");
    }
    assert_eq!(gateway.get(&rental.id).await.why, Some(Why::Limit));
    counts_as_charged(&world, &gateway, *to).await;
    world.pass(&gateway, 2 * MINUTE).await;
    assert_eq!(
        (gateway.get(&rental.id).await.state, world.fake.live()),
        (RentalState::Gone, 0)
    );
    within(&gateway.standing().await);
    gateway.close().await;
}

#[tokio::test]
async fn a_rise_that_leaves_no_time_ends_it_with_the_look_that_shows_it() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    limit(&gateway.store, &offer.rate.cost_of(90 * MINUTE).to_string());
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 5 * MINUTE).await;
    world.fake.with(|runpod| runpod.pods[0].gpu_price *= 20);
    world.pass(&gateway, LOOK).await;
    let ending = gateway.get(&rental.id).await;
    assert_eq!(ending.why, Some(Why::Limit), "{:?}", ending.state);
    assert_eq!(world.fake.live(), 0);
    world.pass(&gateway, 2 * MINUTE).await;
    within(&gateway.standing().await);
    gateway.close().await;
}

#[tokio::test]
async fn a_price_that_falls_again_costs_what_it_cost_while_it_was_high() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 10 * MINUTE).await;
    let agreed = world.fake.with(|runpod| runpod.pods[0].gpu_price);
    world.fake.with(|runpod| runpod.pods[0].gpu_price = agreed * 2);
    world.pass(&gateway, 10 * MINUTE).await;
    let high = gateway.standing().await.burn;
    world.fake.with(|runpod| runpod.pods[0].gpu_price = agreed / 2);
    world.pass(&gateway, 10 * MINUTE).await;
    let standing = gateway.standing().await;
    assert_eq!(standing.burn, rental.rate, "never below what was agreed on");
    let of = |rate: UsdRate| rate.cost_of(10 * MINUTE);
    let exact = of(rental.rate).saturating_add(of(rental.rate)).saturating_add(of(high));
    let beyond = standing.posted.saturating_sub(exact);
    assert!(
        beyond >= Usd::ZERO && beyond <= high.cost_of(2 * LOOK),
        "{} for {exact}",
        standing.posted
    );
    // In the end its bill counts.
    gateway.rentals.destroy(&ann(), &rental.id).await.unwrap();
    world.pass(&gateway, 60 * MINUTE).await;
    let charged = world.fake.with(|runpod| runpod.pods[0].cost());
    let spent = gateway.get(&rental.id).await.spent.micros();
    assert!((spent - charged).abs() <= 1_000, "posted {spent}, charged {charged}");
    gateway.close().await;
}

#[tokio::test]
async fn a_rise_that_is_to_come_is_told_and_accepted_by_nobody() {
    let world = World::<Vast>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    let id: u64 = rental.machine.as_ref().unwrap().parse().unwrap();
    world.pass(&gateway, 2 * MINUTE).await;
    let mut news = gateway.rentals.news();
    world.fake.with(|vast| vast.raise_price(id, 2));
    world.pass(&gateway, 11 * MINUTE).await;
    let told = rises(&told(&mut news));
    assert!(!told.is_empty(), "somebody is told");
    for (whose, to, is_later) in told {
        assert_eq!((&whose, is_later), (&rental.id, true));
        assert!(to > rental.rate && to.hourly() < usd("2"), "{to:?}");
    }
    assert_eq!(
        gateway.standing().await.burn,
        rental.rate,
        "it costs as agreed until then"
    );
    let answered = world.fake.seen_at("accept").len() + world.fake.seen_at("reject").len();
    assert_eq!(answered, 0);
    gateway.close().await;
}
