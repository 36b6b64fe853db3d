//! What is known of machines: states, addresses, ends.

use super::world::{World, order};
use forebay_compute::market::{Created, Destroyed, Machine, MachineState, Market, MarketFault, Order};
use forebay_testkit::markets::vast::Fate;
use std::{collections::BTreeMap, time::Duration};

async fn seen(world: &World, id: &str) -> Machine {
    world.market.machine(id).await.unwrap().expect("it is there")
}

#[tokio::test(start_paused = true)]
async fn a_machine_walks_to_where_it_can_be_reached() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    for status in ["provisioning", "created", "loading: pulling image"] {
        let machine = seen(&world, &id).await;
        assert_eq!(
            (machine.state, machine.status.as_str()),
            (MachineState::Starting, status)
        );
        assert!(machine.endpoints.is_empty());
        world.fake.advance(Duration::from_secs(5));
    }
    let machine = seen(&world, &id).await;
    assert_eq!(machine.state, MachineState::Running);
    let endpoint = &machine.endpoints[&8_000];
    assert!(
        endpoint.starts_with("http://203.0.113.42:40"),
        "{endpoint:?} has no line break"
    );
    assert_eq!(machine.rate, Some(super::world::hourly("0.399417")));
    assert_eq!(
        machine.started_at.map(|at| at.to_string()).as_deref(),
        Some("2026-11-20T00:00:00Z")
    );
    assert!(machine.ends_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_will_not_run_by_itself_says_so() {
    for (fate, state) in [
        (Fate::Exits, MachineState::Exited),
        (Fate::GoesOffline, MachineState::Failed),
        (Fate::BadImage, MachineState::Failed),
        (Fate::StaysLoading, MachineState::Starting),
    ] {
        let world = World::new().await;
        world.fake.with(|vast| vast.fate = fate);
        let id = world.rented("fb:acme:1").await;
        world.boot();
        assert_eq!(seen(&world, &id).await.state, state, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_outbid_or_out_of_money_is_stopped_and_still_there() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    world.boot();
    world.fake.with(|vast| vast.outbid(id.parse().unwrap()));
    let stopped = seen(&world, &id).await;
    assert_eq!(stopped.state, MachineState::Stopped);
    // Its disk costs on: 50 GB of $0.15 a month.
    assert_eq!(stopped.rate, Some(super::world::hourly("0.010417")));

    let world = World::new().await;
    world.fake.with(|vast| vast.credit = "0.50".parse().unwrap());
    let id = world.rented("fb:acme:1").await;
    world.fake.advance(Duration::from_hours(2));
    assert_eq!(seen(&world, &id).await.state, MachineState::Stopped);
    let next = Order {
        offer: "21874428".to_owned(),
        ..order("fb:acme:2")
    };
    let created = world.market.create(&next).await;
    assert!(
        matches!(created, Created::Refused(MarketFault::NoCredit(_))),
        "{created:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_list_is_whole_however_many_pages_it_has() {
    let world = World::with(100).await;
    let id = world.rented("fb:acme:1").await;
    let now = world.fake.now();
    world
        .fake
        .with(|vast| (0..60).map(|_| vast.add_stranger("by-hand", now)).last());
    let machines = world.market.machines().await.unwrap();
    assert_eq!(machines.len(), 61);
    assert_eq!(machines.iter().filter(|machine| machine.label == "by-hand").count(), 60);
    assert!(machines.iter().any(|machine| machine.id == id));
    let pages = world.fake.seen_at("list");
    assert_eq!(pages.len(), 3);
    assert!(pages.iter().all(|page| page.query("limit") == Some("25")));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lags_behind_is_caught_up_with() {
    let world = World::new().await;
    world.fake.with(|vast| vast.list_lag = 2);
    let id = world.rented("fb:acme:1").await;
    for expected in [0, 0, 1] {
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(world.market.machines().await.unwrap().len(), expected);
    }
    assert!(world.market.machine(&id).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_destroyed_machine_is_gone_and_a_second_time_as_well() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    assert_eq!(world.market.destroy(&id).await, Ok(Destroyed::Accepted));
    assert_eq!(world.market.machine(&id).await, Ok(None));
    assert_eq!(world.market.destroy(&id).await, Ok(Destroyed::Gone));
    world.fault("destroy", "not-found", Some(1));
    assert_eq!(world.market.destroy(&id).await, Ok(Destroyed::Gone));
    assert_eq!(world.fake.live(), 0);
    assert!(world.market.machines().await.unwrap().is_empty());
    assert!(matches!(
        world.market.destroy("../1").await,
        Err(MarketFault::Refused(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn one_list_serves_all_who_ask_within_five_seconds_unless_something_changed() {
    let world = World::new().await;
    let (one, other) = tokio::join!(world.market.machines(), world.market.machines());
    assert_eq!(one, other);
    world.market.machines().await.unwrap();
    assert_eq!(world.fake.seen_at("list").len(), 1);
    let id = world.rented("fb:acme:1").await;
    assert_eq!(
        world.market.machines().await.unwrap().len(),
        1,
        "what was just rented is in it"
    );
    world.market.destroy(&id).await.unwrap();
    assert!(world.market.machines().await.unwrap().is_empty());
    tokio::time::advance(Duration::from_secs(6)).await;
    world.market.machines().await.unwrap();
    assert_eq!(world.fake.seen_at("list").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_log_is_waited_for_and_read_without_our_key() {
    let world = World::new().await;
    let id = world.rented("fb:acme:1").await;
    world.fake.with(|vast| vast.log = "one\ntwo\nthree\n".to_owned());
    assert_eq!(world.market.logs(&id, 2).await.as_deref(), Ok("two\nthree"));
    assert_eq!(world.fake.seen_at("request_logs")[0].json()["tail"], "2");
    let files = world.fake.seen_at("log");
    assert_eq!(files.len(), 3, "it was not there twice");
    assert!(files.iter().all(|file| file.header("authorization").is_none()));

    world.fake.with(|vast| vast.log_lag = u32::MAX);
    assert!(
        matches!(world.market.logs(&id, 2).await, Err(MarketFault::Unreachable(_))),
        "it never comes"
    );
    world
        .fake
        .with(|vast| (vast.log_lag, vast.log) = (0, "x".repeat(5 << 20)));
    assert!(
        matches!(world.market.logs(&id, 2).await, Err(MarketFault::Broken(_))),
        "it is too long"
    );
    assert!(matches!(world.market.logs("7", 2).await, Err(MarketFault::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn options_of_the_start_are_what_was_ordered() {
    let world = World::new().await;
    let scripted = Order {
        on_start: Some("curl -fsSL $FOREBAY_URL | sh".to_owned()),
        ports: vec![8_000, 9_000],
        env: BTreeMap::new(),
        ..order("fb:acme:1")
    };
    let Created::Confirmed { id } = world.market.create(&scripted).await else {
        panic!("it was not made");
    };
    world.boot();
    let ports: Vec<u16> = seen(&world, &id).await.endpoints.into_keys().collect();
    assert_eq!(ports, [8_000, 9_000]);
}
