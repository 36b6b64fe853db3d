//! What all transports share: the requests under way, whose answer is whose, and who hears what else an upstream says.
//!
//! Nothing here waits for anybody: a message that finds no taker is counted and dropped, so that one slow caller never
//! holds up the reading for the others. Ids that we never gave out are ignored. What becomes of each kind of message is
//! in [`arriving`].

mod arriving;

use super::{ClientFault, Limits, Parts, Tenancy, heard::Listener, wire};
use crate::{call::Emission, envelope::Id, era::Version};
use bytes::Bytes;
use forebay_runtime::Tasks;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Questions of an upstream that wait for an answer.
const QUESTIONS_MAX: usize = 64;

pub(super) type Answer = Result<Box<RawValue>, ClientFault>;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// On a channel for everything.
    Shared,
    /// On the stream that answers this request.
    Of(u64),
}

/// Why a connection ended.
#[derive(Debug, Clone)]
pub(super) enum Gone {
    Closed,
    SessionExpired,
    TooLarge,
    Broken(String),
}

/// What an upstream did that it should not have, and what was lost on the way.
#[derive(Debug, Default)]
struct Counters {
    junk: AtomicU64,
    strange: AtomicU64,
    dropped: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were none.
    pub junk: u64,
    /// Answers to nothing that was asked, and requests that the protocol version does not know.
    pub strange: u64,
    /// Messages for which there was no room, or nobody who wanted them.
    pub dropped: u64,
}

pub(super) struct Core {
    pub(super) limits: Limits,
    pub(super) tasks: Tasks,
    pub(super) ended: CancellationToken,
    /// Bounds the requests under way.
    pub(super) room: Arc<Semaphore>,
    /// Messages that want no answer: cancellations, and answers to questions.
    pub(super) out: mpsc::Sender<Bytes>,
    version: OnceLock<Version>,
    listener: Listener,
    tenancy: Tenancy,
    next: AtomicU64,
    table: Mutex<Table>,
    gone: OnceLock<Gone>,
    questions: Arc<Semaphore>,
    counters: Counters,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<u64, Waiting>,
    /// The upstream's questions that wait for an answer.
    asked: HashMap<Id, CancellationToken>,
}

struct Waiting {
    answer: oneshot::Sender<Answer>,
    emissions: Option<mpsc::Sender<Emission>>,
    kind: Kind,
}

/// What kind of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is answered in its time.
    Call,
    /// It stays open, and what it brings is for the listener.
    Standing,
    /// Nothing is asked: what the upstream says of a call that goes on after its answer comes here.
    Ear,
}

/// A request under way. Dropped before its answer came, it tells the upstream that nobody waits any longer.
pub(super) struct UnderWay {
    core: Arc<Core>,
    pub(super) id: u64,
    pub(super) answer: oneshot::Receiver<Answer>,
    pub(super) farewell: Farewell,
}

/// What the upstream is told when a request is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Nothing: it was answered, or the transport itself tells.
    Silent,
    Cancelled,
}

impl Core {
    pub(super) fn new(parts: Parts, out: mpsc::Sender<Bytes>) -> Arc<Self> {
        Arc::new(Self {
            limits: parts.limits,
            tasks: parts.tasks,
            ended: CancellationToken::new(),
            room: Arc::new(Semaphore::new(parts.limits.under_way_max)),
            out,
            version: OnceLock::new(),
            listener: parts.listener,
            tenancy: parts.tenancy,
            next: AtomicU64::new(1),
            table: Mutex::default(),
            gone: OnceLock::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            counters: Counters::default(),
        })
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn settle_version(&self, version: Version) {
        // A connection is opened once; a second setting would be a repetition of the first.
        let _settled = self.version.set(version);
    }

    fn is_modern(&self) -> bool {
        self.version.get().is_some_and(|version| version.is_modern())
    }

    /// Enters a request, before it is sent.
    pub(super) fn begin(
        self: &Arc<Self>,
        id: u64,
        emissions: Option<mpsc::Sender<Emission>>,
        kind: Kind,
        farewell: Farewell,
    ) -> UnderWay {
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting {
            answer: sender,
            emissions,
            kind,
        };
        self.table().waiting.insert(id, waiting);
        UnderWay {
            core: self.clone(),
            id,
            answer,
            farewell,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.gone.get().is_none()
    }

    /// Ends the connection: everything under way fails.
    pub(super) fn end(&self, why: Gone) {
        // Whoever ends it first says why.
        let _second = self.gone.set(why);
        self.ended.cancel();
        let waiting = std::mem::take(&mut self.table().waiting);
        for (_, waiting) in waiting {
            // A request that is given up in this moment no longer listens.
            let _unheard = waiting.answer.send(Err(self.gone()));
        }
    }

    /// Why nothing more can be asked on this connection.
    pub(super) fn gone(&self) -> ClientFault {
        match self.gone.get() {
            Some(Gone::SessionExpired) => ClientFault::SessionExpired,
            Some(Gone::TooLarge) => ClientFault::TooLarge {
                bytes_max: self.limits.message_bytes_max,
            },
            Some(Gone::Broken(what)) => ClientFault::broken(what.clone()),
            Some(Gone::Closed) | None => ClientFault::broken("the connection was closed"),
        }
    }

    /// Fails the request that an unusable message would have answered.
    pub(super) fn fail(&self, id: Option<u64>, fault: ClientFault) {
        self.settle(id, Err(fault));
    }

    fn settle(&self, id: Option<u64>, answer: Answer) {
        let waiting = id.and_then(|id| self.table().waiting.remove(&id));
        match waiting {
            // A request that is given up in this moment no longer listens.
            Some(waiting) => drop(waiting.answer.send(answer)),
            None => Self::count(&self.counters.strange, "an answer to nothing that was asked"),
        }
    }

    /// Sends what wants no answer; without room it is dropped.
    pub(super) fn post(&self, message: Bytes) {
        if self.out.try_send(message).is_err() {
            self.count_dropped();
        }
    }

    fn count_dropped(&self) {
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_junk(&self, what: &str) {
        Self::count(&self.counters.junk, what);
    }

    /// Counts, and says so at the first, second, fourth, eighth … time.
    fn count(counter: &AtomicU64, what: &str) {
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(count, "an MCP upstream sent what cannot be used: {what}");
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            junk: self.counters.junk.load(Ordering::Relaxed),
            strange: self.counters.strange.load(Ordering::Relaxed),
            dropped: self.counters.dropped.load(Ordering::Relaxed),
        }
    }

    /// The only request under way, where there is exactly one.
    pub(super) fn only(&self) -> Option<u64> {
        let table = self.table();
        let asked = table.waiting.iter().filter(|(_, waiting)| waiting.kind != Kind::Ear);
        let mut ids = asked.map(|(id, _)| *id);
        match (ids.next(), ids.next()) {
            (Some(id), None) => Some(id),
            _ => None,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .expect("nobody panics while holding the table of requests")
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let given_up = self.core.table().waiting.remove(&self.id).is_some();
        if given_up && self.farewell == Farewell::Cancelled {
            self.core
                .post(wire::cancelled(self.id, "nobody waits for the answer any longer"));
        }
    }
}

pub(super) fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("this is JSON")
}
