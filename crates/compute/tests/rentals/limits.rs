//! Limits hold however many ask at once, and what runs ends before it meets one.

use crate::world::{Gateway, MINUTE, World, ann, limit, told, usd, wish};
use forebay_compute::rental::{Advice, ExtendRequest, QuoteRequest, RentalNews, Verdict, Whose, Why};
use forebay_domain::{
    id::TraceId,
    ledger::{Ask, BudgetRule, Enforcement, Payer, Purpose, PurposeKind, Scope, Window},
    money::{Usd, UsdRate},
};
use forebay_store::{
    ledger::{HoldRequest, Posting},
    rentals::RentalState,
};
use forebay_testkit::{
    db::TestDb,
    markets::{Answer, Fault, runpod::RunPod},
};
use futures_util::future::join_all;
use std::time::Duration;

#[tokio::test]
async fn of_fifty_at_once_as_many_are_rented_as_there_is_room_for() {
    for db in TestDb::both().await {
        let name = db.name();
        let world = World::<RunPod>::on(db).await;
        let gateway = world.gateway().await;
        let offer = gateway.offer("4090").await;
        let three = offer.rate.hourly().micros() * 3;
        limit(&gateway.store, &Usd::from_micros(three + 1_000).to_string());
        let asked = join_all((0..50).map(|_| gateway.rent(&offer.id))).await;
        let (rented, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(Result::is_ok);
        assert_eq!(rented.len(), 3, "{name}");
        for failure in refused {
            assert_eq!(failure.unwrap_err().code.as_str(), "spending_limit_exceeded", "{name}");
        }
        assert_eq!((world.fake.created(), world.fake.live()), (3, 3), "{name}");
        let standing = gateway.standing().await;
        assert!(standing.used() <= standing.window.limit, "{name}: {standing:?}");
        assert_eq!(gateway.rentals.list(&ann(), Whose::Mine, true).await.unwrap().len(), 3);
        gateway.close().await;
    }
}

/// What somebody spends on something else, without asking; until it is posted.
async fn spent_elsewhere(gateway: &Gateway, amount: Usd) {
    let before = gateway.standing().await.posted;
    gateway.store.ledger().post_soon(Posting {
        payer: Payer::from(&ann()),
        purpose: Purpose {
            kind: PurposeKind::Tool,
            name: "web_search".to_owned(),
        },
        amount,
        trace: TraceId::from_bytes([9; 16]).unwrap(),
        estimated: false,
    });
    while gateway.standing().await.posted < before.saturating_add(amount) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_spent_at_59_59_counts_for_a_machine_at_60_01() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    limit(&gateway.store, "50");
    let offer = gateway.offer("4090").await;
    world.clock.advance(59 * MINUTE + Duration::from_secs(59));
    spent_elsewhere(&gateway, usd("49.99")).await;
    world.clock.advance(Duration::from_secs(2));
    let refused = gateway.rent(&offer.id).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "spending_limit_exceeded");
    assert_eq!(world.fake.created(), 0, "an hour that begins anew is no new hour");
    world.clock.advance(60 * MINUTE);
    gateway.rent(&offer.id).await.unwrap();
    gateway.close().await;
}

#[tokio::test]
async fn real_money_needs_a_limit_first() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    gateway.store.ledger().configure(Vec::new());
    let request = QuoteRequest {
        offer: offer.id.clone(),
        image: None,
        disk_gb: None,
        lifetime: None,
        idle: None,
    };
    let quote = gateway.rentals.quote(&ann(), request.clone()).await.unwrap();
    assert_eq!(quote.advice, Advice::NoLimit);
    let refused = gateway.rent(&offer.id).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "no_spending_limit");
    // Whoever likes has a new session for the next machine.
    gateway.store.ledger().configure(vec![BudgetRule {
        scope: Scope::Session,
        of: None,
        window: Window::new(60, usd("50"), Enforcement::Hard).unwrap(),
    }]);
    let mut visitor = ann();
    visitor.session = Some("s1".parse().unwrap());
    let quote = gateway.rentals.quote(&visitor, request).await.unwrap();
    assert_eq!(quote.advice, Advice::NoLimit);
    let refused = gateway.rentals.create(&visitor, wish(&offer.id)).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "no_spending_limit");
    assert_eq!(world.fake.created(), 0);
    gateway.close().await;
}

#[tokio::test]
async fn what_runs_without_a_limit_gets_no_more_time() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 5 * MINUTE).await;
    gateway.store.ledger().configure(Vec::new());
    let request = ExtendRequest {
        by: 60 * MINUTE,
        idempotency_key: None,
    };
    let trial = gateway
        .rentals
        .try_extending(&ann(), &rental.id, request.clone())
        .await
        .unwrap();
    assert_eq!(trial.verdict, Verdict::Judged(Advice::NoLimit));
    let refused = gateway
        .rentals
        .extend(&ann(), &rental.id, request.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code.as_str(), "no_spending_limit");
    assert_eq!(gateway.get(&rental.id).await.ends_by, rental.ends_by);
    limit(&gateway.store, "50");
    let longer = gateway.rentals.extend(&ann(), &rental.id, request).await.unwrap();
    assert_eq!(longer.ends_by.duration_since(rental.ends_by).as_secs(), 3_600);
    gateway.close().await;
}

#[tokio::test]
async fn an_end_begins_before_the_limit_and_goes_on_for_as_long_as_it_fails() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    limit(&gateway.store, "1");
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 10 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Up);
    // Somebody else spends nearly all that is left, without asking.
    let used = gateway.standing().await.posted;
    let gap = rental.rate.cost_of(9 * MINUTE);
    spent_elsewhere(&gateway, usd("1").saturating_sub(used).saturating_sub(gap)).await;
    let mut news = gateway.rentals.news();
    world.fake.faults("destroy", Fault::Instead(Answer::empty(503)), None);
    while gateway.get(&rental.id).await.state == RentalState::Up {
        world.pass(&gateway, MINUTE).await;
        let posted = gateway.standing().await.posted;
        assert!(posted <= usd("1"), "the end begins before the limit: {posted}");
    }
    let ending = gateway.get(&rental.id).await;
    assert_eq!((ending.state, ending.why), (RentalState::Destroying, Some(Why::Limit)));
    assert_eq!(world.fake.seen_at("destroy").len(), 1, "and at once");
    let room = usd("1").saturating_sub(gateway.standing().await.posted);
    assert!(
        room >= rental.rate.cost_of(4 * MINUTE),
        "while there is time for it to fail: ${room}"
    );
    let begun = told(&mut news);
    assert!(begun.iter().any(|one| matches!(one, RentalNews::NearLimit { .. })));

    let before = ending.spent;
    world.pass(&gateway, 60 * MINUTE).await;
    let tried = world.fake.seen_at("destroy").len();
    assert!((55..=300).contains(&tried), "asked again all the while: {tried}");
    let alarms = told(&mut news);
    assert!(
        alarms
            .iter()
            .any(|one| matches!(one, RentalNews::DestroyFailing { failures, .. } if *failures >= 50))
    );
    let later = gateway.get(&rental.id).await;
    assert_eq!((later.state, world.fake.live()), (RentalState::Destroying, 1));
    let hour = rental.rate.hourly();
    assert!(
        later.spent.saturating_sub(before) >= hour.saturating_sub(usd("0.01")),
        "what it costs is posted all the same"
    );

    world.fake.no_more_faults();
    world.pass(&gateway, 3 * MINUTE).await;
    let gone = gateway.get(&rental.id).await;
    assert_eq!((gone.state, world.fake.live()), (RentalState::Gone, 0));
    assert_eq!(gateway.standing().await.held, Usd::ZERO);
    gateway.close().await;
}

#[tokio::test]
async fn a_machine_that_always_fits_runs_on() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let hour = offer.rate.hourly();
    // A quarter of an hour more than what an hour costs.
    limit(
        &gateway.store,
        &hour.saturating_add(offer.rate.cost_of(15 * MINUTE)).to_string(),
    );
    let rental = gateway.rent(&offer.id).await.unwrap();
    for _ in 0..30 {
        world.pass(&gateway, 5 * MINUTE).await;
        let standing = gateway.standing().await;
        assert!(standing.used() <= standing.window.limit, "{standing:?}");
    }
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Up);
    gateway.close().await;
}

/// Somebody sets all aside that is left, for long.
async fn takes_the_rest<V: crate::world::Known>(world: &World<V>, gateway: &Gateway) {
    let rest = gateway.standing().await.remaining();
    if rest == Usd::ZERO {
        return;
    }
    let request = HoldRequest {
        payer: Payer::from(&ann()),
        purpose: Purpose {
            kind: PurposeKind::Model,
            name: "chat".to_owned(),
        },
        ask: Ask {
            amount: rest,
            rate: UsdRate::ZERO,
        },
        trace: TraceId::from_bytes([9; 16]).unwrap(),
        idempotency_key: None,
        lapses_at: world.clock.now() + 600 * MINUTE,
        needs_limit: false,
    };
    gateway.store.ledger().hold(request).await.unwrap();
}

#[tokio::test]
async fn a_limit_that_is_lowered_below_what_runs_is_not_passed_though_others_take_the_rest() {
    for db in TestDb::both().await {
        let name = db.name();
        let world = World::<RunPod>::on(db).await;
        let gateway = world.gateway().await;
        let offer = gateway.offer("4090").await;
        let rental = gateway.rent(&offer.id).await.unwrap();
        world.pass(&gateway, 10 * MINUTE).await;
        // An hour of it alone is more than that, and more is set aside than is left.
        limit(&gateway.store, &rental.rate.cost_of(54 * MINUTE).to_string());
        world.pass(&gateway, MINUTE).await;
        let mut minutes = 0;
        while gateway.get(&rental.id).await.state == RentalState::Up {
            takes_the_rest(&world, &gateway).await;
            world.pass(&gateway, MINUTE).await;
            let standing = gateway.standing().await;
            assert!(
                standing.used() <= standing.window.limit,
                "{name}, minute {minutes}: {standing:?}"
            );
            minutes += 1;
            assert!(minutes < 60, "{name}: its end never began");
        }
        let ending = gateway.get(&rental.id).await;
        assert_eq!(ending.why, Some(Why::Limit), "{name}");
        world.pass(&gateway, 2 * MINUTE).await;
        assert_eq!(gateway.get(&rental.id).await.state, RentalState::Gone, "{name}");
        let standing = gateway.standing().await;
        assert!(standing.used() <= standing.window.limit, "{name}: {standing:?}");
        gateway.close().await;
    }
}

#[tokio::test]
async fn what_still_fits_a_lowered_limit_runs_until_that_is_met() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 10 * MINUTE).await;
    limit(&gateway.store, &rental.rate.cost_of(40 * MINUTE).to_string());
    let mut minutes = 0_u32;
    while gateway.get(&rental.id).await.state == RentalState::Up {
        world.pass(&gateway, MINUTE).await;
        minutes += 1;
        assert!(minutes < 60, "its end never began");
    }
    // Six minutes before the limit is met, give or take a look.
    assert!((22..=25).contains(&minutes), "{minutes}");
    world.pass(&gateway, 2 * MINUTE).await;
    let standing = gateway.standing().await;
    assert!(standing.used() <= standing.window.limit, "{standing:?}");
    gateway.close().await;
}

#[tokio::test]
async fn machines_that_fit_with_less_set_aside_make_room_for_one_another() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let (one, two) = (
        gateway.rent(&offer.id).await.unwrap(),
        gateway.rent(&offer.id).await.unwrap(),
    );
    world.pass(&gateway, 2 * MINUTE).await;
    // An hour of each is set aside; now there is room for a quarter of one.
    limit(&gateway.store, &one.rate.cost_of(25 * MINUTE).to_string());
    world.pass(&gateway, MINUTE).await;
    for rental in [&one, &two] {
        assert_eq!(gateway.get(&rental.id).await.state, RentalState::Up);
    }
    let standing = gateway.standing().await;
    assert!(standing.used() <= standing.window.limit, "{standing:?}");
    gateway.close().await;
}

/// Of what a limit leaves, how near was told, and whether its end had begun by then.
fn warned(news: &[RentalNews]) -> Vec<RentalState> {
    let near = |one: &RentalNews| match one {
        RentalNews::NearLimit { rental, .. } => Some(rental.state),
        _ => None,
    };
    news.iter().filter_map(near).collect()
}

#[tokio::test]
async fn at_eighty_percent_somebody_is_told_once_and_again_after_it_was_at_ease() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let of = |minutes: u32| offer.rate.cost_of(minutes * MINUTE);
    limit(&gateway.store, &of(200).to_string());
    // That leaves the window half an hour after the machine was rented.
    spent_elsewhere(&gateway, of(135)).await;
    world.clock.advance(30 * MINUTE);
    let rental = gateway.rent(&offer.id).await.unwrap();
    let mut news = gateway.rentals.news();
    world.pass(&gateway, 20 * MINUTE).await;
    let posted = gateway.standing().await.posted;
    assert!(posted > of(150) && posted < of(160), "{posted}");
    assert_eq!(warned(&told(&mut news)), [], "below 80 percent");
    world.pass(&gateway, 6 * MINUTE).await;
    assert_eq!(warned(&told(&mut news)), [RentalState::Up], "told while it runs");
    world.pass(&gateway, 2 * MINUTE).await;
    assert_eq!(warned(&told(&mut news)), [], "and once");
    // An hour fits again, and then no longer.
    world.pass(&gateway, 4 * MINUTE).await;
    assert!(gateway.standing().await.posted < of(40));
    spent_elsewhere(&gateway, of(132)).await;
    world.pass(&gateway, 2 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Up);
    assert_eq!(warned(&told(&mut news)), [RentalState::Up], "told again");
    gateway.close().await;
}
