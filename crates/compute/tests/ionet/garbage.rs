//! Answers that mean nothing.

use super::*;
use proptest::prelude::*;

/// JSON out of the words that io.net uses, in any order.
fn odd_json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
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
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(vec!["running", "a-1", "", "../x", "destroyed"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// Whether whoever is told this may know of such a machine.
fn is_told(body: &[u8], machine: &Machine) -> bool {
    String::from_utf8_lossy(body).contains(&format!("\"{}\"", machine.id))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_makes_it_panic_or_believe_in_a_machine(
        status in prop::sample::select(vec![200_u16, 201, 204, 400, 404, 500]),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..120),
            odd_json().prop_map(|json| json.to_string().into_bytes()),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fake = Fake::start(fake::IoNet::default()).await;
            let answer = Answer::of(status, "application/json", body.clone());
            // The place is found, so that an order is placed.
            fake.faults("places", Fault::Pass, None);
            fake.faults("*", Fault::Instead(answer), None);
            let market = market(&fake);
            let created = market.create(&order(0)).await;
            if let Created::Confirmed { id } = &created {
                assert!(status < 300 && String::from_utf8_lossy(&body).contains(&format!("\"{id}\"")), "{created:?}");
            }
            let machines = market.machines().await;
            assert!(machines.iter().flatten().all(|machine| is_told(&body, machine)), "{machines:?}");
            let machine = market.machine("a-1").await;
            assert!(machine.iter().flatten().all(|machine| is_told(&body, machine)), "{machine:?}");
            let destroyed = market.destroy("a-1").await;
            assert!(destroyed.is_err() || serde_json::from_slice::<Value>(&body).is_ok(), "{destroyed:?}");
            let extended = market.extend("a-1", 1).await;
            assert!(extended.is_err() || serde_json::from_slice::<Value>(&body).is_ok());
            let query = charge(&fake, "a-1");
            let charged = market.charged(&query).await;
            assert!(charged.iter().flatten().all(|charged| !charged.is_negative()));
            let _ = (market.offers(&wanted()).await, market.offer(OFFER, 1).await, market.logs("a-1", 3).await);
            let _ = market.extension_price("a-1", 1).await;
        });
    }
}
