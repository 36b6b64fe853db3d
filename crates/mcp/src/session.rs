//! The sessions of the legacy era: each belongs to one principal, and there are only so many of them.
//!
//! A session that is not its asker's, or belongs to another scope, does not exist for that asker. One with something
//! under way never expires. What it says waits in bounded streams; nobody waits for a listener that does not read.
//! Sessions of Streamable HTTP are kept in the store as well, and outlive their process; those of a pipe end with it.

mod kept;
pub(crate) mod log;
mod owner;
pub(crate) mod place;
pub(crate) mod questions;
mod row;
pub(crate) mod shelf;
pub(crate) mod streams;
mod subscriptions;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use self::kept::Found;
pub use self::owner::Owner;
use self::{
    kept::unknown,
    questions::Questions,
    shelf::Shelf,
    streams::{Home, Streams},
};
use crate::{
    call::{ClientCaps, LogLevel},
    era::Version,
    front::news::Bell,
    index::Scope,
};
use forebay_domain::{
    Code, Failure, Principal,
    id::{KeyId, SessionId, TenantId},
};
use forebay_runtime::{Clock, Entropy};
use forebay_store::Store;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How many sessions there may be, and how long one may lie idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    pub total: usize,
    pub per_principal: usize,
    pub idle: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            total: 10_000,
            per_principal: 200,
            idle: Duration::from_mins(30),
        }
    }
}

/// The least severe log message that a client is sent which has not said what it wants.
const LEVEL_DEFAULT: LogLevel = LogLevel::Info;

/// Random bytes of a session id.
const ID_BYTES: usize = 20;

/// All sessions of this process.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    limits: SessionLimits,
    clock: Clock,
    entropy: Entropy,
    shelf: Shelf,
    table: Mutex<HashMap<SessionId, Arc<Session>>>,
}

/// How a client introduced itself.
pub(crate) struct Hello {
    pub(crate) version: Version,
    pub(crate) scope: Scope,
    pub(crate) caps: Arc<ClientCaps>,
    pub(crate) outlet: Outlet,
}

/// Where a session is told what belongs to none of its calls.
pub(crate) enum Outlet {
    /// On the streams that its client opens.
    Streams,
    /// On the one pipe that it has, whose owner listens to this bell.
    Pipe(Arc<Bell>),
}

/// One session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) version: Version,
    pub(crate) scope: Scope,
    pub(crate) caps: Arc<ClientCaps>,
    pub(crate) outlet: Outlet,
    /// Fires when the session ends; what is under way ends with it.
    pub(crate) closed: CancellationToken,
    pub(crate) questions: Questions,
    pub(crate) streams: Streams,
    owner: Owner,
    level: Mutex<LogLevel>,
    subscriptions: Mutex<BTreeSet<String>>,
    under_way: AtomicUsize,
    touched_ms: AtomicU64,
    /// What `touched_ms` was when the store was last told of it.
    noted_ms: AtomicU64,
}

/// Keeps a session from expiring while it exists.
pub(crate) struct Busy {
    session: Arc<Session>,
    sessions: Sessions,
}

impl Sessions {
    pub fn new(limits: SessionLimits, clock: Clock, entropy: Entropy, store: &Store) -> Self {
        let shelf = Shelf::new(store, clock.clone(), &entropy);
        Self(Arc::new(Inner {
            limits,
            clock,
            entropy,
            shelf,
            table: Mutex::default(),
        }))
    }

    /// How many sessions are open.
    pub fn count(&self) -> usize {
        let now = self.now_ms();
        self.table()
            .values()
            .filter(|session| !self.is_stale(session, now))
            .count()
    }

    /// Opens a session that lives in this process alone.
    pub(crate) fn open(&self, principal: &Principal, hello: Hello) -> Result<Arc<Session>, Failure> {
        let session = self.make(self.draw_id(), Owner::from(principal), hello);
        self.admit(&session).map(|()| session)
    }

    fn draw_id(&self) -> SessionId {
        let id = hex::encode(self.0.entropy.bytes::<ID_BYTES>());
        SessionId::try_from(id).expect("hex digits are an identifier")
    }

    fn make(&self, id: SessionId, owner: Owner, hello: Hello) -> Arc<Session> {
        let now = self.now_ms();
        let home = Home {
            shelf: self.0.shelf.clone(),
            session: id.clone(),
        };
        Arc::new(Session {
            questions: Questions::of(home.shelf.writer()),
            streams: Streams::of(home),
            id,
            version: hello.version,
            scope: hello.scope,
            caps: hello.caps,
            outlet: hello.outlet,
            closed: CancellationToken::new(),
            owner,
            level: Mutex::new(LEVEL_DEFAULT),
            subscriptions: Mutex::default(),
            under_way: AtomicUsize::new(0),
            touched_ms: AtomicU64::new(now),
            noted_ms: AtomicU64::new(now),
        })
    }

    /// Takes a session in. At a limit the one that lay idle longest makes room, in the tenant that asks or else in the one
    /// that has the most; where none is idle, this is refused, as it is where the session is here already.
    fn admit(&self, session: &Arc<Session>) -> Result<(), Failure> {
        let now = self.now_ms();
        let mut table = self.table();
        self.end_stale(&mut table, now);
        if table.contains_key(&session.id) {
            return Err(unknown());
        }
        let own = table.values().filter(|other| other.owner == session.owner).count();
        if own >= self.0.limits.per_principal {
            self.make_room(&mut table, now, |other| other.owner == session.owner)?;
        }
        if table.len() >= self.0.limits.total {
            let own = session.owner.tenant.clone();
            let largest = largest(&table);
            self.make_room(&mut table, now, |other| other.owner.tenant == own)
                .or_else(|_| self.make_room(&mut table, now, |other| Some(&other.owner.tenant) == largest.as_ref()))?;
        }
        table.insert(session.id.clone(), session.clone());
        Ok(())
    }

    /// Lets go of what lay idle for too long. In the store it ends by its own time: another replica may be using it.
    fn end_stale(&self, table: &mut HashMap<SessionId, Arc<Session>>, now_ms: u64) {
        table.retain(|_, session| {
            let stale = self.is_stale(session, now_ms);
            if stale {
                session.end(now_ms);
            }
            !stale
        });
    }

    fn make_room(
        &self,
        table: &mut HashMap<SessionId, Arc<Session>>,
        now_ms: u64,
        candidate: impl Fn(&Session) -> bool,
    ) -> Result<(), Failure> {
        let oldest = table
            .values()
            .filter(|session| candidate(session) && session.under_way.load(Ordering::SeqCst) == 0)
            .min_by_key(|session| session.touched_ms.load(Ordering::Relaxed))
            .map(|session| session.id.clone());
        let oldest = oldest.ok_or_else(|| {
            let message = "There are too many sessions, and all of them are in use.";
            Failure::new(Code::Overloaded, message)
                .hint("End one with DELETE, or use protocol version 2026-07-28, which needs none.")
        })?;
        if let Some(session) = table.remove(&oldest) {
            session.end(now_ms);
            self.0.shelf.forget(&session);
        }
        Ok(())
    }

    /// The session of that id, if it is in memory. One that is somebody else's does not exist.
    fn find_here(&self, id: &SessionId, principal: &Principal, scope: &Scope) -> Result<Option<Arc<Session>>, Failure> {
        let now = self.now_ms();
        let mut table = self.table();
        let Some(session) = table.get(id).cloned() else {
            return Ok(None);
        };
        if !session.owner.is(principal) || session.scope != *scope {
            return Err(unknown());
        }
        if self.is_stale(&session, now) {
            session.end(now);
            table.remove(id);
            return Ok(None);
        }
        session.touched_ms.store(now, Ordering::Relaxed);
        Ok(Some(session))
    }

    pub(crate) fn busy(&self, session: &Arc<Session>) -> Busy {
        session.under_way.fetch_add(1, Ordering::SeqCst);
        Busy {
            session: session.clone(),
            sessions: self.clone(),
        }
    }

    pub(crate) fn close(&self, session: &Session) {
        session.end(self.now_ms());
        self.table().remove(&session.id);
    }

    /// Closes every session of a key, with all that is under way in them.
    pub(crate) fn close_key(&self, key: &KeyId) {
        let now = self.now_ms();
        self.table().retain(|_, session| {
            let theirs = session.owner.key.as_ref() == Some(key);
            if theirs {
                session.end(now);
            }
            !theirs
        });
    }

    /// The sessions that are open now.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.table().values().cloned().collect()
    }

    /// Lets go of what nobody will ask for any more.
    pub(crate) fn sweep(&self) {
        let now = self.now_ms();
        let mut table = self.table();
        self.end_stale(&mut table, now);
        for session in table.values() {
            session.streams.sweep(now);
        }
    }

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.0.shelf
    }

    fn is_stale(&self, session: &Session, now_ms: u64) -> bool {
        let idle_ms = now_ms.saturating_sub(session.touched_ms.load(Ordering::Relaxed));
        session.under_way.load(Ordering::SeqCst) == 0 && u128::from(idle_ms) >= self.0.limits.idle.as_millis()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.0.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.0.table.lock().expect("nobody panics while holding the sessions")
    }
}

/// The tenant that has the most sessions.
fn largest(table: &HashMap<SessionId, Arc<Session>>) -> Option<TenantId> {
    let mut counts: HashMap<&TenantId, usize> = HashMap::new();
    for session in table.values() {
        *counts.entry(&session.owner.tenant).or_default() += 1;
    }
    let largest = counts.into_iter().max_by_key(|(_, count)| *count);
    largest.map(|(tenant, _)| tenant.clone())
}

impl Session {
    fn end(&self, now_ms: u64) {
        self.closed.cancel();
        self.streams.close(now_ms);
    }

    /// Whether it outlives this process.
    pub(crate) fn is_kept(&self) -> bool {
        match self.outlet {
            Outlet::Streams => true,
            Outlet::Pipe(_) => false,
        }
    }

    /// The least severe log message that its client wants.
    pub(crate) fn level(&self) -> LogLevel {
        *self.level.lock().expect("nobody panics while holding a level")
    }

    pub(crate) fn set_level(&self, level: LogLevel) {
        *self.level.lock().expect("nobody panics while holding a level") = level;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.session.touched_ms.store(self.sessions.now_ms(), Ordering::Relaxed);
        self.session.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}
