//! The sessions of the legacy era: each belongs to one principal, and there are only so many of them.
//!
//! A session that is not its asker's, or belongs to another scope, does not exist for that asker. One with something
//! under way never expires. What it says waits in bounded streams; nobody waits for a listener that does not read.

pub(crate) mod log;
pub(crate) mod questions;
pub(crate) mod streams;

use self::{questions::Questions, streams::Streams};
use crate::{
    call::{ClientCaps, LogLevel},
    era::Version,
    front::news::Bell,
    index::Scope,
};
use forebay_domain::{
    Code, Failure, Principal,
    id::{KeyId, SessionId, SubjectId, TenantId},
};
use forebay_runtime::{Clock, Entropy};
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

/// Resources to whose changes one session may listen.
const SUBSCRIPTIONS_MAX: usize = 1000;

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
    table: Mutex<HashMap<SessionId, Arc<Session>>>,
}

/// Whose a session is. Another key of the same subject is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    tenant: TenantId,
    subject: SubjectId,
    key: Option<KeyId>,
}

impl Owner {
    pub(crate) fn key(&self) -> Option<&KeyId> {
        self.key.as_ref()
    }

    /// A text that is the same for the same owner, and for nobody else.
    pub(crate) fn fingerprint(&self) -> String {
        let key = self.key.as_ref().map_or("", KeyId::as_str);
        // No identifier holds a line break, so no two owners have one text.
        format!("{}\n{}\n{key}", self.tenant, self.subject)
    }
}

impl From<&Principal> for Owner {
    fn from(principal: &Principal) -> Self {
        Self {
            tenant: principal.tenant.clone(),
            subject: principal.subject.clone(),
            key: principal.key.clone(),
        }
    }
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
}

/// Keeps a session from expiring while it exists.
pub(crate) struct Busy {
    session: Arc<Session>,
    sessions: Sessions,
}

impl Sessions {
    pub fn new(limits: SessionLimits, clock: Clock, entropy: Entropy) -> Self {
        Self(Arc::new(Inner {
            limits,
            clock,
            entropy,
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

    /// Opens a session. At a limit the one that lay idle longest makes room; where none is idle, this is refused.
    pub(crate) fn open(&self, principal: &Principal, hello: Hello) -> Result<Arc<Session>, Failure> {
        let owner = Owner::from(principal);
        let now = self.now_ms();
        let mut table = self.table();
        table.retain(|_, session| {
            let stale = self.is_stale(session, now);
            if stale {
                session.end(now);
            }
            !stale
        });
        let own = table.values().filter(|session| session.owner == owner).count();
        if own >= self.0.limits.per_principal {
            make_room(&mut table, now, |session| session.owner == owner)?;
        }
        if table.len() >= self.0.limits.total {
            make_room(&mut table, now, |_| true)?;
        }
        let id = hex::encode(self.0.entropy.bytes::<ID_BYTES>());
        let session = Arc::new(Session {
            id: SessionId::try_from(id).expect("hex digits are an identifier"),
            version: hello.version,
            scope: hello.scope,
            caps: hello.caps,
            outlet: hello.outlet,
            closed: CancellationToken::new(),
            questions: Questions::default(),
            streams: Streams::default(),
            owner,
            level: Mutex::new(LEVEL_DEFAULT),
            subscriptions: Mutex::default(),
            under_way: AtomicUsize::new(0),
            touched_ms: AtomicU64::new(now),
        });
        table.insert(session.id.clone(), session.clone());
        Ok(session)
    }

    /// The session of that id, if it is this principal's and still open.
    pub(crate) fn find(&self, id: &str, principal: &Principal, scope: &Scope) -> Result<Arc<Session>, Failure> {
        let unknown = || {
            Failure::new(Code::UnknownSession, "There is no such session, or it has ended.")
                .hint("Open a new one with `initialize`.")
        };
        let id = SessionId::try_from(id).map_err(|_| unknown())?;
        let now = self.now_ms();
        let mut table = self.table();
        let session = table.get(&id).cloned().ok_or_else(unknown)?;
        if session.owner != Owner::from(principal) || session.scope != *scope {
            return Err(unknown());
        }
        if self.is_stale(&session, now) {
            session.end(now);
            table.remove(&id);
            return Err(unknown());
        }
        session.touched_ms.store(now, Ordering::Relaxed);
        Ok(session)
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
        table.retain(|_, session| {
            let stale = self.is_stale(session, now);
            if stale {
                session.end(now);
            }
            session.streams.sweep(now);
            !stale
        });
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

fn make_room(
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
        Failure::new(
            Code::Overloaded,
            "There are too many sessions, and all of them are in use.",
        )
        .hint("End one with DELETE, or use protocol version 2026-07-28, which needs none.")
    })?;
    if let Some(session) = table.remove(&oldest) {
        session.end(now_ms);
    }
    Ok(())
}

impl Session {
    fn end(&self, now_ms: u64) {
        self.closed.cancel();
        self.streams.close(now_ms);
    }

    /// The least severe log message that its client wants.
    pub(crate) fn level(&self) -> LogLevel {
        *self.level.lock().expect("nobody panics while holding a level")
    }

    pub(crate) fn set_level(&self, level: LogLevel) {
        *self.level.lock().expect("nobody panics while holding a level") = level;
    }

    /// Its client wants to hear of changes of a resource.
    pub(crate) fn subscribe(&self, uri: &str) -> Result<(), Failure> {
        let mut subscriptions = self.subscriptions();
        if subscriptions.len() >= SUBSCRIPTIONS_MAX && !subscriptions.contains(uri) {
            let message = format!("A session listens to {SUBSCRIPTIONS_MAX} resources at most.");
            return Err(Failure::new(Code::Overloaded, message).hint("Unsubscribe from some."));
        }
        subscriptions.insert(uri.to_owned());
        Ok(())
    }

    /// True where it listened to that resource.
    pub(crate) fn unsubscribe(&self, uri: &str) -> bool {
        self.subscriptions().remove(uri)
    }

    pub(crate) fn is_subscribed(&self, uri: &str) -> bool {
        self.subscriptions().contains(uri)
    }

    fn subscriptions(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.subscriptions
            .lock()
            .expect("nobody panics while holding the subscriptions")
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.session.touched_ms.store(self.sessions.now_ms(), Ordering::Relaxed);
        self.session.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::Role;
    use jiff::Timestamp;

    fn principal(key: &str) -> Principal {
        Principal {
            tenant: TenantId::try_from("t").unwrap(),
            project: None,
            subject: SubjectId::try_from("s").unwrap(),
            key: Some(KeyId::try_from(key).unwrap()),
            session: None,
            role: Role::User,
            grants: Vec::new(),
            shown: Vec::new(),
            good_until: None,
        }
    }

    fn hello() -> Hello {
        Hello {
            version: Version::V2025_11_25,
            scope: Scope::Whole,
            caps: Arc::default(),
            outlet: Outlet::Streams,
        }
    }

    fn sessions(total: usize, per_principal: usize) -> (Sessions, Clock) {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let limits = SessionLimits {
            total,
            per_principal,
            idle: Duration::from_mins(1),
        };
        (Sessions::new(limits, clock.clone(), Entropy::seeded(1)), clock)
    }

    #[test]
    fn a_session_is_its_owners_alone() {
        let (sessions, _) = sessions(10, 10);
        let session = sessions.open(&principal("a"), hello()).unwrap();
        assert!(
            sessions
                .find(session.id.as_str(), &principal("a"), &Scope::Whole)
                .is_ok()
        );
        for (id, key) in [(session.id.as_str(), "b"), ("nothing", "a"), ("b\u{e4}d", "a")] {
            let failure = sessions.find(id, &principal(key), &Scope::Whole).err().unwrap();
            assert_eq!(failure.code, Code::UnknownSession);
        }
        let elsewhere = Scope::Server("docs".into());
        assert!(sessions.find(session.id.as_str(), &principal("a"), &elsewhere).is_err());
        assert!(session.id.as_str().len() * 4 >= 128, "an id nobody guesses");
    }

    #[test]
    fn an_idle_session_expires_and_a_busy_one_does_not() {
        let (sessions, clock) = sessions(10, 10);
        let session = sessions.open(&principal("a"), hello()).unwrap();
        let busy = sessions.busy(&session);
        clock.advance(Duration::from_mins(10));
        assert_eq!(sessions.count(), 1);
        drop(busy);
        clock.advance(Duration::from_secs(59));
        assert!(
            sessions
                .find(session.id.as_str(), &principal("a"), &Scope::Whole)
                .is_ok(),
            "the end of a call counts as use"
        );
        clock.advance(Duration::from_mins(1));
        assert_eq!(sessions.count(), 0);
        assert!(
            sessions
                .find(session.id.as_str(), &principal("a"), &Scope::Whole)
                .is_err()
        );
        assert!(session.closed.is_cancelled());
    }

    #[test]
    fn the_longest_idle_makes_room() {
        let (sessions, clock) = sessions(3, 2);
        let open = |key| {
            clock.advance(Duration::from_secs(1));
            sessions.open(&principal(key), hello())
        };
        let (first, second) = (open("a").unwrap(), open("a").unwrap());
        let other = open("b").unwrap();
        open("a").unwrap();
        assert!(
            first.closed.is_cancelled(),
            "the limit of one principal costs that principal"
        );
        assert!(!other.closed.is_cancelled());
        open("c").unwrap();
        assert!(second.closed.is_cancelled(), "the limit of all costs the oldest");
        let held: Vec<_> = sessions
            .table()
            .values()
            .map(|session| sessions.busy(session))
            .collect();
        assert_eq!(
            sessions.open(&principal("d"), hello()).err().unwrap().code,
            Code::Overloaded
        );
        drop(held);
    }

    #[test]
    fn a_revoked_key_ends_its_sessions() {
        let (sessions, _) = sessions(10, 10);
        let theirs = sessions.open(&principal("a"), hello()).unwrap();
        let others = sessions.open(&principal("b"), hello()).unwrap();
        sessions.close_key(&KeyId::try_from("a").unwrap());
        assert!(theirs.closed.is_cancelled() && !others.closed.is_cancelled());
    }
}
