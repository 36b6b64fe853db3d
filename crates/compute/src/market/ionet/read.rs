//! What io.net says is there: all deployments, one of them, and its containers.

use super::{
    IoNet, judge,
    shape::{self, Containers, Detail, Listed, Page, in_hours, state},
};
use crate::market::{Machine, MachineState, MarketFault, names};
use forebay_domain::money::{Usd, UsdRate};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;
use url::Url;

const PAGE_SIZE: usize = 100;
const PAGES_MAX: usize = 200;
/// For all pages together.
const LIST_TIME_MAX: Duration = Duration::from_mins(1);
/// For what one of ours costs and where it is reached.
const DETAIL_TIME_MAX: Duration = Duration::from_secs(10);
const DETAILS_AT_ONCE: usize = 8;

impl IoNet {
    /// All pages. Its specifications disagree on whether the first is 0 or 1: the first is asked for without a number,
    /// then from 1 on until all are there that it counts; what comes twice counts once.
    async fn listed(&self) -> Result<BTreeMap<String, Listed>, MarketFault> {
        let mut found = BTreeMap::new();
        let mut total = None;
        for page in 0..PAGES_MAX {
            let mut call = Self::get("/deployments").query("page_size", PAGE_SIZE.to_string());
            if page > 0 {
                call = call.query("page", page.to_string());
            }
            let answer = self.read(call).await?;
            let read: Page = shape::parse(&answer.body)?;
            if *total.get_or_insert(read.total) != read.total {
                return Err(MarketFault::Broken("its list changed while it was read".to_owned()));
            }
            let before = found.len();
            for row in read.deployments {
                found.insert(judge::id(&row.id)?.to_owned(), row);
            }
            if found.len() >= read.total {
                return Ok(found);
            }
            // Page 1 may be the first once more.
            if page > 1 && found.len() == before {
                break;
            }
        }
        let (shown, total) = (found.len(), total.unwrap_or(0));
        Err(MarketFault::Broken(format!(
            "its list counts {total} and shows {shown}"
        )))
    }

    /// All machines, as the list shows them.
    async fn listed_machines(&self) -> Result<Vec<Machine>, MarketFault> {
        let listed = timeout(LIST_TIME_MAX, self.listed()).await;
        let late = |_| MarketFault::Unreachable(format!("its list took longer than {} s", LIST_TIME_MAX.as_secs()));
        let listed = listed.map_err(late)??;
        let machines = listed.into_values().map(|row| {
            let label = names::label_of(row.name.as_deref().unwrap_or_default());
            if label.starts_with(names::OURS) {
                self.remember(&row.id, |seen| seen.label.clone_from(&label));
            }
            Machine {
                label,
                state: self.state_of(&row.id, &row.status),
                rate: None,
                paid: None,
                started_at: row.started_at(),
                ends_at: row.ends_at(),
                endpoints: BTreeMap::new(),
                status: MarketFault::words(&row.status),
                id: row.id,
            }
        });
        Ok(machines.collect())
    }

    pub(super) async fn all_machines(&self) -> Result<Vec<Machine>, MarketFault> {
        let machines = self.listed_machines().await?;
        let whole = stream::iter(machines).map(|machine| self.with_detail(machine));
        Ok(whole.buffered(DETAILS_AT_ONCE).collect().await)
    }

    /// The list says neither what was paid nor where a machine is reached. That it is there the list alone tells: where
    /// the detail of one of ours cannot be read now, what it said last still holds.
    async fn with_detail(&self, listed: Machine) -> Machine {
        if !listed.label.starts_with(names::OURS) || listed.state == MachineState::Ended {
            return listed;
        }
        let detailed = async {
            let detail = self.detail(&listed.id).await.ok().flatten()?;
            self.machine_of(detail).await.ok()
        };
        if let Ok(Some(fresh)) = timeout(DETAIL_TIME_MAX, detailed).await {
            return Machine {
                label: listed.label,
                ..fresh
            };
        }
        let Some(last) = self.seen.get(&listed.id).and_then(|seen| seen.machine) else {
            return listed;
        };
        let is_running = listed.state == MachineState::Running;
        Machine {
            label: listed.label,
            state: listed.state,
            status: listed.status,
            endpoints: if is_running { last.endpoints } else { BTreeMap::new() },
            ..last
        }
    }

    /// `None` where io.net itself says that it knows none of this id.
    pub(super) async fn detail(&self, id: &str) -> Result<Option<Detail>, MarketFault> {
        let answer = self
            .api
            .ask(Self::get(&format!("/deployment/{}", judge::id(id)?)))
            .await?;
        if answer.status == StatusCode::NOT_FOUND && judge::says_something(&answer) {
            return Ok(None);
        }
        if answer.status != StatusCode::OK {
            return Err(judge::fault(&answer));
        }
        let detail: Detail = shape::parse(&answer.body)?;
        if detail.id != id {
            return Err(MarketFault::Broken("it answers with another deployment".to_owned()));
        }
        if let Some(paid) = detail.paid() {
            self.remember(id, |seen| seen.paid = seen.paid.max(Some(paid)));
        }
        Ok(Some(detail))
    }

    pub(super) async fn containers(&self, id: &str) -> Result<Containers, MarketFault> {
        let answer = self.read(Self::get(&format!("/deployment/{id}/containers"))).await?;
        shape::parse(&answer.body)
    }

    pub(super) async fn one_machine(&self, id: &str) -> Result<Option<Machine>, MarketFault> {
        match self.detail(id).await? {
            Some(detail) => Ok(Some(self.machine_of(detail).await?)),
            // A 404 alone is no end: whoever has lost his rights may get one too. The list has to agree.
            None => Ok(self
                .listed_machines()
                .await?
                .into_iter()
                .find(|machine| machine.id == id)),
        }
    }

    async fn machine_of(&self, detail: Detail) -> Result<Machine, MarketFault> {
        let state = self.state_of(&detail.id, &detail.status);
        let mut endpoints = BTreeMap::new();
        if let (MachineState::Running, Some(port)) = (state, detail.port()) {
            let workers = self.containers(&detail.id).await?.workers;
            let url = workers.into_iter().find_map(|worker| web_address(&worker.public_url?));
            endpoints.extend(url.map(|url| (port, url)));
        }
        let machine = Machine {
            label: self.seen.get(&detail.id).map(|seen| seen.label).unwrap_or_default(),
            state,
            status: MarketFault::words(&detail.status),
            rate: rate(&detail),
            paid: detail.paid(),
            started_at: detail.started_at(),
            ends_at: detail.ends_at(),
            endpoints,
            id: detail.id,
        };
        self.remember(&machine.id, |seen| seen.machine = Some(machine.clone()));
        Ok(machine)
    }

    /// One that failed and has nothing left to end is a record of what was.
    fn state_of(&self, id: &str, status: &str) -> MachineState {
        match state(status) {
            MachineState::Failed if self.seen.get(id).is_some_and(|seen| seen.is_over) => MachineState::Ended,
            state => state,
        }
    }

    /// Whether the whole list knows nothing of it, or only that it was. One that failed is not ended any further.
    pub(super) async fn is_over(&self, id: &str) -> Result<bool, MarketFault> {
        let machines = self.listed_machines().await?;
        let machine = machines.iter().find(|machine| machine.id == id);
        Ok(machine.is_none_or(|machine| matches!(machine.state, MachineState::Ended | MachineState::Failed)))
    }
}

/// What an hour of what was bought costs.
fn rate(detail: &Detail) -> Option<UsdRate> {
    let nanos = |paid: Usd| i128::from(paid.micros()) * 1_000 * 3_600_000;
    let bought = i128::try_from(in_hours(detail.bought()?).as_millis()).ok()?;
    if bought == 0 {
        return None;
    }
    let hourly = (nanos(detail.paid()?) + bought - 1) / bought;
    i64::try_from(hourly).ok().map(UsdRate::from_nanos_per_hour)
}

/// An address that can be asked over HTTP, without a slash at its end.
fn web_address(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.username().is_empty();
    is_web.then(|| url.as_str().trim_end_matches('/').to_owned())
}
