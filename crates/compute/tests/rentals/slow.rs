//! Lists of offers: a provider that is slow or fails keeps nobody waiting for the others.

use crate::world::{Known, World};
use forebay_compute::{
    MarketsConfig,
    market::Wanted,
    rental::{MarketReport, MarketState},
};
use forebay_domain::market::Provider;
use forebay_testkit::markets::{Answer, Fake, Fault, ionet::IoNet, runpod::RunPod, vast::Vast};
use std::time::{Duration, Instant};

/// RunPod is asked for machines of 1, 2, 4 and 8 GPUs.
const ONE_LIST: usize = 4;

fn wanted() -> Wanted {
    Wanted {
        disk_gb: 20,
        vram_gb_min: Some(24),
        limit: 2_000,
        ..Wanted::default()
    }
}

fn of(markets: &[MarketReport], provider: Provider) -> MarketReport {
    markets.iter().find(|one| one.provider == provider).unwrap().clone()
}

#[tokio::test]
async fn a_slow_provider_is_left_out_and_is_there_the_next_time() {
    let mut world = World::<RunPod>::sqlite().await;
    let ionet = Fake::start(IoNet::default()).await;
    world.config.offers_timeout_ms = 300;
    let gateway = world.gateway().await;
    let markets = MarketsConfig {
        ionet: IoNet::markets(&ionet.url()).ionet,
        ..RunPod::markets(&world.fake.url())
    };
    gateway
        .rentals
        .reconfigure(&markets, &world.config, forebay_compute::Urls::default())
        .unwrap();
    ionet.fault("hardware", Fault::Held);
    let begun = Instant::now();
    let first = gateway.rentals.offers(&wanted(), None).await;
    assert!(begun.elapsed().as_millis() < 3_000, "it waits no longer than it may");
    assert_eq!(of(&first.markets, Provider::IoNet).state, MarketState::Slow);
    assert_eq!(of(&first.markets, Provider::RunPod).state, MarketState::Fresh);
    assert_eq!(of(&first.markets, Provider::Vast).state, MarketState::Off);
    assert!(!first.offers.is_empty());
    assert!(
        first
            .offers
            .iter()
            .all(|offer| offer.vram_gb >= 24 && offer.id.provider == Provider::RunPod)
    );
    assert!(first.offers.is_sorted_by_key(|offer| offer.rate));

    ionet.open_gate();
    let second = loop {
        let report = gateway.rentals.offers(&wanted(), None).await;
        if of(&report.markets, Provider::IoNet).state != MarketState::Slow {
            break report;
        }
    };
    assert!(of(&second.markets, Provider::IoNet).offers > 0);
    assert_eq!(of(&second.markets, Provider::RunPod).state, MarketState::Cached);
    assert_eq!(world.fake.seen_at("gpus").len(), ONE_LIST, "it was asked once");

    world.clock.advance(Duration::from_secs(20));
    world.fake.fault("gpus", Fault::Instead(Answer::empty(503)));
    let third = gateway.rentals.offers(&wanted(), Some(Provider::RunPod)).await;
    let failed = of(&third.markets, Provider::RunPod);
    assert_eq!((failed.state, failed.age.unwrap().as_secs()), (MarketState::Failed, 20));
    assert!(
        failed.fault.is_some() && third.offers.len() == first.offers.len(),
        "what it offered before, and so it says"
    );
    gateway.close().await;
}

/// How long lists wait for one provider here.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_provider_that_hangs_costs_the_others_its_limit_once_and_then_nothing() {
    let mut world = World::<RunPod>::sqlite().await;
    let (ionet, vast) = (Fake::start(IoNet::default()).await, Fake::start(Vast::kind()).await);
    world.config.offers_timeout_ms = 2_000;
    let gateway = world.gateway().await;
    let markets = MarketsConfig {
        ionet: IoNet::markets(&ionet.url()).ionet,
        vast: Vast::markets(&vast.url()).vast,
        ..RunPod::markets(&world.fake.url())
    };
    gateway
        .rentals
        .reconfigure(&markets, &world.config, forebay_compute::Urls::default())
        .unwrap();
    vast.faults("search", Fault::Held, None);
    let listed = async || {
        let begun = Instant::now();
        let report = gateway.rentals.offers(&wanted(), None).await;
        assert_eq!(of(&report.markets, Provider::Vast).state, MarketState::Slow);
        let all = report.markets.iter().map(|one| one.offers).sum::<usize>();
        assert!(all > 0 && report.offers.len() == all, "{report:?}");
        (begun.elapsed(), all)
    };
    let (first, all) = listed().await;
    // A second for a machine that has much else to do.
    assert!(
        first >= PATIENCE && first < PATIENCE + Duration::from_secs(1),
        "{first:?}"
    );
    world.clock.advance(PATIENCE);
    for _ in 0..5 {
        let (later, again) = listed().await;
        assert!(later < PATIENCE, "{later:?}");
        assert_eq!(again, all, "the others are all there");
    }
    assert_eq!(vast.seen_at("search").len(), 1, "and it is not asked again meanwhile");
    gateway.close().await;
}

#[tokio::test]
async fn one_list_asks_a_provider_once_however_many_want_it() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let wish = wanted();
    let all = futures_util::future::join_all((0..50).map(|_| gateway.rentals.offers(&wish, None))).await;
    assert!(all.iter().all(|report| report.offers == all[0].offers));
    assert_eq!(world.fake.seen_at("gpus").len(), ONE_LIST);
    gateway.close().await;
}
