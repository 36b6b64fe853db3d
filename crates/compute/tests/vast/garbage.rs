//! Any bytes at all: the client neither panics nor believes in a machine that is not there.

use crate::world::{client, order};
use forebay_compute::market::{ChargeQuery, Created, Market, Wanted};
use forebay_testkit::markets::{Answer, Fake, Fault, vast};
use proptest::{prelude::*, test_runner::Config};
use serde_json::{Value, json};

/// JSON of the kinds and keys that the client looks for, in no order that makes sense.
fn nonsense() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[ -~]{0,12}".prop_map(Value::from),
        Just(json!("running")),
    ];
    let key = prop::sample::select(vec![
        "success",
        "error",
        "msg",
        "instances",
        "offers",
        "id",
        "label",
        "actual_status",
        "ports",
        "public_ipaddr",
        "next_token",
        "total_instances",
        "results",
        "amount",
        "source",
        "metadata",
        "dph_total",
        "gpu_ram",
        "num_gpus",
        "pending_price_increases",
        "contract_id",
        "result_url",
        "8000/tcp",
        "HostPort",
        "start_date",
        "end_date",
        "verification",
        "disk_space",
        "duration",
        "geolocation",
        "cpu_ram",
        "storage_cost",
        "retry_after",
    ]);
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        nonsense().prop_map(|value| value.to_string().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(Config::with_cases(200))]

    #[test]
    fn no_bytes_make_a_machine(status in prop::sample::select(vec![200_u16, 201, 204, 302, 400, 401, 404, 410, 429, 500, 503]), body in body()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let fake = Fake::start(vast::Vast::new(1)).await;
            let says_gone = String::from_utf8_lossy(&body).contains("no_such_instance");
            fake.faults("*", Fault::Instead(Answer::of(status, "application/json", body)), None);
            let market = client(&fake.url(), "key");
            let _ = market.offers(&Wanted { limit: 10, ..Wanted::default() }).await;
            let _ = market.offer("21874411", 10).await;
            let created = market.create(&order("fb:acme:1")).await;
            // No key of the above is `new_contract`.
            assert!(!matches!(created, Created::Confirmed { .. }), "{created:?}");
            if let Ok(Some(machine)) = market.machine("7").await {
                assert_eq!(machine.id, "7");
            }
            let gone = market.destroy("7").await;
            assert!(says_gone || gone != Ok(forebay_compute::market::Destroyed::Gone), "{gone:?}");
            for machine in market.machines().await.unwrap_or_default() {
                assert!(machine.id.parse::<u64>().is_ok_and(|id| id > 0));
            }
            let now = fake.now();
            let _ = market.charged(&ChargeQuery { id: "7".to_owned(), label: "fb:acme:1".to_owned(), since: now, until: now }).await;
            let _ = market.price_changes().await;
        });
    }
}
