//! io.net, as unkind as it can be, and what its market concludes.

mod garbage;
mod machines;
mod money;
mod offers;
mod orders;

use crate::tried::*;
use forebay_compute::market::{
    ChargeQuery, Created, Destroyed, MachineState, Market, MarketFault, Order, Wanted,
    ionet::{IoNet, IoNetConfig},
};
use forebay_domain::{market::Billing, money::UsdRate};
use forebay_runtime::{Secret, http::trusted};
use forebay_testkit::markets::{
    Answer, Fake, Fault, Vendor,
    ionet::{self as fake, Phase},
};
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
/// After that it runs and is well.
const BOOT: Duration = Duration::from_mins(3);
const OFFER: &str = "caas:203:1:US";

impl Tried for fake::IoNet {
    type Client = IoNet;
    const CREATE: &'static str = "deploy";

    fn client(url: &str) -> IoNet {
        let config: IoNetConfig = serde_json::from_value(json!({ "api_key": { "env": "KEY" }, "url": url })).unwrap();
        IoNet::new(&config, Secret::new(fake::KEY.to_owned()), trusted())
    }

    fn order(number: u32) -> Order {
        order(OFFER, format!("fb:Acme-1:01JD3ZK7XW5Q{number}"))
    }
}

fn market(fake: &Fake<fake::IoNet>) -> IoNet {
    fake::IoNet::client(&fake.url())
}

fn wanted() -> Wanted {
    crate::tried::wanted(50)
}

fn charge(fake: &Fake<fake::IoNet>, id: &str) -> ChargeQuery {
    crate::tried::charge(fake, id, Duration::ZERO)
}
