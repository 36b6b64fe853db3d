//! What can be rented, and for how much.

use super::*;

#[tokio::test]
async fn offers_are_what_runs_containers_and_costs_what_it_will_cost() {
    let (_fake, market) = kind::<fake::IoNet>().await;
    let offers = market.offers(&wanted()).await.unwrap();
    let all = [
        "caas:77:1:US",
        OFFER,
        "caas:12:2:US",
        "caas:gpu_1x_l40:1:FI",
        "caas:8H100.80S.176V:8:FI",
    ];
    assert_eq!(
        ids(&offers),
        all,
        "no VM, nothing without a GPU or a price, nothing sold out; cheapest first"
    );
    let offer = &offers[1];
    assert_eq!(offer.rate, UsdRate::per_hour(usd("0.33")), "with io.net's fee");
    assert_eq!(
        (offer.gpu.as_str(), offer.gpus, offer.vram_gb),
        ("GeForce RTX 4090", 1, 24)
    );
    assert_eq!((offer.country.as_deref(), offer.disk_gb), (Some("US"), 1_000));
    assert_eq!(offer.billing, Billing::Prepaid { first: HOUR });
    for offer in &offers {
        let read = market.offer(offer.id.id(), 50).await.unwrap().unwrap();
        assert_eq!(
            (&read.id, read.rate, read.vram_gb),
            (&offer.id, offer.rate, offer.vram_gb),
            "as it is when read anew"
        );
    }
}

#[tokio::test]
async fn whoever_wants_24_gb_gets_no_less() {
    let (_fake, market) = kind::<fake::IoNet>().await;
    let least = |vram_gb| Wanted {
        vram_gb_min: Some(vram_gb),
        ..wanted()
    };
    assert_eq!(ids(&market.offers(&least(24)).await.unwrap())[0], OFFER);
    assert_eq!(
        ids(&market.offers(&least(80)).await.unwrap()),
        ["caas:8H100.80S.176V:8:FI"]
    );
    let cheap = Wanted {
        rate_max: Some(UsdRate::per_hour(usd("0.329"))),
        ..wanted()
    };
    assert_eq!(
        ids(&market.offers(&cheap).await.unwrap()),
        ["caas:77:1:US"],
        "0.30 is 0.33 with the fee"
    );
    let finnish = Wanted {
        country: Some("fi".to_owned()),
        limit: 1,
        ..wanted()
    };
    assert_eq!(ids(&market.offers(&finnish).await.unwrap()), ["caas:gpu_1x_l40:1:FI"]);
    let big = Wanted {
        disk_gb: 1_001,
        ..wanted()
    };
    assert!(market.offers(&big).await.unwrap().is_empty());
    let by_name = Wanted {
        gpu: Some("rtx4090".to_owned()),
        gpus_min: Some(2),
        ..wanted()
    };
    assert_eq!(ids(&market.offers(&by_name).await.unwrap()), ["caas:12:2:US"]);
}

#[tokio::test]
async fn an_offer_is_gone_only_where_it_is_said() {
    let (fake, market) = kind::<fake::IoNet>().await;
    for gone in [
        "caas:999:1:US",
        "caas:203:1:JP",
        "caas:203:3:US",
        "caas:91x",
        "21874411",
        "caas:1VM.A6000:1:FI",
    ] {
        assert_eq!(market.offer(gone, 50).await.unwrap(), None, "{gone}");
    }
    fake.fault("places", named::<fake::IoNet>("no-replicas"));
    assert_eq!(market.offer(OFFER, 50).await.unwrap(), None);
    fake.fault("price", named::<fake::IoNet>("no-replicas"));
    assert_eq!(market.offer(OFFER, 50).await.unwrap(), None);
    assert!(matches!(market.offer(OFFER, 2_000).await, Err(MarketFault::Refused(_))));
    for (route, name) in [
        ("places", "html-404"),
        ("places", "not-found"),
        ("price", "empty-500"),
        ("hardware", "garbage"),
    ] {
        fake.fault(route, named::<fake::IoNet>(name));
        assert!(market.offer(OFFER, 50).await.unwrap_err().is_blind(), "{route} {name}");
    }
}
