//! Any bytes at all: the client neither panics nor believes in a machine that is not there.

use super::world::{World, order};
use crate::tried::{odd_body, odd_json};
use forebay_compute::market::{ChargeQuery, Created, Destroyed, Market, Wanted};
use forebay_testkit::markets::{Answer, Fault};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use std::time::Duration;

/// JSON of the kinds and keys that the client looks for, in no order that makes sense.
fn nonsense() -> impl Strategy<Value = Value> {
    let keys = vec![
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
    ];
    odd_json(keys, vec!["running"])
}

/// Bytes, JSON, and JSON that begins as an answer does.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let lists = ["instances", "offers", "results", "pending_price_increases"];
    let row = (any::<u32>(), nonsense()).prop_map(|(id, mut row)| {
        if let Some(row) = row.as_object_mut() {
            row.entry("id").or_insert_with(|| json!(id));
        }
        row
    });
    let list = (prop::sample::select(lists.to_vec()), prop::collection::vec(row, 0..4));
    prop_oneof![
        odd_body(nonsense()),
        list.prop_map(|(key, rows)| json!({ "success": true, key: rows }).to_string().into_bytes()),
    ]
}

/// Longer than anything that an answer can ask us to wait.
const LATER: Duration = Duration::from_hours(30);

#[test]
fn no_bytes_make_a_machine() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let world = runtime.block_on(World::new());
    let status = prop::sample::select(vec![200_u16, 201, 204, 302, 400, 401, 404, 410, 429, 500, 503]);
    let mut runner = TestRunner::new(Config::with_cases(300));
    let tried = runner.run(&(status, body()), |(status, body)| {
        runtime.block_on(one_case(&world, status, body));
        Ok(())
    });
    tried.unwrap();
}

async fn one_case(world: &World, status: u16, body: Vec<u8>) {
    let says_gone = String::from_utf8_lossy(&body).contains("no_such_instance");
    let answer = Answer::of(status, "application/json", body);
    world.fake.no_more_faults();
    world.fake.faults("*", Fault::Instead(answer), None);
    tokio::time::advance(LATER).await;
    let market = &world.market;
    let wanted = Wanted {
        limit: 10,
        ..Wanted::default()
    };
    let _ = market.offers(&wanted).await;
    let _ = market.offer("21874411", 10).await;
    // Nothing that is made up here has the key `new_contract`.
    let created = market.create(&order("fb:acme:1")).await;
    assert!(!matches!(created, Created::Confirmed { .. }), "{created:?}");
    if let Ok(Some(machine)) = market.machine("7").await {
        assert_eq!(machine.id, "7");
    }
    let gone = market.destroy("7").await;
    assert!(says_gone || gone != Ok(Destroyed::Gone), "{gone:?}");
    for machine in market.machines().await.unwrap_or_default() {
        assert!(machine.id.parse::<u64>().is_ok_and(|id| id > 0));
    }
    let now = world.fake.now();
    let charges = ChargeQuery {
        id: "7".to_owned(),
        label: "fb:acme:1".to_owned(),
        since: now,
        until: now,
        paid_before: None,
        is_last: false,
    };
    let _ = market.charged(&charges).await;
    let _ = market.price_changes().await;
}
