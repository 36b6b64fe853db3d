//! RunPod, as unkind as it can be, and what its market concludes.

mod garbage;
mod machines;
mod offers;
mod orders;

use crate::tried::*;
use forebay_compute::market::{
    ChargeQuery, Created, Destroyed, MachineState, Market, MarketFault, Order, Wanted,
    runpod::{RunPod, RunPodConfig},
};
use forebay_domain::{
    market::Billing,
    money::{Usd, UsdRate},
};
use forebay_runtime::{Secret, http::trusted};
use forebay_testkit::markets::{
    Answer, Fake, Fault, Vendor,
    runpod::{self as fake, Scope, Status},
};
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// After that it runs.
const BOOT: Duration = MINUTE;
const OFFER: &str = "NVIDIA%20GeForce%20RTX%204090:COMMUNITY:1";

impl Tried for fake::RunPod {
    type Client = RunPod;
    const CREATE: &'static str = "create";

    fn client(url: &str) -> RunPod {
        let config = json!({ "api_key": { "env": "KEY" }, "url": format!("{url}/v2") });
        let config: RunPodConfig = serde_json::from_value(config).unwrap();
        RunPod::new(&config, Secret::new(fake::KEY.to_owned()), trusted())
    }

    fn order(number: u32) -> Order {
        Order {
            disk_gb: 72,
            ports: vec![8_000, 9_000],
            ..order(OFFER, format!("fb:acme:01jd3zk7xw5q{number}"))
        }
    }
}

fn market(fake: &Fake<fake::RunPod>) -> RunPod {
    fake::RunPod::client(&fake.url())
}

fn wanted() -> Wanted {
    crate::tried::wanted(72)
}

fn charge(fake: &Fake<fake::RunPod>, id: &str) -> ChargeQuery {
    crate::tried::charge(fake, id, 12 * HOUR)
}
