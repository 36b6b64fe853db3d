//! One fake vast.ai, and our client of it.

use forebay_compute::market::{
    Created, Market, Order, Wanted,
    vast::{Vast, VastConfig},
};
use forebay_domain::{market::Offer, money::UsdRate};
use forebay_runtime::{Clock, Secret, SecretRef, http};
use forebay_testkit::markets::{
    Fake, Named, START,
    faults::by_name,
    vast::{self, KEY},
};
use std::{collections::BTreeMap, time::Duration};

pub(crate) struct World {
    pub(crate) fake: Fake<vast::Vast>,
    pub(crate) market: Vast,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(16).await
    }

    pub(crate) async fn with(offers: usize) -> Self {
        let fake = Fake::start(vast::Vast::new(offers)).await;
        let market = client(&fake.url(), KEY);
        Self { fake, market }
    }

    /// The next requests of this route meet the fault of this name.
    pub(crate) fn fault(&self, route: &str, name: &str, times: Option<u32>) {
        let own: &[Named] = vast::FAULTS;
        let fault = by_name(name, own).expect("a fault of this name");
        self.fake.faults(route, fault, times);
    }

    pub(crate) async fn cheapest(&self) -> Offer {
        let wanted = Wanted {
            limit: 1,
            disk_gb: 50,
            ..Wanted::default()
        };
        self.market.offers(&wanted).await.unwrap().remove(0)
    }

    /// Rents the first offer of the fake's catalogue under this label.
    pub(crate) async fn rent(&self, label: &str) -> Created {
        self.market.create(&order(label)).await
    }

    /// So, and it has to be there.
    pub(crate) async fn rented(&self, label: &str) -> String {
        match self.rent(label).await {
            Created::Confirmed { id } => id,
            other => panic!("{other:?}"),
        }
    }

    /// Until what was rented runs.
    pub(crate) fn boot(&self) {
        self.fake.advance(Duration::from_mins(1));
    }
}

pub(crate) fn client(url: &str, key: &str) -> Vast {
    let config = VastConfig {
        api_key: SecretRef::Env("VAST_API_KEY".to_owned()),
        url: url.parse().unwrap(),
    };
    let clock = Clock::manual(START.parse().unwrap());
    Vast::new(&config, Secret::new(key.to_owned()), http::trusted(), clock)
}

pub(crate) fn order(label: &str) -> Order {
    Order {
        offer: "21874411".to_owned(),
        label: label.to_owned(),
        image: "vllm/vllm-openai:v0.11.0".to_owned(),
        disk_gb: 50,
        env: BTreeMap::from([("MODEL".to_owned(), "Qwen/Qwen3-8B".to_owned())]),
        secrets: BTreeMap::from([("FOREBAY_TOKEN".to_owned(), "s3cret".to_owned())]),
        ports: vec![8_000],
        on_start: None,
        hours: 1,
    }
}

pub(crate) fn hourly(text: &str) -> UsdRate {
    UsdRate::per_hour(text.parse().unwrap())
}
