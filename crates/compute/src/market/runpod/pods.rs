//! Pods and their bills, as RunPod shows them.

use super::judge;
use crate::market::{
    MachineState, MarketFault,
    said::{amount, time},
    wire::Answer,
};
use forebay_domain::money::{Usd, UsdRate};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) id: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    cost: Value,
    #[serde(default)]
    pub(super) disk: Option<u32>,
    #[serde(default)]
    ports: Option<Vec<String>>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    started_at: Option<String>,
}

#[derive(Deserialize)]
struct Pods {
    pods: Vec<Pod>,
}

fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, MarketFault> {
    let parsed = serde_json::from_slice(&answer.body);
    parsed.map_err(|error| MarketFault::Broken(MarketFault::words(&error.to_string())))
}

impl Pod {
    pub(super) fn one(answer: &Answer) -> Result<Self, MarketFault> {
        parse(answer)
    }

    /// All of them: a list with a row that cannot be read is no list.
    pub(super) fn list(answer: &Answer) -> Result<Vec<Self>, MarketFault> {
        let mut pods = parse::<Pods>(answer)?.pods;
        let mut ids = BTreeSet::new();
        for pod in &pods {
            judge::id(&pod.id)?;
        }
        pods.retain(|pod| ids.insert(pod.id.clone()));
        Ok(pods)
    }

    /// What its status means. One that nobody has told us of is of a pod that is there, and may well cost.
    pub(super) fn state(&self) -> MachineState {
        match self.status.trim().to_ascii_uppercase().as_str() {
            "RUNNING" => MachineState::Running,
            "EXITED" => MachineState::Exited,
            "ERROR" => MachineState::Failed,
            "TERMINATED" => MachineState::Ended,
            _ => MachineState::Starting,
        }
    }

    /// Of the whole pod.
    pub(super) fn rate(&self) -> Option<UsdRate> {
        amount(&self.cost).map(UsdRate::per_hour)
    }

    pub(super) fn started_at(&self) -> Option<Timestamp> {
        time(self.started_at.as_deref()).or_else(|| time(self.created_at.as_deref()))
    }

    /// HTTP ports are reached through RunPod's own proxy, under a name that is made of id and port.
    pub(super) fn endpoints(&self) -> BTreeMap<u16, String> {
        if self.state() != MachineState::Running {
            return BTreeMap::new();
        }
        let ports = self.ports.iter().flatten();
        let ports = ports.filter_map(|port| port.strip_suffix("/http")?.parse::<u16>().ok());
        let address = |port| (port, format!("https://{}-{port}.proxy.runpod.net", self.id));
        ports.map(address).collect()
    }
}

/// What was charged, hour by hour.
#[derive(Debug, Deserialize)]
pub(super) struct Bill {
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    end_time: String,
    total_amount: Value,
    #[serde(default)]
    pod_id: Option<String>,
}

impl Bill {
    pub(super) fn read(answer: &Answer) -> Result<Self, MarketFault> {
        parse(answer)
    }

    /// What this pod cost, once the bill reaches so far; before, nobody knows yet.
    pub(super) fn of(&self, id: &str, until: Timestamp) -> Option<Usd> {
        let own = || {
            self.records
                .iter()
                .filter(|record| record.pod_id.as_deref() == Some(id))
        };
        let amounts = own().map(|record| amount(&record.total_amount));
        let sum = amounts.sum::<Option<Usd>>()?;
        let last = own().filter_map(|record| time(Some(&record.end_time))).max()?;
        (last >= until).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;
    use serde_json::json;

    fn answer(body: Vec<u8>) -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    #[test]
    fn a_list_with_a_row_that_nobody_can_read_is_none() {
        let list = |rows: Value| Pod::list(&answer(json!({ "pods": rows }).to_string().into()));
        let good = json!({ "id": "p1", "status": "RUNNING", "name": "a", "more": [1] });
        assert_eq!(list(json!([good, good])).unwrap().len(), 1, "what comes twice is one");
        for bad in [
            json!({}),
            json!({ "id": "p2" }),
            json!({ "id": "p/2", "status": "RUNNING" }),
            json!(null),
        ] {
            assert!(list(json!([good, bad])).is_err(), "{bad}");
        }
        assert!(Pod::list(&answer(b"{}".into())).is_err());
    }

    #[test]
    fn a_bill_counts_once_it_reaches_far_enough() {
        let record = |hour: u8, pod: &str, amount: Value| {
            let (start, end) = (
                format!("2026-11-21T{hour:02}:00:00Z"),
                format!("2026-11-21T{:02}:00:00Z", hour + 1),
            );
            json!({ "startTime": start, "endTime": end, "podId": pod, "totalAmount": amount })
        };
        let bill = |records: Value| Bill::read(&answer(json!({ "records": records }).to_string().into())).unwrap();
        let until: Timestamp = "2026-11-21T02:30:00Z".parse().unwrap();
        let two = bill(json!([
            record(1, "p1", json!(0.5)),
            record(2, "p1", json!(0.25)),
            record(2, "p2", json!(9))
        ]));
        assert_eq!(two.of("p1", until), Some("0.75".parse().unwrap()));
        assert_eq!(
            bill(json!([record(1, "p1", json!(0.5))])).of("p1", until),
            None,
            "it lags"
        );
        assert_eq!(bill(json!([])).of("p1", until), None);
        assert_eq!(bill(json!([record(2, "p1", json!("much"))])).of("p1", until), None);
        assert_eq!(bill(json!([record(2, "p1", json!(-1))])).of("p1", until), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_pod(body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Pod::list(&answer(body.clone())).is_err());
            prop_assert!(Bill::read(&answer(body)).is_err());
        }
    }
}
