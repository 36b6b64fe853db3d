//! Answers that could mean two things, and providers that show nothing.

use crate::world::{Known, MINUTE, World, advance, told, wish};
use forebay_compute::{
    Urls,
    rental::{RentalNews, Why},
};
use forebay_domain::money::Usd;
use forebay_store::rentals::RentalState;
use forebay_testkit::markets::{
    Answer, Fake, Fault,
    ionet::IoNet,
    runpod::{RunPod, Scope},
    vast::Vast,
};

/// What keeps a provider from showing anything.
type Begins = fn(&World<RunPod>);

fn named(name: &str) -> Fault {
    crate::world::named::<RunPod>(name)
}

async fn made_in_error_is_destroyed<V: Known>() {
    let world = World::<V>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    world.fake.fault(V::CREATE, crate::world::named::<V>(V::MADE_IN_ERROR));
    let refused = gateway.rent(&offer.id).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "upstream_failed");
    let id = refused.details.unwrap()["instance"].as_str().unwrap().to_owned();
    world.pass(&gateway, 5 * MINUTE).await;
    assert_eq!((world.fake.created(), world.fake.live()), (1, 0));
    let rental = gateway.get(&id).await;
    assert_eq!((rental.state, rental.why), (RentalState::Gone, Some(Why::MadeInError)));
    assert_eq!(gateway.standing().await.held, Usd::ZERO);
    gateway.close().await;
}

/// `new_contract` in an error.
#[tokio::test]
async fn an_error_with_a_machine_is_destroyed_at_vast() {
    made_in_error_is_destroyed::<Vast>().await;
}

#[tokio::test]
async fn an_error_with_a_machine_is_destroyed_at_ionet() {
    made_in_error_is_destroyed::<IoNet>().await;
}

#[tokio::test]
async fn an_error_with_a_machine_is_destroyed_at_runpod() {
    made_in_error_is_destroyed::<RunPod>().await;
}

async fn ambiguous_makes_no_second_one<V: Known>(own: &[&str]) {
    let own = own.iter().map(|name| crate::world::named::<V>(name));
    for fault in [Fault::DropAfter, Fault::Empty, Fault::Truncated]
        .into_iter()
        .chain(own)
    {
        let world = World::<V>::sqlite().await;
        let gateway = world.gateway().await;
        let mut news = gateway.rentals.news();
        let offer = gateway.offer("4090").await;
        world.fake.fault(V::CREATE, fault.clone());
        let mut request = wish(&offer.id);
        request.idempotency_key = Some("once".to_owned());
        let rental = gateway.create(request.clone()).await.unwrap();
        assert_eq!(rental.state, RentalState::FindingOut, "{fault:?}");
        assert!(rental.fault.is_some(), "{fault:?}");
        assert!(
            gateway.standing().await.held > Usd::ZERO,
            "what may be spent stays set aside"
        );
        let again = gateway.create(request).await.unwrap();
        assert_eq!(again.id, rental.id, "{fault:?}");
        world.pass(&gateway, 2 * MINUTE).await;
        let found = gateway.get(&rental.id).await;
        assert_eq!((found.state, found.fault), (RentalState::Up, None), "{fault:?}");
        assert_eq!((world.fake.created(), world.fake.live()), (1, 1), "{fault:?}");
        let news = told(&mut news);
        assert!(news.iter().any(|one| matches!(one, RentalNews::AmbiguousCreate(_))));
        assert!(news.iter().any(|one| matches!(one, RentalNews::Found(_))));
        gateway.close().await;
    }
}

#[tokio::test]
async fn an_ambiguous_create_never_makes_a_second_one_at_vast() {
    Box::pin(ambiguous_makes_no_second_one::<Vast>(&["without-id", "done-json-500"])).await;
}

#[tokio::test]
async fn an_ambiguous_create_never_makes_a_second_one_at_ionet() {
    Box::pin(ambiguous_makes_no_second_one::<IoNet>(&["no-id", "done-504"])).await;
}

#[tokio::test]
async fn an_ambiguous_create_never_makes_a_second_one_at_runpod() {
    Box::pin(ambiguous_makes_no_second_one::<RunPod>(&["no-id", "problem-500"])).await;
}

#[tokio::test]
async fn what_was_never_made_is_let_go_after_several_lists() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    world.fake.fault("create", Fault::Instead(Answer::empty(500)));
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 4 * MINUTE).await;
    assert_eq!(
        gateway.get(&rental.id).await.state,
        RentalState::FindingOut,
        "it might come yet"
    );
    assert!(gateway.standing().await.held > Usd::ZERO);
    world.pass(&gateway, 3 * MINUTE).await;
    let found = gateway.get(&rental.id).await;
    assert_eq!((found.state, found.why), (RentalState::Refused, Some(Why::NeverMade)));
    let standing = gateway.standing().await;
    assert_eq!((standing.held, standing.posted), (Usd::ZERO, Usd::ZERO));
    gateway.close().await;
}

#[tokio::test]
async fn a_definite_no_holds_nothing() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    for fault in ["no-room", "no-credit", "no-credit-400"] {
        world.fake.fault("create", named(fault));
        let refused = gateway.rent(&offer.id).await.unwrap_err();
        assert!(refused.message.starts_with("runpod: "), "{fault}: {}", refused.message);
        let standing = gateway.standing().await;
        assert_eq!((standing.held, standing.posted), (Usd::ZERO, Usd::ZERO), "{fault}");
    }
    assert_eq!(world.fake.created(), 0);
    gateway.close().await;
}

#[tokio::test]
async fn a_provider_that_shows_nothing_loses_nothing_and_it_goes_on_costing() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 2 * MINUTE).await;
    let mut news = gateway.rentals.news();
    let blindness: [(&str, Begins); 5] = [
        ("the key was rotated", |world| {
            world.fake.with(|runpod| runpod.key = "rpa_NEW".to_owned());
        }),
        ("a storm of 429s", |world| {
            world.fake.faults("list", named("rate-limited-bare"), None);
        }),
        ("a list that breaks off", |world| {
            world.fake.faults("list", Fault::Truncated, None);
        }),
        ("a key that may no longer look", |world| {
            world.fake.with(|runpod| runpod.scopes.remove(&Scope::ReadPods));
        }),
        ("a row that is none", |world| {
            world.fake.faults("list", named("bad-row"), None);
        }),
    ];
    for (what, begins) in blindness {
        let before = gateway.get(&rental.id).await.spent;
        begins(&world);
        world.pass(&gateway, 5 * MINUTE).await;
        let now = gateway.get(&rental.id).await;
        assert_eq!(now.state, RentalState::Up, "{what}");
        let five_minutes = rental.rate.cost_of(5 * MINUTE);
        let accrued = now.spent.saturating_sub(before);
        assert!(
            accrued >= five_minutes.saturating_sub(usd_of_a_second()),
            "{what}: {accrued}"
        );
        let blind = told(&mut news)
            .into_iter()
            .filter(|one| matches!(one, RentalNews::Blind { .. }))
            .count();
        assert_eq!(blind, 1, "{what}: told once");
        world.fake.with(|runpod| {
            runpod.key = forebay_testkit::markets::runpod::KEY.to_owned();
            runpod.scopes.insert(Scope::ReadPods);
        });
        world.fake.no_more_faults();
        advance(MINUTE).await;
        world.pass(&gateway, MINUTE).await;
    }
    assert_eq!((world.fake.created(), world.fake.live()), (1, 1));
    gateway.close().await;
}

#[tokio::test]
async fn a_provider_that_shows_nothing_loses_nothing_and_it_goes_on_costing_at_vast() {
    let world = World::<Vast>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 2 * MINUTE).await;
    let mut news = gateway.rentals.news();
    for (what, fault) in [
        ("the key was rotated", "auth-404"),
        ("a storm of 429s", "429-text"),
        ("a page that is short", "short-page"),
        ("a list that is none", "null-list"),
    ] {
        let before = gateway.get(&rental.id).await.spent;
        world.fake.faults("list", crate::world::named::<Vast>(fault), None);
        world.pass(&gateway, 2 * MINUTE).await;
        let now = gateway.get(&rental.id).await;
        assert_eq!(now.state, RentalState::Up, "{what}");
        let accrued = now.spent.saturating_sub(before);
        let two_minutes = rental.rate.cost_of(2 * MINUTE);
        assert!(
            accrued >= two_minutes.saturating_sub(usd_of_a_second()),
            "{what}: {accrued}"
        );
        let is_blind = |one: &RentalNews| matches!(one, RentalNews::Blind { .. });
        assert!(told(&mut news).iter().any(is_blind), "{what}: and somebody is told");
        world.fake.no_more_faults();
        // Refusals close a route for longer and longer.
        advance(5 * MINUTE).await;
        world.pass(&gateway, MINUTE).await;
        let seen = gateway.get(&rental.id).await.seen_at.unwrap();
        assert!(
            world.clock.now().duration_since(seen).as_secs() < 60,
            "{what}: and then it is seen again"
        );
    }
    assert_eq!((world.fake.created(), world.fake.live()), (1, 1));
    gateway.close().await;
}

fn usd_of_a_second() -> Usd {
    Usd::from_micros(1_000)
}

#[tokio::test]
async fn one_or_two_lists_without_it_are_not_the_end() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 2 * MINUTE).await;
    world.fake.with(|runpod| runpod.pods[0].unseen = 2);
    world.pass(&gateway, 2 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Up);
    let before = world.clock.now();
    world.fake.with(|runpod| runpod.pods[0].unseen = 1_000);
    world.pass(&gateway, MINUTE).await;
    let gone = gateway.get(&rental.id).await;
    assert_eq!((gone.state, gone.why), (RentalState::Gone, Some(Why::Vanished)));
    let first_miss = gone.ended_at.unwrap().duration_since(before).as_secs();
    assert_eq!(first_miss, 15, "it costs until it was first missed");
    gateway.close().await;
}

#[tokio::test]
async fn a_key_of_somebody_else_says_nothing_of_our_machines() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 2 * MINUTE).await;
    // Its key is good, and its lists are complete: there is nothing in them.
    let theirs = Fake::start_at(RunPod::default(), 0, world.clock.clone()).await.unwrap();
    let urls = || Urls {
        public: Some("https://gateway.example.com".to_owned()),
        local: None,
    };
    let markets = RunPod::markets(&theirs.url());
    gateway.rentals.reconfigure(&markets, &world.config, urls()).unwrap();
    let mut news = gateway.rentals.news();
    world.pass(&gateway, 10 * MINUTE).await;
    assert!(!theirs.seen_at("list").is_empty());
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Up);
    let is_blind = |one: &RentalNews| matches!(one, RentalNews::Blind { .. });
    assert!(told(&mut news).iter().any(is_blind), "and somebody is told");

    // Once it has shown one of ours it sees what we see, and what it does not show any more is gone.
    let ours = world.fake.with(|runpod| runpod.pods.clone());
    theirs.with(|runpod| runpod.pods = ours);
    world.pass(&gateway, MINUTE).await;
    theirs.with(|runpod| runpod.pods.clear());
    world.pass(&gateway, 2 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Gone);
    gateway.close().await;
}
