//! The connections to one upstream: one for each identity, opened when it is first wanted, dropped when it lies idle,
//! opened again when it has ended.
//!
//! A connection lives for as long as somebody holds it: whoever replaces or retires one never cuts what others have
//! under way on it. One owner can take only so many, and never another's place while that one is in use.

use super::{
    errand::Form,
    held::Withheld,
    settings::{Place, Settings},
};
use crate::{
    call::{ClientCaps, LogLevel},
    client::{ClientFault, Connection, Hello, Limits, Listener, Mode, Parts, Target, Tenancy},
    session::Owner,
};
use arc_swap::ArcSwap;
use forebay_domain::{Code, Failure, Principal};
use forebay_runtime::{
    Clock, Tasks,
    child::{Child, Launcher, Logs, Patience},
};
use serde_json::{json, value::RawValue};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Mutex as AsyncMutex;

/// Connections to one upstream at most.
const CONNECTIONS_MAX: usize = 64;
/// Of one owner: its clients may differ in what they can be asked.
const CONNECTIONS_OF_OWNER_MAX: usize = 8;
/// A caller's connection that nobody used for so long is closed.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// A connection that lasted so long was well, so that the next one is opened at once.
const WELL_AFTER: Duration = Duration::from_mins(1);
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Requests under way on one connection. Each owner has a share of its own besides.
const UNDER_WAY_MAX: usize = 4096;

/// Whose connection it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// The gateway's own, on which it lists and listens; and everybody's where the upstream is shared.
    Gateway,
    /// One owner's, whose clients can be asked the same things.
    Caller { owner: Owner, caps: Box<str> },
}

impl Identity {
    pub(super) fn of(principal: &Principal, caps: &ClientCaps) -> Self {
        Self::Caller {
            owner: Owner::from(principal),
            caps: caps.for_upstreams().get().into(),
        }
    }

    fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Gateway => None,
            Self::Caller { owner, .. } => Some(owner),
        }
    }
}

/// What opening a connection takes.
#[derive(Clone)]
pub(super) struct Opener {
    pub(super) launcher: Launcher,
    pub(super) tasks: Tasks,
    pub(super) clock: Clock,
    pub(super) client_info: Box<RawValue>,
    pub(super) listener: Listener,
    pub(super) logs: Logs,
}

/// A connection, with the process behind it where there is one. Both end when the last holder lets go.
pub(super) struct Lane {
    pub(super) connection: Connection,
    pub(super) vetting: Vetting,
    /// Whether its server runs calls as tasks, and how it writes them.
    pub(super) tasks: Option<Form>,
    child: Option<Mutex<Option<Child>>>,
    used_ms: AtomicU64,
    /// The level that was asked for, on a connection of the older era.
    log_level: Mutex<Option<LogLevel>>,
}

/// What was made of the definitions that *this* connection's server lists: it may be another process, or another
/// version, than the one that the gateway listed.
#[derive(Default)]
pub(super) struct Vetting {
    /// Held while somebody vets.
    pub(super) turn: AsyncMutex<()>,
    /// The epoch of the upstream's listing with which it was vetted, and when; 0 before.
    pub(super) epoch: AtomicU64,
    pub(super) at_ms: AtomicU64,
    pub(super) held: ArcSwap<Withheld>,
}

impl Lane {
    /// Whether this level still has to be asked for. A shared connection keeps the lowest that anybody wants, and each
    /// client is told only what it wants itself.
    pub(super) fn wants(&self, level: LogLevel) -> bool {
        let mut asked = lock(&self.log_level);
        let news = asked.is_none_or(|before| level < before);
        if news {
            *asked = Some(level);
        }
        news
    }

    pub(super) fn mark_vetted(&self, epoch: u64, now_ms: u64, held: Arc<Withheld>) {
        self.vetting.held.store(held);
        self.vetting.at_ms.store(now_ms, Ordering::SeqCst);
        self.vetting.epoch.store(epoch, Ordering::SeqCst);
    }

    /// Its server has to show its definitions again before it serves anything.
    pub(super) fn mistrust(&self) {
        self.vetting.epoch.store(0, Ordering::SeqCst);
    }

    /// Says farewell and ends the process.
    async fn close(&self) {
        self.connection.close().await;
        let child = self.child.as_ref().and_then(|child| lock(child).take());
        if let Some(mut child) = child {
            let _exit = child.kill(Patience::default()).await;
        }
    }
}

pub(super) struct Pool {
    opener: Opener,
    settings: Settings,
    lanes: Mutex<HashMap<Identity, Arc<Slot>>>,
}

/// The place of one identity's connection. Whoever opens holds the lock, so that two callers never open two.
type Slot = AsyncMutex<Held>;

#[derive(Default)]
struct Held {
    lane: Option<Arc<Lane>>,
    opened_ms: Option<u64>,
    /// How long the next opening has to wait after this one, since those before ended soon.
    pause: Duration,
}

impl Pool {
    pub(super) fn new(settings: Settings, opener: Opener) -> Self {
        Self {
            opener,
            settings,
            lanes: Mutex::default(),
        }
    }

    /// The connection of that identity, opened where there is none that still works.
    pub(super) async fn lane(&self, identity: &Identity, caps: &RawValue) -> Result<Arc<Lane>, Failure> {
        let slot = self.slot(identity)?;
        let mut held = slot.lock().await;
        if let Some(lane) = held.lane.as_ref().filter(|lane| lane.connection.is_open()) {
            lane.used_ms.store(self.now_ms(), Ordering::Relaxed);
            return Ok(lane.clone());
        }
        held.lane = None;
        // The loop that opens the gateway's own connection has pauses of its own.
        if *identity != Identity::Gateway {
            self.pace(&mut held)?;
        }
        let opened = self.open(identity, caps).await;
        let lane = Arc::new(opened.map_err(|fault| fault.into_failure(self.settings.name.as_str()))?);
        held.lane = Some(lane.clone());
        Ok(lane)
    }

    /// Holds back whoever would start a program over and over that ends at once.
    fn pace(&self, held: &mut Held) -> Result<(), Failure> {
        let now = self.now_ms();
        if let Some(opened) = held.opened_ms {
            let since = Duration::from_millis(now.saturating_sub(opened));
            if since < held.pause {
                let message = format!("The upstream `{}` has just ended, repeatedly.", self.settings.name);
                return Err(Failure::new(Code::UpstreamFailed, message)
                    .hint("It is started again in a moment.")
                    .retry_after(held.pause.saturating_sub(since)));
            }
            held.pause = if since < WELL_AFTER {
                (held.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX)
            } else {
                Duration::ZERO
            };
        }
        held.opened_ms = Some(now);
        Ok(())
    }

    /// Lets go of a connection, unless somebody has replaced it already. Whoever else holds it goes on with it.
    pub(super) async fn forget(&self, identity: &Identity, old: &Arc<Lane>) {
        let slot = lock(&self.lanes).get(identity).cloned();
        if let Some(slot) = slot {
            let mut held = slot.lock().await;
            if held.lane.as_ref().is_some_and(|lane| Arc::ptr_eq(lane, old)) {
                held.lane = None;
            }
        }
    }

    fn slot(&self, identity: &Identity) -> Result<Arc<Slot>, Failure> {
        let mut lanes = lock(&self.lanes);
        if let Some(slot) = lanes.get(identity) {
            return Ok(slot.clone());
        }
        self.sweep_in(&mut lanes);
        let own = |other: &Identity| other.owner() == identity.owner();
        let has = lanes.keys().filter(|other| own(other)).count();
        let room = (has < CONNECTIONS_OF_OWNER_MAX || self.evict(&mut lanes, own))
            && (lanes.len() < CONNECTIONS_MAX
                || self.evict(&mut lanes, own)
                || (has == 0 && self.evict(&mut lanes, |_| true)));
        if !room {
            let message = format!(
                "The upstream `{}` has as many connections as it may have.",
                self.settings.name
            );
            return Err(Failure::new(Code::Overloaded, message).hint("Try again when other calls have ended."));
        }
        let slot = Arc::<Slot>::default();
        lanes.insert(identity.clone(), slot.clone());
        Ok(slot)
    }

    /// Retires the connection that lay idle longest, of those chosen. False where all are in use.
    fn evict(&self, lanes: &mut HashMap<Identity, Arc<Slot>>, chosen: impl Fn(&Identity) -> bool) -> bool {
        let idle = lanes
            .iter()
            .filter(|(identity, _)| **identity != Identity::Gateway && chosen(identity));
        let oldest = idle
            .filter_map(|(identity, slot)| Some((idle_since(slot)?, identity.clone())))
            .min_by_key(|(since, _)| *since);
        let Some((_, identity)) = oldest else { return false };
        if let Some(slot) = lanes.remove(&identity) {
            self.retire(slot);
        }
        true
    }

    /// Retires what lies idle for long.
    pub(super) fn sweep(&self) {
        self.sweep_in(&mut lock(&self.lanes));
    }

    fn sweep_in(&self, lanes: &mut HashMap<Identity, Arc<Slot>>) {
        let now = self.now_ms();
        let mut retired = Vec::new();
        lanes.retain(|identity, slot| {
            let stale = *identity != Identity::Gateway
                && idle_since(slot).is_some_and(|since| u128::from(now.saturating_sub(since)) >= IDLE_MAX.as_millis());
            if stale {
                retired.push(slot.clone());
            }
            !stale
        });
        for slot in retired {
            self.retire(slot);
        }
    }

    /// Closes an idle connection in the background, so that its server hears of it.
    fn retire(&self, slot: Arc<Slot>) {
        self.opener.tasks.spawn("upstream-close", move |_| async move {
            let lane = slot.lock().await.lane.take();
            if let Some(lane) = lane.and_then(Arc::into_inner) {
                lane.close().await;
            }
        });
    }

    /// Lets go of the connections of a key, or of all. What is under way on them ends as it ends.
    pub(super) fn release_where(&self, chosen: impl Fn(&Identity) -> bool) {
        let mut released = Vec::new();
        lock(&self.lanes).retain(|identity, slot| {
            let goes = chosen(identity);
            if goes {
                released.push(slot.clone());
            }
            !goes
        });
        for slot in released {
            self.retire(slot);
        }
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.lanes).len()
    }

    async fn open(&self, identity: &Identity, caps: &RawValue) -> Result<Lane, ClientFault> {
        match self.open_in(identity, caps, self.settings.mode).await {
            // Some older servers end at the first message that is no `initialize`; they are started again and greeted in
            // the old way.
            Err(ClientFault::EndedOnProbe) if self.settings.mode == Mode::Auto => {
                self.open_in(identity, caps, Mode::Legacy).await
            }
            other => other,
        }
    }

    async fn open_in(&self, identity: &Identity, caps: &RawValue, mode: Mode) -> Result<Lane, ClientFault> {
        let (target, child) = match &self.settings.place {
            Place::Http(target) => (Target::Http(Box::new(target.clone())), None),
            Place::Child(command) => {
                let started = self.opener.launcher.start_into(command, self.opener.logs.clone()).await;
                let mut child = started.map_err(|fault| ClientFault::Unreachable {
                    what: format!("{fault}. {}", fault.hint()),
                    source: None,
                })?;
                let io = child.take_io().ok_or_else(|| ClientFault::Unreachable {
                    what: "its standard streams are gone".to_owned(),
                    source: None,
                })?;
                let target = Target::Pipe {
                    reader: Box::new(io.stdout),
                    writer: Box::new(io.stdin),
                };
                (target, Some(Mutex::new(Some(child))))
            }
        };
        let hello = Hello {
            mode,
            client_info: self.opener.client_info.clone(),
            capabilities: caps.to_owned(),
        };
        let parts = Parts {
            tasks: self.opener.tasks.clone(),
            listener: self.opener.listener.clone(),
            tenancy: match identity {
                Identity::Gateway => Tenancy::ManyCallers,
                Identity::Caller { .. } => Tenancy::OneCaller,
            },
            limits: Limits {
                under_way_max: UNDER_WAY_MAX,
                ..Limits::default()
            },
        };
        let connection = Connection::open(target, hello, parts).await?;
        Ok(Lane {
            tasks: Form::of(&connection),
            connection,
            vetting: Vetting::default(),
            child,
            used_ms: AtomicU64::new(self.now_ms()),
            log_level: Mutex::default(),
        })
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.opener.tasks
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.opener.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Since when nobody uses what is in a slot; nothing while somebody does. An empty one is idle for ever, unless its next
/// opening has to wait.
fn idle_since(slot: &Arc<Slot>) -> Option<u64> {
    // Somebody who holds a clone of the slot or of its connection is using it.
    if Arc::strong_count(slot) > 1 {
        return None;
    }
    let held = slot.try_lock().ok()?;
    match &held.lane {
        None => Some(held.opened_ms.unwrap_or(0)),
        Some(lane) => (Arc::strong_count(lane) == 1).then(|| lane.used_ms.load(Ordering::Relaxed)),
    }
}

/// The gateway as an upstream's client: it lists for everybody, so it says that it can do all that its clients may.
pub(super) fn gateway_caps() -> Box<RawValue> {
    crate::call::raw(&json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}}))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding connections")
}
