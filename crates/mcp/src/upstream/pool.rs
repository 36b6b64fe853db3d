//! The connections to one upstream: one for each identity, opened when it is first wanted, closed when it lies idle,
//! opened again when it has ended.

use super::settings::{Place, Settings};
use crate::{
    call::{ClientCaps, LogLevel},
    client::{ClientFault, Connection, Hello, Limits, Listener, Mode, Parts, Target, Tenancy},
};
use forebay_domain::{
    Principal,
    id::{KeyId, SubjectId, TenantId},
};
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

/// Connections of callers to one upstream at most; the one that lay idle longest makes room.
const CONNECTIONS_MAX: usize = 64;
/// A caller's connection that nobody used for so long is closed.
const IDLE_MAX: Duration = Duration::from_mins(10);

/// Whose connection it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// The gateway's own, on which it lists and listens; and everybody's where the upstream is shared.
    Gateway,
    /// Another key of the same subject is somebody else, and so is a client that can be asked other things.
    Caller {
        tenant: TenantId,
        subject: SubjectId,
        key: Option<KeyId>,
        caps: Box<str>,
    },
}

impl Identity {
    pub(super) fn of(principal: &Principal, caps: &ClientCaps) -> Self {
        Self::Caller {
            tenant: principal.tenant.clone(),
            subject: principal.subject.clone(),
            key: principal.key.clone(),
            caps: caps.for_upstreams().get().into(),
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

/// A connection, with the process behind it where there is one.
pub(super) struct Lane {
    pub(super) connection: Connection,
    child: Option<Mutex<Option<Child>>>,
    used_ms: AtomicU64,
    /// The level that was asked for, on a connection of the older era.
    log_level: Mutex<Option<LogLevel>>,
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

    /// Ends the connection, and the process with it.
    pub(super) async fn close(&self) {
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
#[derive(Default)]
struct Slot(AsyncMutex<Option<Arc<Lane>>>);

impl Pool {
    pub(super) fn new(settings: Settings, opener: Opener) -> Self {
        Self {
            opener,
            settings,
            lanes: Mutex::default(),
        }
    }

    /// The connection of that identity, opened where there is none that still works.
    pub(super) async fn lane(&self, identity: &Identity, caps: &RawValue) -> Result<Arc<Lane>, ClientFault> {
        let slot = self.slot(identity);
        let mut held = slot.0.lock().await;
        if let Some(lane) = held.as_ref().filter(|lane| lane.connection.is_open()) {
            lane.used_ms.store(self.now_ms(), Ordering::Relaxed);
            return Ok(lane.clone());
        }
        let lane = Arc::new(self.open(identity, caps).await?);
        *held = Some(lane.clone());
        Ok(lane)
    }

    /// Forgets a connection that turned out to be dead, unless somebody has replaced it already.
    pub(super) async fn forget(&self, identity: &Identity, dead: &Arc<Lane>) {
        let slot = self.slot(identity);
        let mut held = slot.0.lock().await;
        if held.as_ref().is_some_and(|lane| Arc::ptr_eq(lane, dead)) {
            held.take();
        }
        drop(held);
        dead.close().await;
    }

    fn slot(&self, identity: &Identity) -> Arc<Slot> {
        let mut lanes = lock(&self.lanes);
        if let Some(slot) = lanes.get(identity) {
            return slot.clone();
        }
        if lanes.len() >= CONNECTIONS_MAX {
            self.make_room(&mut lanes);
        }
        let slot = Arc::<Slot>::default();
        lanes.insert(identity.clone(), slot.clone());
        slot
    }

    fn make_room(&self, lanes: &mut HashMap<Identity, Arc<Slot>>) {
        let oldest = lanes
            .iter()
            .filter(|(identity, _)| **identity != Identity::Gateway)
            .filter_map(|(identity, slot)| {
                let held = slot.0.try_lock().ok()?;
                let lane = held.as_ref()?;
                // Somebody who holds a clone of it has a request under way.
                (Arc::strong_count(lane) == 1).then(|| (lane.used_ms.load(Ordering::Relaxed), identity.clone()))
            })
            .min_by_key(|(used, _)| *used);
        if let Some((_, identity)) = oldest
            && let Some(slot) = lanes.remove(&identity)
        {
            self.retire(slot);
        }
    }

    /// Closes what lies idle.
    pub(super) fn sweep(&self) {
        let now = self.now_ms();
        let idle_ms = u64::try_from(IDLE_MAX.as_millis()).unwrap_or(u64::MAX);
        let mut retired = Vec::new();
        lock(&self.lanes).retain(|identity, slot| {
            let Ok(held) = slot.0.try_lock() else { return true };
            let keeps = match held.as_ref() {
                None => Arc::strong_count(slot) > 1,
                Some(lane) => {
                    *identity == Identity::Gateway
                        || Arc::strong_count(lane) > 1
                        || now.saturating_sub(lane.used_ms.load(Ordering::Relaxed)) < idle_ms
                }
            };
            drop(held);
            if !keeps {
                retired.push(slot.clone());
            }
            keeps
        });
        for slot in retired {
            self.retire(slot);
        }
    }

    fn retire(&self, slot: Arc<Slot>) {
        self.opener.tasks.spawn("upstream-close", move |_| async move {
            let lane = slot.0.lock().await.take();
            if let Some(lane) = lane {
                lane.close().await;
            }
        });
    }

    /// Ends the connections of a key, or all of them.
    pub(super) fn close_where(&self, chosen: impl Fn(&Identity) -> bool) {
        let mut retired = Vec::new();
        lock(&self.lanes).retain(|identity, slot| {
            let goes = chosen(identity);
            if goes {
                retired.push(slot.clone());
            }
            !goes
        });
        for slot in retired {
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
            limits: Limits::default(),
        };
        Ok(Lane {
            connection: Connection::open(target, hello, parts).await?,
            child,
            used_ms: AtomicU64::new(self.now_ms()),
            log_level: Mutex::default(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opener.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The gateway as an upstream's client: it lists for everybody, so it says that it can do all that its clients may.
pub(super) fn gateway_caps() -> Box<RawValue> {
    crate::call::raw(&json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}}))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding connections")
}
