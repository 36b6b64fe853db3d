//! What is offered, and what of it is believed.

use super::world::{World, hourly, order};
use forebay_compute::market::{Created, Market, MarketFault, Order, Wanted};
use forebay_domain::market::{Billing, Offer};
use forebay_testkit::markets::vast::Slot;
use std::time::Duration;

fn wanted() -> Wanted {
    Wanted {
        disk_gb: 50,
        limit: 1_000,
        ..Wanted::default()
    }
}

/// How many offers there are that are shown.
fn verified(world: &World) -> usize {
    let is_verified = |offer: &&Slot| offer.verification == "verified";
    world.fake.with(|vast| vast.offers.iter().filter(is_verified).count())
}

#[tokio::test(start_paused = true)]
async fn an_offer_says_what_it_costs_with_its_disk() {
    let world = World::new().await;
    let offer = world.market.offer("21874411", 50).await.unwrap().expect("it is there");
    assert_eq!(
        Offer {
            cpu_cores: None,
            memory_gb: None,
            ..offer.clone()
        },
        Offer {
            id: "vast.ai:21874411".parse().unwrap(),
            gpu: "RTX 4090".to_owned(),
            gpus: 1,
            vram_gb: 24,
            cpu_cores: None,
            memory_gb: None,
            disk_gb: 50,
            // $0.389 and 50 GB of $0.15 a month.
            rate: hourly("0.399417"),
            billing: Billing::Accrues,
            country: Some("CA".to_owned()),
            place: Some("Quebec, CA".to_owned()),
            reliability: Some(0.9981),
            tier: Some("consumer".to_owned()),
            longest: Some(Duration::from_hours(28 * 24)),
        }
    );
    assert_eq!(offer.cpu_cores, Some(16.0));
    let quarter = 257_672.0 / 1_024.0 / 4.0;
    assert!(
        offer.memory_gb.is_some_and(|gb| (gb - quarter).abs() < 1.0),
        "{offer:?}"
    );

    let seen = world.fake.seen_at("search").remove(0);
    assert_eq!(seen.json()["allocated_storage"], 50);
    assert_eq!(seen.json()["ask_contract_id"]["eq"], 21_874_411);
    assert_eq!(seen.header("authorization"), Some("Bearer vast-key-0123456789abcdef"));
    assert_eq!(seen.path, "/api/v0/bundles/");
    assert!(seen.query.is_empty(), "the key is in no query");

    assert_eq!(world.market.offer("1", 50).await, Ok(None));
    assert_eq!(world.market.offer("no number", 50).await, Ok(None));
    let small = world.market.offer("21874411", 1).await.unwrap().expect("it is there");
    assert_eq!(
        (small.disk_gb, small.rate),
        (8, hourly("0.390667")),
        "nothing smaller is rented out"
    );
    assert_eq!(
        world.market.offer("21874411", 5_000).await,
        Ok(None),
        "there is no room for that disk"
    );
}

#[tokio::test(start_paused = true)]
async fn a_card_is_found_by_the_size_that_it_is_sold_as() {
    let world = World::with(40).await;
    let found = world
        .market
        .offers(&Wanted {
            vram_gb_min: Some(24),
            ..wanted()
        })
        .await
        .unwrap();
    let cards = |name: &str| found.iter().filter(|offer| offer.gpu == name).count();
    assert!(cards("RTX 4090") > 0 && cards("RTX 3090") > 0 && cards("L4") > 0);
    assert_eq!(cards("RTX 4060 Ti") + cards("GTX 1080 Ti"), 0);
    assert!(found.iter().all(|offer| offer.vram_gb >= 24));
    assert!(found.is_sorted_by_key(|offer| offer.rate));
    for (name, gb) in [("RTX A6000", 48), ("H100 SXM", 80), ("A100 SXM4", 80)] {
        let card = found.iter().find(|offer| offer.gpu == name).expect(name);
        assert_eq!(card.vram_gb, gb, "{name}");
    }
}

/// All bounds at once, and the provider applies none of those with numbers.
#[tokio::test(start_paused = true)]
async fn every_bound_is_checked_again() {
    let world = World::with(64).await;
    let all = Wanted {
        gpu: Some("rtx_4090".to_owned()),
        vram_gb_min: Some(20),
        gpus_min: Some(2),
        rate_max: Some(hourly("0.80")),
        reliability_min: Some(0.95),
        ..wanted()
    };
    let kind = world.market.offers(&all).await.unwrap();
    world.fake.with(|vast| vast.has_loose_filters = true);
    let loose = world.market.offers(&all).await.unwrap();
    assert_eq!(kind, loose);
    assert!(!loose.is_empty());
    for offer in &loose {
        assert!(
            offer.gpus >= 2 && offer.rate <= hourly("0.80") && offer.gpu == "RTX 4090",
            "{offer:?}"
        );
    }
    let unbounded = world.market.offers(&wanted()).await.unwrap();
    let verified = verified(&world);
    assert!(
        verified < 64 && unbounded.len() == verified,
        "unverified hosts are left out"
    );
}

#[tokio::test(start_paused = true)]
async fn a_country_is_the_end_of_a_place() {
    let world = World::with(30).await;
    let bulgarian = world
        .market
        .offers(&Wanted {
            country: Some("bg".to_owned()),
            ..wanted()
        })
        .await
        .unwrap();
    assert!(!bulgarian.is_empty());
    assert!(bulgarian.iter().all(|offer| offer.country.as_deref() == Some("BG")));
}

#[tokio::test(start_paused = true)]
async fn offers_beyond_the_64th_are_found_by_their_price_and_none_twice() {
    let world = World::with(300).await;
    let offers = world.market.offers(&wanted()).await.unwrap();
    let mut ids: Vec<_> = offers.iter().map(|offer| offer.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), offers.len());
    assert_eq!(offers.len(), verified(&world));
    let searches = world.fake.seen_at("search");
    assert_eq!(searches.len(), 5);
    assert!(searches[1].json()["dph_total"]["gte"].is_number());

    let few = world.market.offers(&Wanted { limit: 10, ..wanted() }).await.unwrap();
    assert_eq!(few, offers[..10], "the cheapest");
    assert_eq!(world.fake.seen_at("search").len(), 6, "no page more than it takes");
}

/// Six pages a minute, and a list for the same goes on where the last one stopped. The fake refuses whatever is too much.
#[tokio::test(start_paused = true)]
async fn a_long_list_is_read_over_minutes_until_it_is_whole() {
    let world = World::with(1_000).await;
    world.fake.with(|vast| vast.enforces_rates = true);
    let all = Wanted {
        limit: 2_000,
        ..wanted()
    };
    let mut lengths = vec![world.market.offers(&all).await.unwrap().len()];
    for _ in 0..3 {
        tokio::time::advance(Duration::from_mins(1)).await;
        lengths.push(world.market.offers(&all).await.unwrap().len());
    }
    let verified = verified(&world);
    assert!((300..=384).contains(&lengths[0]), "{lengths:?}");
    assert!(lengths.is_sorted() && lengths[1] > lengths[0] + 200, "{lengths:?}");
    assert_eq!(lengths[3], verified, "{lengths:?}");
}

/// Whoever asks next for something narrower is not told to come again in a minute.
#[tokio::test(start_paused = true)]
async fn a_list_that_finds_the_minute_used_up_has_what_the_others_were_told() {
    let world = World::with(1_000).await;
    world.fake.with(|vast| vast.enforces_rates = true);
    let all = Wanted {
        limit: 2_000,
        ..wanted()
    };
    let told = world.market.offers(&all).await.unwrap();
    let asked = world.fake.seen_at("search").len();
    let narrower = Wanted {
        vram_gb_min: Some(24),
        rate_max: Some(hourly("0.60")),
        ..all.clone()
    };
    let found = world.market.offers(&narrower).await.unwrap();
    let fitting = told
        .iter()
        .filter(|offer| offer.vram_gb >= 24 && offer.rate <= hourly("0.60"));
    assert!(!found.is_empty() && found.iter().eq(fitting), "{}", found.len());
    assert_eq!(world.fake.seen_at("search").len(), asked, "nothing was sent");
    let other_disk = Wanted {
        disk_gb: 100,
        ..narrower
    };
    let fault = world.market.offers(&other_disk).await.unwrap_err();
    assert!(
        matches!(fault, MarketFault::RateLimited { .. }),
        "prices with another disk are others: {fault:?}"
    );
}

/// What lies deep is read less often, and still nothing is shown for long that is not there.
#[tokio::test(start_paused = true)]
async fn what_is_rented_goes_from_the_list() {
    let world = World::with(300).await;
    let offers = world.market.offers(&wanted()).await.unwrap();
    let order = Order {
        offer: offers[150].id.id().to_owned(),
        ..order("fb:acme:1")
    };
    let created = world.market.create(&order).await;
    assert!(matches!(created, Created::Confirmed { .. }), "{created:?}");
    let (near, far) = (offers[5].id.id().to_owned(), offers[250].id.id().to_owned());
    world.fake.with(|vast| {
        vast.offers
            .retain(|offer| offer.id.to_string() != near && offer.id.to_string() != far);
    });
    let has = |offers: &[Offer], id: &str| offers.iter().any(|offer| offer.id.id() == id);
    tokio::time::advance(Duration::from_mins(1)).await;
    let soon = world.market.offers(&wanted()).await.unwrap();
    assert!(!has(&soon, &order.offer), "it is ours");
    assert!(!has(&soon, &near), "the cheapest page is read each time");
    tokio::time::advance(Duration::from_mins(5)).await;
    let later = world.market.offers(&wanted()).await.unwrap();
    assert!(!has(&later, &far), "the others after five minutes");
    assert_eq!(later.len(), offers.len() - 3, "and all others are there");
}

/// More than a page of one price would be paged for ever.
#[tokio::test(start_paused = true)]
async fn many_offers_of_one_price_end() {
    let world = World::with(200).await;
    world.fake.with(|vast| {
        for offer in vast.offers.iter_mut().take(150) {
            (offer.base, offer.verification) = (70_000_000, "verified");
        }
    });
    let offers = world.market.offers(&wanted()).await.unwrap();
    assert!(world.fake.seen_at("search").len() <= 6);
    let dearer = offers.iter().filter(|offer| offer.rate > hourly("0.081")).count();
    assert!(dearer > 0, "what is above that price is found");
}

#[tokio::test(start_paused = true)]
async fn a_price_that_leaves_the_disk_out_is_put_right() {
    let world = World::new().await;
    world.fake.with(|vast| vast.forgets_disk = true);
    let offer = world.market.offer("21874411", 50).await.unwrap().expect("it is there");
    assert!(offer.rate >= hourly("0.399416"), "{:?}", offer.rate);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_fault_is_kept_and_a_fault_at_first_is_one() {
    let world = World::with(200).await;
    world.fault("search", "pass", Some(1));
    world.fault("search", "empty-503", Some(1));
    let offers = world.market.offers(&wanted()).await.unwrap();
    assert!((50..=64).contains(&offers.len()), "{}", offers.len());
    for (fault, is_expected) in [
        (
            "html-502",
            (|fault| matches!(fault, MarketFault::Broken(_))) as fn(&MarketFault) -> bool,
        ),
        ("garbage", |fault| matches!(fault, MarketFault::Broken(_))),
        ("empty", |fault| matches!(fault, MarketFault::Broken(_))),
        ("endless", |fault| matches!(fault, MarketFault::Broken(_))),
        ("truncated", |fault| matches!(fault, MarketFault::Unreachable(_))),
        ("drop-before", |fault| matches!(fault, MarketFault::Unreachable(_))),
        ("auth-404", |fault| matches!(fault, MarketFault::LockedOut(_))),
    ] {
        tokio::time::advance(Duration::from_mins(10)).await;
        world.fault("search", fault, Some(1));
        let failed = world.market.offers(&wanted()).await.unwrap_err();
        assert!(is_expected(&failed), "{fault}: {failed:?}");
    }
}
