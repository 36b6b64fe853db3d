//! The machine that the gateway runs on: each GPU is an offer, or a share of the CPU where there is no GPU.
//!
//! A machine here is a slot that a supervised agent process holds, in its own process group and under a guard. It ends
//! with the gateway, whatever ends that; a gateway that starts anew has none.

mod slots;

pub use slots::{Slot, SlotKind, slots};

use super::{ChargeQuery, Created, Destroyed, Machine, MachineState, Market, MarketFault, Order, PriceChange, Wanted};
use forebay_domain::{
    market::{Billing, Offer, OfferId, Provider},
    money::{Usd, UsdRate},
    port::BoxFuture,
};
use forebay_runtime::{
    Clock, Tasks,
    child::{Child, Command, Launcher, Logs, Patience},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Which parts of this machine can be had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {
    /// Into how many shares the CPU is divided where there is no GPU; one for each core, up to 8, where this is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64), extend("x-forebay-reload" = "live"))]
    pub cpu_slots: Option<u32>,
    /// What an hour of one slot costs, in US dollars.
    #[schemars(with = "f64", range(min = 0), extend("x-forebay-reload" = "live"))]
    pub usd_per_hour: Usd,
}

/// The program that holds a slot: our own binary, told to be an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentProgram {
    pub program: String,
    pub args: Vec<String>,
}

/// What this market needs of its process.
pub struct LocalParts {
    pub config: LocalConfig,
    pub slots: Vec<Slot>,
    pub agent: AgentProgram,
    pub launcher: Launcher,
    pub clock: Clock,
    pub tasks: Tasks,
}

/// Cheap to clone; all clones are one market.
#[derive(Clone)]
pub struct Local(Arc<Inner>);

struct Inner {
    slots: Vec<Slot>,
    rate: UsdRate,
    agent: AgentProgram,
    launcher: Launcher,
    clock: Clock,
    tasks: Tasks,
    /// By their ids.
    running: Arc<Mutex<BTreeMap<String, Held>>>,
}

/// A slot that is taken.
struct Held {
    slot: String,
    label: String,
    since: Timestamp,
    /// What was agreed on, whatever the slot costs whoever comes next.
    rate: UsdRate,
    logs: Logs,
    stage: Stage,
}

enum Stage {
    Starting,
    Running(Child),
    Ending,
}

impl Local {
    /// Its machines end when draining begins.
    pub fn new(parts: LocalParts) -> Self {
        let running: Arc<Mutex<BTreeMap<String, Held>>> = Arc::default();
        let (ending, tasks) = (running.clone(), parts.tasks.clone());
        parts.tasks.spawn("local_machines", |stop| async move {
            stop.draining().await;
            let ids: Vec<String> = lock(&ending).keys().cloned().collect();
            for id in ids {
                end(&tasks, &ending, &id);
            }
        });
        Self(Arc::new(Inner {
            slots: parts.slots,
            rate: UsdRate::per_hour(parts.config.usd_per_hour),
            agent: parts.agent,
            launcher: parts.launcher,
            clock: parts.clock,
            tasks: parts.tasks,
            running,
        }))
    }

    /// The same machines, differently offered.
    pub fn offered_as(&self, config: &LocalConfig, slots: Vec<Slot>) -> Self {
        Self(Arc::new(Inner {
            slots,
            rate: UsdRate::per_hour(config.usd_per_hour),
            agent: self.0.agent.clone(),
            launcher: self.0.launcher.clone(),
            clock: self.0.clock.clone(),
            tasks: self.0.tasks.clone(),
            running: self.0.running.clone(),
        }))
    }

    fn free(&self) -> Vec<&Slot> {
        let running = lock(&self.0.running);
        let is_free = |slot: &&Slot| running.values().all(|held| held.slot != slot.id);
        self.0.slots.iter().filter(is_free).collect()
    }

    fn offer_of(&self, slot: &Slot, disk_gb: u32) -> Option<Offer> {
        Some(Offer {
            id: OfferId::new(Provider::Local, &slot.id).ok()?,
            gpu: slot.gpu.clone(),
            gpus: u32::from(slot.kind == SlotKind::Gpu),
            vram_gb: slot.vram_gb,
            cpu_cores: slot.cpu_cores,
            memory_gb: slot.memory_gb,
            disk_gb,
            rate: self.0.rate,
            billing: Billing::Accrues,
            country: None,
            place: None,
            reliability: None,
            tier: None,
            longest: None,
        })
    }

    /// Takes the slot, if it is there and free.
    fn reserve(&self, order: &Order, id: &str) -> Result<(Slot, Reserved), MarketFault> {
        let gone = || MarketFault::OfferGone(MarketFault::words(&order.offer));
        let slot = self
            .0
            .slots
            .iter()
            .find(|slot| slot.id == order.offer)
            .ok_or_else(gone)?;
        let mut running = lock(&self.0.running);
        if running.values().any(|held| held.slot == slot.id) || running.contains_key(id) {
            return Err(gone());
        }
        let held = Held {
            slot: slot.id.clone(),
            label: order.label.clone(),
            since: self.0.clock.now(),
            rate: self.0.rate,
            logs: Logs::new(),
            stage: Stage::Starting,
        };
        running.insert(id.to_owned(), held);
        let reserved = Reserved {
            running: self.0.running.clone(),
            id: id.to_owned(),
            is_kept: false,
        };
        Ok((slot.clone(), reserved))
    }

    async fn start(&self, order: &Order) -> Created {
        // The label is unique for ever, and so is its end.
        let id = order.label.rsplit(':').next().unwrap_or_default().to_owned();
        let (slot, reserved) = match self.reserve(order, &id) {
            Ok(taken) => taken,
            Err(fault) => return Created::Refused(fault),
        };
        let command = Command {
            name: format!("instance {id}"),
            program: self.0.agent.program.clone(),
            args: self.0.agent.args.clone(),
            env: slot.env(order),
            cwd: None,
        };
        match self.0.launcher.start(&command).await {
            Ok(child) => {
                reserved.keep(child, &self.0.tasks);
                Created::Confirmed { id }
            }
            Err(fault) => Created::Refused(MarketFault::Refused(MarketFault::words(&fault.to_string()))),
        }
    }
}

/// A slot whose agent is being started: free again where that does not come about, whatever was asked meanwhile.
struct Reserved {
    running: Arc<Mutex<BTreeMap<String, Held>>>,
    id: String,
    is_kept: bool,
}

impl Reserved {
    fn keep(mut self, child: Child, tasks: &Tasks) {
        self.is_kept = true;
        let is_ending = match lock(&self.running).get_mut(&self.id) {
            Some(held) => {
                held.logs = child.logs().clone();
                matches!(std::mem::replace(&mut held.stage, Stage::Running(child)), Stage::Ending)
            }
            None => false,
        };
        // Its end was asked for while it was being started.
        if is_ending {
            end(tasks, &self.running, &self.id);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.is_kept {
            lock(&self.running).remove(&self.id);
        }
    }
}

/// Ends one; whether there is such a one.
fn end(tasks: &Tasks, running: &Arc<Mutex<BTreeMap<String, Held>>>, id: &str) -> bool {
    let stage = match lock(running).get_mut(id) {
        Some(held) => std::mem::replace(&mut held.stage, Stage::Ending),
        None => return false,
    };
    if let Stage::Running(mut child) = stage {
        let (running, id) = (running.clone(), id.to_owned());
        tasks.spawn("local_machine_ends", |_| async move {
            child.kill(Patience::default()).await;
            lock(&running).remove(&id);
        });
    }
    true
}

fn lock(running: &Mutex<BTreeMap<String, Held>>) -> MutexGuard<'_, BTreeMap<String, Held>> {
    running.lock().expect("nobody panics while holding it")
}

fn machine(id: &str, held: &Held) -> Machine {
    let (state, status) = match &held.stage {
        Stage::Starting => (MachineState::Starting, "starting".to_owned()),
        Stage::Ending => (MachineState::Ending, "ending".to_owned()),
        Stage::Running(child) => match child.exit() {
            None => (MachineState::Running, "running".to_owned()),
            Some(exit) => (MachineState::Exited, format!("its agent ended with {exit}")),
        },
    };
    Machine {
        id: id.to_owned(),
        label: held.label.clone(),
        state,
        status,
        rate: Some(held.rate),
        paid: None,
        started_at: Some(held.since),
        ends_at: None,
        endpoints: BTreeMap::new(),
    }
}

impl Market for Local {
    fn provider(&self) -> Provider {
        Provider::Local
    }

    /// Nothing is between it and the network: what runs there listens where it likes.
    fn ports_max(&self) -> usize {
        0
    }

    fn offers<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Vec<Offer>, MarketFault>> {
        let offers = self
            .free()
            .into_iter()
            .filter_map(|slot| self.offer_of(slot, wanted.disk_gb));
        let offers = offers.collect();
        Box::pin(async move { Ok(offers) })
    }

    fn offer<'a>(&'a self, id: &'a str, disk_gb: u32) -> BoxFuture<'a, Result<Option<Offer>, MarketFault>> {
        let free = self.free().into_iter().find(|slot| slot.id == id);
        let offer = free.and_then(|slot| self.offer_of(slot, disk_gb));
        Box::pin(async move { Ok(offer) })
    }

    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Created> {
        Box::pin(self.start(order))
    }

    fn machines(&self) -> BoxFuture<'_, Result<Vec<Machine>, MarketFault>> {
        let running = lock(&self.0.running);
        let machines = running.iter().map(|(id, held)| machine(id, held)).collect();
        Box::pin(async move { Ok(machines) })
    }

    /// What runs here is listed as it is.
    fn list_lag(&self) -> Duration {
        Duration::ZERO
    }

    fn machine<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Machine>, MarketFault>> {
        let running = lock(&self.0.running);
        let machine = running.get(id).map(|held| machine(id, held));
        Box::pin(async move { Ok(machine) })
    }

    fn destroy<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Destroyed, MarketFault>> {
        let is_there = end(&self.0.tasks, &self.0.running, id);
        let ended = if is_there { Destroyed::Accepted } else { Destroyed::Gone };
        Box::pin(async move { Ok(ended) })
    }

    fn extend<'a>(&'a self, _id: &'a str, _hours: u32) -> BoxFuture<'a, Result<(), MarketFault>> {
        Box::pin(async { Err(MarketFault::Unsupported("sell time before it is used")) })
    }

    fn extension_price<'a>(&'a self, _id: &'a str, _hours: u32) -> BoxFuture<'a, Result<Usd, MarketFault>> {
        Box::pin(async { Err(MarketFault::Unsupported("sell time before it is used")) })
    }

    fn charged<'a>(&'a self, _machine: &'a ChargeQuery) -> BoxFuture<'a, Result<Option<Usd>, MarketFault>> {
        Box::pin(async { Ok(None) })
    }

    fn logs<'a>(&'a self, id: &'a str, lines: u32) -> BoxFuture<'a, Result<String, MarketFault>> {
        let logs = lock(&self.0.running).get(id).map(|held| held.logs.clone());
        let kept = logs.map(|logs| logs.lines()).unwrap_or_default();
        let from = kept.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
        let text = kept[from..]
            .iter()
            .flat_map(|line| [line.text.as_str(), "\n"])
            .collect();
        Box::pin(async move { Ok(text) })
    }

    fn price_changes(&self) -> BoxFuture<'_, Result<Vec<PriceChange>, MarketFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[cfg(test)]
mod tests;
