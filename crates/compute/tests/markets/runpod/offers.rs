//! What can be rented, and for how much.

use super::*;

#[tokio::test]
async fn offers_are_priced_for_all_gpus_and_the_disk() {
    let (_fake, market) = kind::<fake::RunPod>().await;
    let offers = market.offers(&wanted()).await.unwrap();
    // 72 GB at 0.10 a month are a cent an hour.
    let cheapest = &offers[0];
    assert_eq!(cheapest.id.id(), "NVIDIA%20RTX%20A4000:COMMUNITY:1");
    assert_eq!((cheapest.rate, cheapest.vram_gb), (UsdRate::per_hour(usd("0.18")), 16));
    let four = offers
        .iter()
        .find(|offer| offer.id.id() == "NVIDIA%20GeForce%20RTX%204090:SECURE:4")
        .unwrap();
    assert_eq!(four.rate, UsdRate::per_hour(usd("2.77")));
    assert_eq!(
        (four.gpu.as_str(), four.gpus, four.vram_gb, four.disk_gb),
        ("RTX 4090", 4, 24, 72)
    );
    assert_eq!((four.tier.as_deref(), four.billing), (Some("secure"), Billing::Accrues));
    assert!(!offers.iter().any(|offer| offer.gpu == "B200"), "nobody has one free");
    assert!(
        !ids(&offers).contains(&"NVIDIA%20L4:COMMUNITY:1"),
        "that cloud has none"
    );
    assert!(offers.is_sorted_by_key(|offer| offer.rate));
    for offer in &offers {
        let read = market.offer(offer.id.id(), 72).await.unwrap();
        assert_eq!(read.as_ref(), Some(offer), "as it is when read anew");
    }
}

#[tokio::test]
async fn whoever_wants_24_gb_gets_no_less() {
    let (_fake, market) = kind::<fake::RunPod>().await;
    let least = Wanted {
        vram_gb_min: Some(24),
        ..wanted()
    };
    assert_eq!(ids(&market.offers(&least).await.unwrap())[0], OFFER);
    let three = Wanted {
        gpus_min: Some(3),
        limit: 1,
        gpu: Some("l4".to_owned()),
        ..wanted()
    };
    assert_eq!(ids(&market.offers(&three).await.unwrap()), ["NVIDIA%20L4:SECURE:3"]);
    let cheap = Wanted {
        rate_max: Some(UsdRate::per_hour(usd("0.179"))),
        ..wanted()
    };
    assert!(
        market.offers(&cheap).await.unwrap().is_empty(),
        "0.17 and the disk are 0.18"
    );
}

#[tokio::test]
async fn whoever_wants_a_country_gets_its_data_centres() {
    let (fake, market) = kind::<fake::RunPod>().await;
    let romanian = Wanted {
        country: Some("ro".to_owned()),
        limit: 1,
        ..wanted()
    };
    let offers = market.offers(&romanian).await.unwrap();
    assert_eq!(ids(&offers), ["NVIDIA%20RTX%20A4000:COMMUNITY:1:RO"]);
    assert_eq!(offers[0].country.as_deref(), Some("RO"));
    let offer = offers[0].id.id().to_owned();
    assert!(matches!(
        market
            .create(&Order {
                offer,
                ..fake::RunPod::order(0)
            })
            .await,
        Created::Confirmed { .. }
    ));
    assert_eq!(fake.seen_at("create")[0].json()["dataCenterIds"], json!(["EU-RO-1"]));
    let nowhere = Wanted {
        country: Some("JP".to_owned()),
        ..wanted()
    };
    assert!(market.offers(&nowhere).await.unwrap().is_empty());
    let nowhere = Order {
        offer: "NVIDIA%20L4:SECURE:1:JP".to_owned(),
        ..fake::RunPod::order(1)
    };
    assert_eq!(said(&market.create(&nowhere).await), "refused OfferGone");
    assert_eq!(fake.seen_at("create").len(), 1);
}

#[tokio::test]
async fn an_offer_is_gone_only_where_it_is_said() {
    let (fake, market) = kind::<fake::RunPod>().await;
    for gone in [
        "NVIDIA%20X:SECURE:1",
        "NVIDIA%20L4:COMMUNITY:1",
        "NVIDIA%20L4:SECURE:9",
        "NVIDIA%20B200:SECURE:1",
        "21874411",
    ] {
        assert_eq!(market.offer(gone, 50).await.unwrap(), None, "{gone}");
    }
    for name in [
        "html-404",
        "garbage",
        "empty-500",
        "locked-out",
        "forbidden",
        "drop-after",
    ] {
        fake.fault("gpu", named::<fake::RunPod>(name));
        assert!(market.offer(OFFER, 50).await.unwrap_err().is_blind(), "{name}");
    }
}
