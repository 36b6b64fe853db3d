//! Answers that mean nothing.

use super::*;
use proptest::prelude::*;

/// JSON out of the words that io.net uses, in any order.
fn odd() -> impl Strategy<Value = Value> {
    let keys = vec![
        "data",
        "deployments",
        "total",
        "id",
        "status",
        "name",
        "deployment_id",
        "amount_paid",
        "hardware",
        "workers",
        "compute_minutes_served",
        "compute_minutes_remaining",
        "detail",
        "total_cost_usdc",
        "container_config",
    ];
    odd_json(keys, vec!["running", "a-1", "", "../x", "destroyed"])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_makes_it_panic_or_believe_in_a_machine(
        status in prop::sample::select(vec![200_u16, 201, 204, 400, 404, 500]),
        body in odd_body(odd()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fake = Fake::start(fake::IoNet::default()).await;
            // The place is found, so that an order is placed.
            fake.faults("places", Fault::Pass, None);
            fake.faults("*", Fault::Instead(Answer::of(status, "application/json", body.clone())), None);
            let market = market(&fake);
            believes_in_nothing::<fake::IoNet>(&market, (status, &body), &charge(&fake, "a-1")).await;
            let destroyed = market.destroy("a-1").await;
            assert!(destroyed.is_err() || serde_json::from_slice::<Value>(&body).is_ok(), "{destroyed:?}");
            let extended = market.extend("a-1", 1).await;
            assert!(extended.is_err() || serde_json::from_slice::<Value>(&body).is_ok());
            let _ = market.extension_price("a-1", 1).await;
        });
    }
}
