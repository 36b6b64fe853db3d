//! Every machine ends: when somebody wants it, when it has had its time, when nobody uses it; and its bill is posted.

use crate::world::{MINUTE, World, ann, principal, told, usd, wish};
use forebay_compute::{
    ApprovalConfig,
    rental::{CreateOutcome, CreateRequest, ExtendRequest, Mode, QuoteRequest, Quoted, RentalNews, What, Whose, Why},
};
use forebay_domain::{access::Role, market::Provider, money::Usd};
use forebay_store::{ledger::TransactionQuery, rentals::RentalState};
use forebay_testkit::markets::runpod::{RunPod, Status};
use std::time::Duration;

#[tokio::test]
async fn what_it_came_to_is_what_the_provider_charged() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    assert!(rental.is_live() && world.fake.live() == 1);
    world.pass(&gateway, 30 * MINUTE).await;
    let running = gateway.get(&rental.id).await;
    assert_eq!(running.endpoints.len(), 1, "{running:?}");
    assert_eq!(gateway.rentals.endpoints(&ann()).await.unwrap().len(), 1);
    gateway.rentals.destroy(&ann(), &rental.id).await.unwrap();
    world.pass(&gateway, 2 * MINUTE).await;
    let gone = gateway.get(&rental.id).await;
    assert_eq!((gone.state, gone.why), (RentalState::Gone, Some(Why::Asked)));
    world.pass(&gateway, 60 * MINUTE).await;
    let charged = world.fake.with(|runpod| runpod.pods[0].cost());
    let spent = gateway.get(&rental.id).await.spent.micros();
    assert!((spent - charged).abs() <= 1_000, "posted {spent}, charged {charged}");
    gateway.close().await;
}

#[tokio::test]
async fn a_bill_that_was_half_posted_is_counted_as_the_ledger_has_it() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 20 * MINUTE).await;
    gateway.rentals.destroy(&ann(), &rental.id).await.unwrap();
    world.pass(&gateway, 2 * MINUTE).await;
    let before = gateway.get(&rental.id).await;
    assert_eq!(before.state, RentalState::Gone);
    // A process posted what the first bill said, and died before it wrote that down.
    let ledger = gateway.store.ledger();
    let query = TransactionQuery::of(rental.owner.tenant.clone());
    let posted = ledger.transactions(&query).await.unwrap().transactions;
    let hold = posted.into_iter().find_map(|one| one.hold).unwrap();
    ledger.adjust(&hold, usd("0.05"), "bill:0").await.unwrap();
    // The next one finds a bill of twice as much.
    world.fake.with(|runpod| runpod.pods[0].multiply_bill(2));
    world.pass(&gateway, 10 * MINUTE).await;
    let spent = gateway.get(&rental.id).await.spent;
    assert!(spent > before.spent, "{spent} after {}", before.spent);
    assert_eq!(spent, gateway.standing().await.posted);
    // What that left out the bill after it has.
    world.pass(&gateway, 6 * 60 * MINUTE).await;
    let charged = world.fake.with(|runpod| runpod.pods[0].cost());
    let spent = gateway.get(&rental.id).await.spent.micros();
    assert!((spent - charged).abs() <= 1_000, "posted {spent}, charged {charged}");
    gateway.close().await;
}

#[tokio::test]
async fn a_lifetime_and_an_idle_time_end_it() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let mut short = wish(&offer.id);
    short.lifetime = Some(20 * MINUTE);
    let mut idle = wish(&offer.id);
    idle.idle = Some(10 * MINUTE);
    let mut used = idle.clone();
    used.idle = Some(10 * MINUTE);
    let short = gateway.create(short).await.unwrap();
    let idle = gateway.create(idle).await.unwrap();
    let used = gateway.create(used).await.unwrap();
    for _ in 0..3 {
        world.pass(&gateway, 8 * MINUTE).await;
        gateway.rentals.touch(&used.id, world.clock.now()).await.unwrap();
    }
    let why = async |id: &str| {
        let rental = gateway.get(id).await;
        (rental.state, rental.why)
    };
    assert_eq!(why(&short.id).await, (RentalState::Gone, Some(Why::Lifetime)));
    assert_eq!(why(&idle.id).await, (RentalState::Gone, Some(Why::Idle)));
    assert_eq!(why(&used.id).await, (RentalState::Up, None));
    let longer = gateway.rentals.extend(&ann(), &used.id, 60 * MINUTE).await.unwrap();
    assert_eq!(longer.ends_by.duration_since(used.ends_by).as_secs(), 3_600);
    let refused = gateway
        .rentals
        .extend(&ann(), &used.id, 60 * MINUTE * 24 * 30)
        .await
        .unwrap_err();
    assert_eq!(refused.code.as_str(), "invalid_arguments");
    gateway.close().await;
}

/// What the operator says is how long a machine may be idle that nobody named a time for, and the most that may be named.
#[tokio::test]
async fn an_idle_time_is_within_the_operators() {
    let mut world = World::<RunPod>::sqlite().await;
    world.config.idle_minutes = Some(10);
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let idle = |idle: Duration| {
        let mut wish = wish(&offer.id);
        wish.idle = Some(idle);
        wish
    };
    for wrong in [Duration::from_secs(59), 11 * MINUTE] {
        let refused = gateway.create(idle(wrong)).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "invalid_arguments", "{wrong:?}");
        assert!(refused.message.contains("1 to 10 minutes"), "{}", refused.message);
    }
    assert_eq!(world.fake.created(), 0);
    let shorter = gateway.create(idle(MINUTE)).await.unwrap();
    let usual = gateway.rent(&offer.id).await.unwrap();
    let state = async |id: &str| gateway.get(id).await.state;
    world.pass(&gateway, 6 * MINUTE).await;
    assert_eq!(
        (state(&shorter.id).await, state(&usual.id).await),
        (RentalState::Gone, RentalState::Up)
    );
    world.pass(&gateway, 8 * MINUTE).await;
    assert_eq!(state(&usual.id).await, RentalState::Gone);
    gateway.close().await;
}

#[tokio::test]
async fn what_does_not_start_is_destroyed() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    world.fake.with(|runpod| runpod.fails_boot = true);
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 40 * MINUTE).await;
    let gone = gateway.get(&rental.id).await;
    assert_eq!(
        (gone.state, gone.why, world.fake.live()),
        (RentalState::Gone, Some(Why::NeverStarted), 0)
    );
    world
        .fake
        .with(|runpod| runpod.pods.iter_mut().for_each(|pod| pod.status = Status::Terminated));
    gateway.close().await;
}

#[tokio::test]
async fn a_container_that_ended_by_itself_is_over_once_its_log_could_be_read() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    world.pass(&gateway, 5 * MINUTE).await;
    let becomes = |status: Status| world.fake.with(|runpod| runpod.pods[0].status = status);
    becomes(Status::Exited);
    world.pass(&gateway, 8 * MINUTE).await;
    let exited = gateway.get(&rental.id).await;
    assert_eq!(
        (exited.state, exited.status.as_deref()),
        (RentalState::Up, Some("EXITED"))
    );
    assert!(!gateway.rentals.logs(&ann(), &rental.id, 5).await.unwrap().is_empty());
    // One that is started again begins anew.
    becomes(Status::Running);
    world.pass(&gateway, MINUTE).await;
    becomes(Status::Exited);
    world.pass(&gateway, 8 * MINUTE).await;
    assert_eq!(gateway.get(&rental.id).await.state, RentalState::Up);
    world.pass(&gateway, 4 * MINUTE).await;
    let over = gateway.get(&rental.id).await;
    assert_eq!((over.state, over.why), (RentalState::Gone, Some(Why::Exited)));
    let lived = over.ended_at.unwrap().duration_since(over.since.unwrap()).as_secs();
    assert!(lived < 30 * 60, "long before its lifetime is over: {lived} s");
    assert_eq!((world.fake.live(), gateway.standing().await.held), (0, Usd::ZERO));
    gateway.close().await;
}

#[tokio::test]
async fn the_same_name_gives_the_same_time_once() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    let ann = ann();
    let named = async |key: &str, by| {
        let request = ExtendRequest {
            by,
            idempotency_key: Some(key.to_owned()),
        };
        let extended = gateway.rentals.extend(&ann, &rental.id, request).await;
        extended.map(|longer| longer.ends_by.duration_since(rental.ends_by).as_secs() / 60)
    };
    let (one, two) = tokio::join!(named("a", 5 * MINUTE), named("a", 5 * MINUTE));
    assert_eq!((one.unwrap(), two.unwrap()), (5, 5));
    assert_eq!(named("a", 6 * MINUTE).await.unwrap_err().code.as_str(), "conflict");
    assert_eq!(named("b", 5 * MINUTE).await.unwrap(), 10);
    assert_eq!(named("", MINUTE).await.unwrap_err().code.as_str(), "invalid_arguments");
    // Whoever asks again after the end is told what became of the machine, and not that it cannot be extended.
    gateway.rentals.destroy(&ann, &rental.id).await.unwrap();
    assert_eq!(named("a", 5 * MINUTE).await.unwrap(), 10);
    assert_eq!(named("c", 5 * MINUTE).await.unwrap_err().code.as_str(), "conflict");
    gateway.close().await;
}

#[tokio::test]
async fn a_machine_is_its_owners_and_a_token_is_good_once() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    let body = world.fake.seen_at("create")[0].json();
    let env = &body["env"];
    assert_eq!(env["FOREBAY_URL"], "https://gateway.example.com");
    let token = env["FOREBAY_TOKEN"].as_str().unwrap();
    assert_eq!(gateway.rentals.recognise(token).await.unwrap().id, rental.id);
    let (one, two) = tokio::join!(
        gateway.rentals.redeem(token, Some("drawn by the one")),
        gateway.rentals.redeem(token, Some("drawn by the other"))
    );
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "good once");
    // Whoever was started again with the same token alone is told that it is known, and gets nothing for it.
    let (kept, other) = if one.is_ok() {
        ("drawn by the one", "drawn by the other")
    } else {
        ("drawn by the other", "drawn by the one")
    };
    world.clock.advance(MINUTE);
    for proof in [None, Some(""), Some(other), Some("guessed")] {
        let known = gateway.rentals.redeem(token, proof).await.unwrap_err();
        assert_eq!(known.code.as_str(), "conflict", "{proof:?}");
    }
    let first = gateway.get(&rental.id).await.reported_at.unwrap();
    // On its own disk it has what it brought along the first time.
    let again = gateway.rentals.redeem(token, Some(kept)).await.unwrap();
    assert!(again.reported_at.unwrap() > first, "{again:?}");
    assert_eq!(
        gateway.rentals.recognise(token).await.unwrap_err().code.as_str(),
        "invalid_token"
    );
    assert!(gateway.get(&rental.id).await.reported_at.is_some());

    let (bob, boss) = (principal("bob", Role::User), principal("boss", Role::Operator));
    assert_eq!(
        gateway.rentals.get(&bob, &rental.id).await.unwrap_err().code.as_str(),
        "unknown_instance"
    );
    assert!(gateway.rentals.destroy(&bob, &rental.id).await.is_err());
    assert!(gateway.rentals.list(&bob, Whose::All, true).await.unwrap().is_empty());
    assert_eq!(gateway.rentals.list(&boss, Whose::All, true).await.unwrap().len(), 1);
    let mut stranger = boss.clone();
    stranger.tenant = "other".parse().unwrap();
    assert!(gateway.rentals.get(&stranger, &rental.id).await.is_err());
    let machine = rental.machine.clone().unwrap();
    for name in [
        rental.id.as_str(),
        &machine,
        rental.offer.id(),
        &rental.offer.to_string(),
    ] {
        assert_eq!(
            gateway.rentals.find(&ann(), None, name).await.unwrap().id,
            rental.id,
            "{name}"
        );
    }
    let by = async |name: &str| gateway.rentals.find(&boss, None, name).await.map(|found| found.id);
    assert_eq!(
        by(&machine).await.unwrap(),
        rental.id,
        "operators reach any machine of their tenant by its own name"
    );
    assert!(by(rental.offer.id()).await.is_err(), "and nobody else's by an offer's");
    let second = gateway.rent(&offer.id).await.unwrap();
    let both = gateway.rentals.find(&ann(), None, rental.offer.id()).await.unwrap_err();
    assert!(
        both.message.contains(&rental.id) && both.message.contains(&second.id),
        "{}",
        both.message
    );
    gateway.close().await;
}

/// What a wish for a quote says of it.
fn quoted(wish: &mut CreateRequest) -> &mut Quoted {
    match &mut wish.what {
        What::Quote(quoted) => quoted,
        What::Offer(offer) => panic!("no quote: {offer}"),
    }
}

#[tokio::test]
async fn what_has_to_be_agreed_to_is_quoted_and_rented_at_the_quoted_price() {
    let mut world = World::<RunPod>::sqlite().await;
    world.config.approval = ApprovalConfig::Always;
    let gateway = world.gateway().await;
    let offer = gateway.offer("4090").await;
    let mut dry = wish(&offer.id);
    dry.mode = Mode::DryRun;
    let said = gateway.rentals.create(&ann(), dry).await.unwrap();
    assert!(matches!(said, CreateOutcome::DryRun(_)));
    let CreateOutcome::NeedsApproval(quote) = gateway.rentals.create(&ann(), wish(&offer.id)).await.unwrap() else {
        panic!("nobody was asked");
    };
    assert_eq!((world.fake.created(), gateway.standing().await.held), (0, Usd::ZERO));
    let agreed = |id: &str| {
        let mut wish = wish(&offer.id);
        wish.what = What::Quote(id.to_owned().into());
        wish
    };
    // The price rises meanwhile: what was not agreed to is not rented.
    let raise = |by: i64| {
        world
            .fake
            .with(|runpod| runpod.gpus[0].price.iter_mut().for_each(|price| *price += by));
    };
    raise(10_000);
    let dearer = gateway.create(agreed(&quote.id)).await.unwrap_err();
    assert_eq!(dearer.code.as_str(), "conflict");
    raise(-10_000);
    for change in [
        |wish: &mut CreateRequest| wish.image = Some("somebody/else:1".to_owned()),
        |wish: &mut CreateRequest| wish.idle = Some(MINUTE),
        |wish: &mut CreateRequest| wish.disk_gb = Some(50),
        |wish: &mut CreateRequest| wish.lifetime = Some(120 * MINUTE),
        |wish: &mut CreateRequest| quoted(wish).provider = Some(Provider::Vast),
        |wish: &mut CreateRequest| quoted(wish).offer = Some("runpod:another/SECURE".parse().unwrap()),
    ] {
        let mut other = agreed(&quote.id);
        change(&mut other);
        let refused = gateway.create(other).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "invalid_arguments", "nobody agreed to that");
    }
    let mut keyed = agreed(&quote.id);
    keyed.idempotency_key = Some("one".to_owned());
    keyed.image = Some(quote.image.clone());
    keyed.disk_gb = Some(quote.disk_gb);
    keyed.lifetime = Some(quote.lifetime);
    *quoted(&mut keyed) = Quoted {
        id: quote.id.clone(),
        provider: Some(Provider::RunPod),
        offer: Some(offer.id.clone()),
    };
    let rental = gateway.create(keyed.clone()).await.unwrap();
    assert_eq!(rental.rate, quote.rate);
    keyed.idempotency_key = Some("two".to_owned());
    assert_eq!(
        gateway.create(keyed.clone()).await.unwrap().id,
        rental.id,
        "whatever its key"
    );
    quoted(&mut keyed).offer = None;
    assert_eq!(
        gateway.create(keyed.clone()).await.unwrap().id,
        rental.id,
        "however it is said"
    );
    quoted(&mut keyed).provider = Some(Provider::IoNet);
    let other = gateway.create(keyed).await.unwrap_err();
    assert_eq!(
        other.code.as_str(),
        "invalid_arguments",
        "that quote rented another one"
    );
    let longer = gateway.rentals.extend(&ann(), &rental.id, MINUTE).await.unwrap_err();
    assert_eq!(longer.code.as_str(), "forbidden", "nobody agreed to more time");
    let boss = principal("boss", Role::Operator);
    let agreed_to = gateway.rentals.extend(&boss, &rental.id, MINUTE).await.unwrap();
    assert_eq!(agreed_to.ends_by.duration_since(rental.ends_by).as_secs(), 60);
    assert_eq!(agreed_to.owner, rental.owner, "it is its owner's, who pays for it");
    let mut bound = boss;
    bound.grants = vec!["!spending:approve".parse().unwrap()];
    let refused = gateway.rentals.extend(&bound, &rental.id, MINUTE).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "forbidden", "and a grant can take that away");
    assert_eq!(
        gateway.create(agreed(&quote.id)).await.unwrap_err().code.as_str(),
        "conflict",
        "a quote is rented once, and this asks for another image"
    );
    let request = QuoteRequest {
        offer: offer.id.clone(),
        image: None,
        disk_gb: None,
        lifetime: None,
        idle: None,
    };
    let late = gateway.rentals.quote(&ann(), request).await.unwrap();
    world.clock.advance(11 * MINUTE);
    let late = gateway.create(agreed(&late.id)).await.unwrap_err();
    assert_eq!(late.code.as_str(), "unknown_quote");
    assert_eq!(world.fake.created(), 1);
    gateway.close().await;
}

#[tokio::test]
async fn every_change_is_told() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let other = world.gateway().await;
    let (mut changed, mut elsewhere) = (gateway.rentals.watch(), other.rentals.watch());
    let mut news = gateway.rentals.news();
    let offer = gateway.offer("4090").await;
    let rental = gateway.rent(&offer.id).await.unwrap();
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    elsewhere.mark_unchanged();
    world.pass(&other, MINUTE).await;
    assert!(elsewhere.has_changed().unwrap(), "another replica notices");
    gateway.rentals.destroy(&ann(), &rental.id).await.unwrap();
    world.pass(&gateway, 5 * MINUTE).await;
    assert!(changed.has_changed().unwrap());
    let told = told(&mut news);
    assert!(told.iter().any(|one| matches!(one, RentalNews::Ending(_))));
    gateway.close().await;
    other.close().await;
}
