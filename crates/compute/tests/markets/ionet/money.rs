//! What hours cost, and what is given back.

use super::*;

#[tokio::test]
async fn hours_are_priced_before_and_bought_once() {
    let (fake, market) = kind::<fake::IoNet>().await;
    let id = rented(&fake, &market, BOOT).await;
    assert_eq!(market.extension_price(&id, 2).await, Ok(usd("0.66")));
    market.extend(&id, 2).await.unwrap();
    let machine = market.machine(&id).await.unwrap().unwrap();
    assert_eq!(
        (machine.paid, machine.ends_at),
        (Some(usd("0.99")), Some("2026-11-20T03:02:10Z".parse().unwrap()))
    );
    fake.fault("extend", Fault::DropAfter);
    assert!(market.extend(&id, 1).await.unwrap_err().is_blind());
    assert_eq!(fake.seen_at("extend").len(), 2, "asked once each time");
    assert_eq!(
        market.machine(&id).await.unwrap().unwrap().paid,
        Some(usd("1.32")),
        "what was done is seen"
    );
    for name in ["empty", "garbage"] {
        fake.fault("extend", named::<fake::IoNet>(name));
        assert!(market.extend(&id, 1).await.is_err(), "{name}");
    }
    fake.fault("extend", named::<fake::IoNet>("payment-required"));
    assert!(matches!(market.extend(&id, 1).await, Err(MarketFault::NoCredit(_))));
    fake.with(|vendor| vendor.credit = 0);
    assert!(matches!(market.extend(&id, 1).await, Err(MarketFault::NoCredit(_))));
    fake.with(|vendor| vendor.stock[0].place.free = 0);
    assert!(matches!(
        market.extension_price(&id, 1).await,
        Err(MarketFault::OfferGone(_))
    ));
}

#[tokio::test]
async fn what_is_given_back_is_what_io_net_gives_back() {
    for (shows_net, used, stays) in [
        (false, 5 * MINUTE, "0.33"),
        (false, 150 * MINUTE, "0.825"),
        (true, 5 * MINUTE, "0.33"),
        (true, 150 * MINUTE, "0.825"),
    ] {
        let (fake, market) = kind::<fake::IoNet>().await;
        fake.with(|vendor| vendor.shows_net = shows_net);
        let id = confirmed(
            market
                .create(&Order {
                    hours: 4,
                    ..fake::IoNet::order(0)
                })
                .await,
        );
        fake.advance(Duration::from_secs(130));
        fake.advance(used);
        assert_eq!(market.charged(&charge(&fake, &id)).await, Ok(Some(usd("1.32"))));
        market.destroy(&id).await.unwrap();
        fake.advance(MINUTE);
        let charged = market.charged(&charge(&fake, &id)).await.unwrap().unwrap();
        assert_eq!(charged, usd(stays), "net {shows_net}, used {used:?}");
        // A gateway that began anew remembers nothing, and its ledger knows what was paid.
        let anew = ChargeQuery {
            paid_before: Some(usd("1.32")),
            ..charge(&fake, &id)
        };
        let known = fake::IoNet::client(&fake.url()).charged(&anew).await;
        assert_eq!(known, Ok(Some(charged)), "net {shows_net}, used {used:?}");
        let net = fake.with(|vendor| vendor.deployments[0].paid - vendor.deployments[0].refunded);
        assert_eq!(charged.micros(), net, "to the micro-dollar");
        assert_eq!(fake.with(|vendor| vendor.credit), 1_000_000_000 - net);
    }
}
