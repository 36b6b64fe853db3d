//! A process that dies at any point of renting leaves one machine that is tracked, or none and nothing held.

use crate::world::{Known, MINUTE, World, ann, limit, named, usd, wish};
use forebay_compute::rental::{Paying, Rental, RentalNews, Step, Whose, Why};
use forebay_domain::money::Usd;
use forebay_store::rentals::RentalState;
use forebay_testkit::{
    db::TestDb,
    markets::{Fault, ionet::IoNet, runpod::RunPod, vast::Vast},
};

/// What a process that starts anew makes of it.
async fn after_a_restart<V: Known>(world: &World<V>, what: &str) -> Rental {
    let gateway = world.gateway().await;
    world.pass(&gateway, 9 * MINUTE).await;
    let all = gateway.rentals.list(&ann(), Whose::Mine, false).await.unwrap();
    assert_eq!(all.len(), 1, "{what}");
    let rental = all[0].clone();
    let standing = gateway.standing().await;
    let (created, live) = (world.fake.created(), world.fake.live());
    match rental.state {
        RentalState::Up => {
            assert_eq!((created, live), (1, 1), "{what}: one machine");
            let is_held = rental.paying == Paying::Prepaid || standing.held > Usd::ZERO;
            assert!(rental.machine.is_some() && is_held, "{what}");
            assert!(standing.posted > Usd::ZERO, "{what}: it costs from its first moment");
        }
        RentalState::Refused => {
            assert_eq!((created, live), (0, 0), "{what}: no machine");
            assert_eq!(
                (standing.held, standing.posted),
                (Usd::ZERO, Usd::ZERO),
                "{what}: nothing held"
            );
        }
        state => panic!("{what}: {state:?}"),
    }
    gateway.close().await;
    rental
}

async fn dies_after_any_step<V: Known>() {
    for step in Step::ALL {
        for db in TestDb::both().await {
            let what = format!("{step:?} on {}", db.name());
            let world = World::<V>::on(db).await;
            let gateway = world.dying_at(step).await;
            let offer = gateway.offer("4090").await;
            let renting = gateway.rent(&offer.id);
            tokio::select! {
                done = renting => panic!("{what}: it did not die: {done:?}"),
                () = gateway.rentals.died() => {}
            }
            gateway.die().await;
            let rental = after_a_restart(&world, &what).await;
            let is_asked = step >= Step::Answered;
            assert_eq!(rental.state == RentalState::Up, is_asked, "{what}: {:?}", rental.state);
        }
    }
}

#[tokio::test]
async fn death_after_any_step_leaves_one_machine_or_none_at_vast() {
    Box::pin(dies_after_any_step::<Vast>()).await;
}

#[tokio::test]
async fn death_after_any_step_leaves_one_machine_or_none_at_ionet() {
    Box::pin(dies_after_any_step::<IoNet>()).await;
}

#[tokio::test]
async fn death_after_any_step_leaves_one_machine_or_none_at_runpod() {
    Box::pin(dies_after_any_step::<RunPod>()).await;
}

async fn dies_while_the_provider_works<V: Known>() {
    for (fault, is_made) in [(Fault::HeldAfter, true), (Fault::Held, false)] {
        let world = World::<V>::sqlite().await;
        let gateway = world.gateway().await;
        let offer = gateway.offer("4090").await;
        world.fake.fault(V::CREATE, fault.clone());
        let renting = gateway.rent(&offer.id);
        tokio::select! {
            done = renting => panic!("it was answered: {done:?}"),
            () = world.fake.asked(V::CREATE, 1) => {}
        }
        if is_made {
            while world.fake.created() == 0 {
                tokio::task::yield_now().await;
            }
        }
        gateway.die().await;
        let rental = after_a_restart(&world, &format!("{fault:?}")).await;
        assert_eq!(rental.state == RentalState::Up, is_made, "{fault:?}");
    }
}

#[tokio::test]
async fn death_while_the_provider_works_is_found_out_by_the_label_at_vast() {
    Box::pin(dies_while_the_provider_works::<Vast>()).await;
}

#[tokio::test]
async fn death_while_the_provider_works_is_found_out_by_the_label_at_ionet() {
    Box::pin(dies_while_the_provider_works::<IoNet>()).await;
}

#[tokio::test]
async fn death_while_the_provider_works_is_found_out_by_the_label_at_runpod() {
    Box::pin(dies_while_the_provider_works::<RunPod>()).await;
}

/// Its end is asked for, and whoever asked dies before the answer: it stays wanted gone, is asked for again, and settled.
async fn dies_while_it_is_ended<V: Known>() {
    for fault in [Fault::Held, Fault::HeldAfter] {
        let what = format!("{fault:?}");
        let world = World::<V>::sqlite().await;
        let gateway = world.gateway().await;
        let offer = gateway.offer("4090").await;
        let rental = gateway.rent(&offer.id).await.unwrap();
        world.pass(&gateway, 5 * MINUTE).await;
        world.fake.fault("destroy", fault.clone());
        let ann = ann();
        tokio::select! {
            done = gateway.rentals.destroy(&ann, &rental.id) => panic!("{what}: it was answered: {done:?}"),
            () = world.fake.asked("destroy", 1) => {}
        }
        while fault == Fault::HeldAfter && world.fake.live() > 0 {
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
        world.pass(&next, 3 * MINUTE).await;
        let gone = next.get(&rental.id).await;
        assert_eq!((gone.state, gone.why), (RentalState::Gone, Some(Why::Asked)), "{what}");
        assert_eq!((world.fake.created(), world.fake.live()), (1, 0), "{what}");
        let is_asked_again = world.fake.seen_at("destroy").len() >= 2;
        assert!(is_asked_again || fault == Fault::HeldAfter, "{what}");
        let standing = next.standing().await;
        assert_eq!(standing.held, Usd::ZERO, "{what}: nothing stays set aside");
        assert!(
            standing.posted >= gone.rate.cost_of(5 * MINUTE),
            "{what}: and it is settled"
        );
        assert_eq!(standing.posted, gone.spent, "{what}");
        next.close().await;
    }
}

#[tokio::test]
async fn death_while_a_machine_is_ended_ends_it_all_the_same_at_vast() {
    Box::pin(dies_while_it_is_ended::<Vast>()).await;
}

#[tokio::test]
async fn death_while_a_machine_is_ended_ends_it_all_the_same_at_runpod() {
    Box::pin(dies_while_it_is_ended::<RunPod>()).await;
}

#[tokio::test]
async fn a_create_that_nobody_knows_of_is_told_though_whoever_found_out_has_died() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    world.fake.fault("create", Fault::DropAfter);
    // It is written down, and nobody listens any more.
    let rental = gateway.rent(&offer.id).await.unwrap();
    assert_eq!(rental.state, RentalState::FindingOut);
    gateway.die().await;
    world.fake.with(|runpod| runpod.pods[0].unseen = 100);
    let next = world.gateway().await;
    let mut news = next.rentals.news();
    world.pass(&next, 2 * MINUTE).await;
    let news = crate::world::told(&mut news);
    let is_told = |one: &&RentalNews| matches!(one, RentalNews::AmbiguousCreate(one) if one.id == rental.id);
    assert_eq!(news.iter().filter(is_told).count(), 1, "once by each process: {news:?}");
    next.close().await;
}

#[tokio::test]
async fn a_machine_that_comes_late_is_nobodys_and_ends() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    world.fake.fault("create", Fault::DropAfter);
    let rental = gateway.rent(&offer.id).await.unwrap();
    assert_eq!(rental.state, RentalState::FindingOut);
    // The provider takes so long to show it that it is taken for never made.
    world.fake.with(|runpod| runpod.pods[0].unseen = 100);
    let mut news = gateway.rentals.news();
    world.pass(&gateway, 7 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Refused);
    assert_eq!(gateway.standing().await.held, Usd::ZERO);
    world.fake.with(|runpod| runpod.pods[0].unseen = 0);
    world.pass(&gateway, 12 * MINUTE).await;
    assert_eq!(
        (world.fake.created(), world.fake.live()),
        (1, 0),
        "it is not left running"
    );
    let orphans = crate::world::told(&mut news);
    assert!(
        orphans.iter().any(|one| matches!(one, RentalNews::Orphan { .. })),
        "and somebody is told"
    );
    gateway.close().await;
}

#[tokio::test]
async fn an_answer_after_everything_was_given_up_revives_nothing() {
    let world = World::<RunPod>::sqlite().await;
    let (slow, other) = (world.gateway().await, world.gateway().await);
    let offer = slow.offer("4090").await;
    world.fake.fault("create", Fault::HeldAfter);
    let meanwhile = async {
        world.fake.asked("create", 1).await;
        while world.fake.created() == 0 {
            tokio::task::yield_now().await;
        }
        world.fake.with(|runpod| runpod.pods[0].unseen = 1_000);
        world.pass(&other, 9 * MINUTE).await;
        world.fake.open_gate();
    };
    let (answer, ()) = tokio::join!(slow.rent(&offer.id), meanwhile);
    let failure = answer.unwrap_err();
    assert_eq!(failure.code.as_str(), "upstream_failed", "{failure:?}");
    let all = other.rentals.list(&ann(), Whose::Mine, false).await.unwrap();
    assert_eq!((all.len(), all[0].state), (1, RentalState::Refused));
    world.fake.with(|runpod| runpod.pods[0].unseen = 0);
    world.pass(&other, 12 * MINUTE).await;
    assert_eq!(
        (world.fake.created(), world.fake.live()),
        (1, 0),
        "what came of it after all is not left running"
    );
    slow.close().await;
    other.close().await;
}

#[tokio::test]
async fn what_was_set_aside_comes_back_however_long_nobody_looked() {
    for step in [Step::Intended, Step::Held, Step::Asking] {
        let world = World::<IoNet>::sqlite().await;
        let gateway = world.dying_at(step).await;
        let offer = gateway.offer("4090").await;
        tokio::select! {
            done = gateway.rent(&offer.id) => panic!("{step:?}: it did not die: {done:?}"),
            () = gateway.rentals.died() => {}
        }
        gateway.die().await;
        // For longer than anything stays set aside by itself.
        world.clock.advance(120 * MINUTE);
        let gateway = world.gateway().await;
        gateway.store.ledger().lapse().await.unwrap();
        world.pass(&gateway, 9 * MINUTE).await;
        let all = gateway.rentals.list(&ann(), Whose::Mine, false).await.unwrap();
        assert_eq!(all[0].state, RentalState::Refused, "{step:?}");
        let standing = gateway.standing().await;
        assert_eq!(
            (world.fake.created(), standing.held, standing.posted),
            (0, Usd::ZERO, Usd::ZERO),
            "{step:?}"
        );
        gateway.close().await;
    }
}

#[tokio::test]
async fn what_was_refused_is_refused_again() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let keyed = |key: &str| {
        let mut wish = wish(&offer.id);
        wish.idempotency_key = Some(key.to_owned());
        wish
    };
    limit(&gateway.store, "0.01");
    for _ in 0..2 {
        let refused = gateway.create(keyed("dear")).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "spending_limit_exceeded", "{refused:?}");
    }
    limit(&gateway.store, "100");
    let refused = gateway.create(keyed("dear")).await.unwrap_err();
    assert_eq!(
        refused.code.as_str(),
        "spending_limit_exceeded",
        "what was answered stays"
    );
    world.fake.fault("create", named::<RunPod>("no-room"));
    let first = gateway.create(keyed("full")).await.unwrap_err();
    let again = gateway.create(keyed("full")).await.unwrap_err();
    assert_eq!((again.code, again.message), (first.code, first.message));
    assert_eq!(world.fake.created(), 0);
    gateway.close().await;
}

#[tokio::test]
async fn a_row_that_nobody_can_read_keeps_nothing_from_the_others() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let unreadable = gateway.rent(&offer.id).await.unwrap();
    let rental = gateway.rent(&offer.id).await.unwrap();
    let mut row = gateway.store.rentals().get(&unreadable.id).await.unwrap().unwrap();
    row.body = serde_json::value::to_raw_value(&serde_json::json!({})).unwrap();
    assert!(gateway.store.rentals().save(&mut row).await.unwrap());
    world.fake.with(|runpod| {
        let own = |pod: &&mut forebay_testkit::markets::runpod::Pod| Some(&pod.id) == rental.machine.as_ref();
        runpod.pods.iter_mut().find(own).unwrap().unseen = 1_000;
    });
    world.pass(&gateway, 5 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Gone);
    gateway.close().await;
}

#[tokio::test]
async fn machines_of_others_are_never_touched() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    // Somebody else's, one of another installation, and one that only looks like ours.
    let names = world.fake.with(|runpod| {
        let ours = runpod.pods[0].clone();
        let mut names = Vec::new();
        for name in ["training", "fb-acme-01xcjd3zk7xw5qxc0000000000000a", "fb-acme"] {
            let mut pod = ours.clone();
            pod.id = format!("other{}", names.len());
            name.clone_into(&mut pod.name);
            runpod.pods.push(pod);
            names.push(name);
        }
        names
    });
    gateway.rentals.destroy(&ann(), &rental.id).await.unwrap();
    world.pass(&gateway, 20 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Gone);
    assert_eq!(world.fake.live(), names.len(), "theirs are there");
    gateway.close().await;
}

#[tokio::test]
async fn the_same_key_and_the_same_quote_rent_once() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let keyed = || {
        let mut wish = wish(&offer.id);
        wish.idempotency_key = Some("mine".to_owned());
        wish
    };
    let (one, two) = tokio::join!(gateway.create(keyed()), gateway.create(keyed()));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.id, two.id);
    let again = gateway.create(keyed()).await.unwrap();
    assert_eq!((again.id, world.fake.created()), (one.id, 1));
    let mut other = keyed();
    other.disk_gb = Some(50);
    assert_eq!(gateway.create(other).await.unwrap_err().code.as_str(), "conflict");
    assert!(usd("0.3") < gateway.standing().await.held);
    assert_eq!(<RunPod as Known>::PROVIDER, again.offer.provider);
    gateway.close().await;
}
