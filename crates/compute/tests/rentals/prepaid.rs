//! Time that is paid before it begins: posted once the machine is there, given back when it ends early, and bought only
//! where it fits.

use crate::world::{MINUTE, World, ann, limit, usd, wish};
use forebay_compute::rental::{ExtendRequest, Mode, Step, Whose, Why};
use forebay_domain::money::Usd;
use forebay_store::rentals::RentalState;
use forebay_testkit::markets::{
    Fault,
    ionet::{IoNet, Phase},
};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn what_is_given_back_leaves_no_room_that_was_never_there() {
    let world = World::<IoNet>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let mut long = wish(&offer.id);
    long.lifetime = Some(4 * HOUR);
    let rental = gateway.create(long).await.unwrap();
    let paid = gateway.standing().await.posted;
    assert_eq!(paid, offer.rate.cost_of(4 * HOUR), "all of it is posted at once");
    assert_eq!(gateway.standing().await.held, Usd::ZERO);
    world.pass(&gateway, 30 * MINUTE).await;
    assert_eq!(gateway.standing().await.posted, paid, "and no more while it runs");
    gateway.rentals.destroy(&ann(), &rental.id).await.unwrap();
    world.pass(&gateway, 15 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Gone);
    let kept = gateway.standing().await.posted;
    let first_hour = offer.rate.hourly();
    assert!(
        kept >= first_hour && kept < offer.rate.cost_of(2 * HOUR),
        "{kept} of {paid} is kept"
    );
    // An hour after it was paid it counts no longer, and nor does what was given back.
    world.pass(&gateway, 20 * MINUTE).await;
    let later = gateway.standing().await;
    assert_eq!(later.posted, Usd::ZERO, "no phantom headroom");
    gateway.close().await;
}

/// Whoever asked for its end dies before the answer: the next process asks again, and what was not used comes back once.
#[tokio::test]
async fn death_while_a_machine_is_ended_gives_back_what_was_not_used() {
    for fault in [Fault::Held, Fault::HeldAfter] {
        let what = format!("{fault:?}");
        let world = World::<IoNet>::sqlite().await;
        let gateway = world.gateway().await;
        let offer = gateway.offer("4090").await;
        let mut long = wish(&offer.id);
        long.lifetime = Some(4 * HOUR);
        let rental = gateway.create(long).await.unwrap();
        world.pass(&gateway, 30 * MINUTE).await;
        world.fake.fault("destroy", fault.clone());
        let ann = ann();
        tokio::select! {
            done = gateway.rentals.destroy(&ann, &rental.id) => panic!("{what}: it was answered: {done:?}"),
            () = world.fake.asked("destroy", 1) => {}
        }
        while fault == Fault::HeldAfter && world.fake.with(|ionet| ionet.deployments[0].phase == Phase::Running) {
            tokio::task::yield_now().await;
        }
        gateway.die().await;

        let next = world.gateway().await;
        let found = next.get(&rental.id).await;
        assert_eq!(
            (found.state, found.why),
            (RentalState::Destroying, Some(Why::Asked)),
            "{what}"
        );
        world.pass(&next, 15 * MINUTE).await;
        let gone = next.get(&rental.id).await;
        assert_eq!((gone.state, gone.why), (RentalState::Gone, Some(Why::Asked)), "{what}");
        assert_eq!((world.fake.created(), world.fake.live()), (1, 0), "{what}");
        let is_asked_again = world.fake.seen_at("destroy").len() >= 2;
        assert!(is_asked_again || fault == Fault::HeldAfter, "{what}");
        let standing = next.standing().await;
        let (first_hour, second) = (offer.rate.hourly(), offer.rate.cost_of(2 * HOUR));
        assert!(
            standing.posted >= first_hour && standing.posted < second,
            "{what}: {} is kept",
            standing.posted
        );
        assert_eq!((standing.held, standing.posted), (Usd::ZERO, gone.spent), "{what}");
        next.close().await;
    }
}

/// One container has one address, and nothing is written down or set aside for a wish that cannot be had.
#[tokio::test]
async fn ports_beyond_what_can_be_reached_are_refused_at_once() {
    let world = World::<IoNet>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    for mode in [Mode::DryRun, Mode::Do] {
        let mut two = wish(&offer.id);
        (two.ports, two.mode) = (vec![80, 81], mode);
        let refused = gateway.rentals.create(&ann(), two).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "invalid_arguments", "{refused:?}");
        assert!(refused.message.contains("at most 1"), "{refused:?}");
    }
    let all = gateway.rentals.list(&ann(), Whose::Mine, true).await.unwrap();
    assert!(all.is_empty(), "{all:?}");
    gateway.close().await;
}

#[tokio::test]
async fn more_time_is_gated_bought_once_and_found_out() {
    let world = World::<IoNet>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 5 * MINUTE).await;
    let paid = gateway.standing().await.posted;
    limit(&gateway.store, &paid.saturating_add(usd("0.01")).to_string());
    let refused = gateway.rentals.extend(&ann(), &rental.id, HOUR).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "spending_limit_exceeded");
    assert_eq!(world.fake.seen_at("extend").len(), 0, "nobody was asked");

    limit(&gateway.store, "100");
    let named = || ExtendRequest {
        by: HOUR,
        idempotency_key: Some("an hour".to_owned()),
    };
    let longer = gateway.rentals.extend(&ann(), &rental.id, named()).await.unwrap();
    let again = gateway.rentals.extend(&ann(), &rental.id, named()).await.unwrap();
    assert_eq!((again.ends_by, world.fake.seen_at("extend").len()), (longer.ends_by, 1));
    assert_eq!(longer.ends_by.duration_since(rental.ends_by).as_secs(), 3_600);
    let twice = gateway.standing().await.posted;
    assert!(twice > paid, "{twice} after {paid}");

    world.fake.fault("extend", Fault::DropAfter);
    let unclear = gateway.rentals.extend(&ann(), &rental.id, HOUR).await.unwrap_err();
    assert_eq!(unclear.code.as_str(), "upstream_failed");
    assert!(gateway.standing().await.held > Usd::ZERO, "it stays set aside");
    let again = gateway.rentals.extend(&ann(), &rental.id, HOUR).await.unwrap_err();
    assert_eq!(again.code.as_str(), "conflict");
    world.pass(&gateway, 5 * MINUTE).await;
    let found = gateway.get(&rental.id).await;
    assert_eq!(found.ends_by.duration_since(longer.ends_by).as_secs(), 3_600);
    let standing = gateway.standing().await;
    assert_eq!(standing.held, Usd::ZERO);
    assert!(standing.posted > twice);
    assert_eq!(world.fake.seen_at("extend").len(), 2);
    gateway.close().await;
}

#[tokio::test]
async fn time_that_nobody_was_asked_for_is_let_go() {
    for step in [Step::Intended, Step::Held] {
        let world = World::<IoNet>::sqlite().await;
        let gateway = world.gateway().await;
        let offer = gateway.offer("4090").await;
        let rental = gateway.rent(&offer.id).await.unwrap();
        let paid = gateway.standing().await.posted;
        let (ann, dying) = (ann(), world.dying_at(step).await);
        tokio::select! {
            done = dying.rentals.extend(&ann, &rental.id, HOUR) => panic!("it did not die: {done:?}"),
            () = dying.rentals.died() => {}
        }
        assert_eq!(gateway.standing().await.held > Usd::ZERO, step == Step::Held);
        dying.die().await;
        world.pass(&gateway, 4 * MINUTE).await;
        let standing = gateway.standing().await;
        assert_eq!((standing.held, standing.posted), (Usd::ZERO, paid), "{step:?}");
        assert_eq!(world.fake.seen_at("extend").len(), 0);
        let longer = gateway.rentals.extend(&ann, &rental.id, HOUR).await.unwrap();
        assert_eq!(
            longer.ends_by.duration_since(rental.ends_by).as_secs(),
            3_600,
            "it can be tried again"
        );
        gateway.close().await;
    }
}

#[tokio::test]
async fn more_time_is_bought_though_whoever_asked_has_gone_away() {
    let world = World::<IoNet>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.fake.fault("extend", Fault::Held);
    let ann = ann();
    tokio::select! {
        done = gateway.rentals.extend(&ann, &rental.id, HOUR) => panic!("it was answered: {done:?}"),
        () = world.fake.asked("extend", 1) => {}
    }
    let mut changed = gateway.rentals.watch();
    world.fake.open_gate();
    while gateway.get(&rental.id).await.ends_by == rental.ends_by {
        changed.changed().await.unwrap();
    }
    assert_eq!(gateway.standing().await.held, Usd::ZERO);
    assert_eq!(world.fake.seen_at("extend").len(), 1);
    gateway.close().await;
}
