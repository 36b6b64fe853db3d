//! What all transports share: the requests under way, whose answer is whose, and who hears what else an upstream says.
//!
//! Nothing here waits for anybody: a message that finds no taker is counted and dropped, so that one slow caller never
//! holds up the reading for the others. Ids that we never gave out are ignored.

use super::{
    ClientFault, Limits, Parts, Tenancy,
    heard::{Listener, says_change},
    wire::{self, Arrived, Unreadable},
};
use crate::{
    call::{Emission, Question, RpcError},
    envelope::Id,
    era::Version,
};
use bytes::Bytes;
use forebay_runtime::Tasks;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Questions of an upstream that wait for an answer.
const QUESTIONS_MAX: usize = 64;
/// How long a question may wait for its answer.
const QUESTION_WAIT_MAX: Duration = Duration::from_hours(1);
/// A progress or log message beyond this is dropped.
const EMISSION_BYTES_MAX: usize = 1 << 20;

const METHOD_NOT_FOUND: i64 = -32601;
const SERVER_BUSY: i64 = -32000;

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

    /// Reads what came, and gives each message to whom it concerns.
    pub(super) fn take(self: &Arc<Self>, bytes: &[u8], via: Via) {
        wire::read(bytes, |arrived| match arrived {
            Ok(Arrived::Answer { id, outcome }) => self.take_answer(id, outcome, via),
            Ok(Arrived::Request { id, method, params }) => self.take_question(id, method, params, via),
            Ok(Arrived::Notification { method, params }) => self.take_notification(method, params, via),
            Err(unreadable) => self.take_junk(&unreadable, via),
        });
    }

    fn take_answer(&self, id: Option<u64>, outcome: Result<Box<RawValue>, RpcError>, via: Via) {
        // An error without an id, alone on the answer to a request, can only mean that request.
        let id = match (id, via) {
            (None, Via::Of(request)) if outcome.is_err() => Some(request),
            (id, _) => id,
        };
        self.settle(id, outcome.map_err(ClientFault::Refused));
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

    fn take_junk(&self, unreadable: &Unreadable, via: Via) {
        Self::count(&self.counters.junk, unreadable.why);
        let alone = match via {
            Via::Shared => None,
            Via::Of(request) => Some(request),
        };
        let id = unreadable
            .id
            .filter(|id| self.table().waiting.contains_key(id))
            .or(alone);
        if id.is_some() {
            self.fail(id, ClientFault::Protocol(unreadable.why.to_owned()));
        }
    }

    fn take_notification(&self, method: String, params: Option<Box<RawValue>>, via: Via) {
        let params = params.unwrap_or_else(empty);
        match method.as_str() {
            "notifications/progress" => match self.asker_of(&params, via) {
                Some(emissions) => self.emit(&emissions, Emission::Progress(params)),
                None => self.count_dropped(),
            },
            "notifications/message" => match self.asker(via) {
                Some(emissions) => self.emit(&emissions, Emission::Log(params)),
                None => self.listener.put(Emission::Log(params)),
            },
            "notifications/cancelled" => self.take_cancellation(&params),
            changed if says_change(changed) => self.listener.put(Emission::Notification { method, params }),
            _ => match self.asker(via) {
                Some(emissions) => self.emit(&emissions, Emission::Notification { method, params }),
                None => self.listener.put(Emission::Notification { method, params }),
            },
        }
    }

    /// In the older versions an upstream takes back its own question; in the modern one it ends a subscription.
    fn take_cancellation(&self, params: &RawValue) {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow, rename = "requestId")]
            request_id: Option<&'a RawValue>,
        }
        let named: Option<Named<'_>> = serde_json::from_str(params.get()).ok();
        let Some(raw) = named.and_then(|named| named.request_id) else {
            return;
        };
        if self.is_modern() {
            let id = raw.get().parse().ok();
            self.fail(id, ClientFault::broken("the upstream ended it"));
        } else if let Some(id) = Id::parse(raw.get())
            && let Some(cancel) = self.table().asked.remove(&id)
        {
            cancel.cancel();
        }
    }

    fn take_question(self: &Arc<Self>, id: Id, method: String, params: Option<Box<RawValue>>, via: Via) {
        if self.is_modern() {
            // No request goes this way any more, and no answer would be allowed.
            return Self::count(&self.counters.strange, "a request of an upstream");
        }
        if method == "ping" {
            return self.post(wire::answer(&id, &Ok(empty())));
        }
        let Ok(permit) = self.questions.clone().try_acquire_owned() else {
            return self.post(wire::answer(
                &id,
                &Err(error(SERVER_BUSY, "Too many questions wait already.")),
            ));
        };
        let unknown = error(METHOD_NOT_FOUND, &format!("Nobody here answers `{method}`."));
        let (reply, answer) = oneshot::channel();
        let question = Emission::Question(Question { method, params, reply });
        match self.asker(via) {
            Some(emissions) => self.emit(&emissions, question),
            None => self.listener.put(question),
        }
        let cancel = CancellationToken::new();
        self.table().asked.insert(id.clone(), cancel.clone());
        let core = self.clone();
        self.tasks.spawn("mcp-question", move |_stop| async move {
            let outcome = tokio::select! {
                biased;
                () = core.ended.cancelled() => None,
                () = cancel.cancelled() => None,
                answered = answer => Some(answered.unwrap_or(Err(unknown))),
                () = tokio::time::sleep(QUESTION_WAIT_MAX) => Some(Err(unknown)),
            };
            core.table().asked.remove(&id);
            if let Some(outcome) = outcome {
                // The connection may end in this moment; then nobody waits for the answer either.
                let _unsent = core.out.send(wire::answer(&id, &outcome)).await;
            }
            drop(permit);
        });
    }

    /// Whose progress this is: the request whose id the token is.
    fn asker_of(&self, params: &RawValue, via: Via) -> Option<mpsc::Sender<Emission>> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(rename = "progressToken")]
            token: u64,
        }
        let named: Option<Named> = serde_json::from_str(params.get()).ok();
        let id = match (named, via) {
            (Some(named), _) => named.token,
            (None, Via::Of(request)) => request,
            (None, Via::Shared) => return None,
        };
        self.table().waiting.get(&id)?.emissions.clone()
    }

    /// Who hears what came this way.
    fn asker(&self, via: Via) -> Option<mpsc::Sender<Emission>> {
        let table = self.table();
        match (via, self.tenancy) {
            (Via::Of(id), _) => table.waiting.get(&id)?.emissions.clone(),
            (Via::Shared, Tenancy::OneCaller) => {
                let calls = table.waiting.iter().filter(|(_, waiting)| waiting.kind == Kind::Call);
                calls
                    .filter_map(|(id, waiting)| Some((id, waiting.emissions.as_ref()?)))
                    .max_by_key(|(id, _)| **id)
                    .map(|(_, emissions)| emissions.clone())
            }
            // Not even where one call alone is under way: it may be meant for one that was given up a moment ago.
            (Via::Shared, Tenancy::ManyCallers) => None,
        }
    }

    fn emit(&self, emissions: &mpsc::Sender<Emission>, emission: Emission) {
        let too_long = match &emission {
            Emission::Progress(params) | Emission::Log(params) | Emission::Notification { params, .. } => {
                params.get().len() > EMISSION_BYTES_MAX
            }
            Emission::Question(_) | Emission::Hangup => false,
        };
        // A question that finds no room is dropped like the rest: its sender learns that nobody answers.
        if too_long || emissions.try_send(emission).is_err() {
            self.count_dropped();
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
        let mut ids = table.waiting.keys();
        match (ids.next(), ids.next()) {
            (Some(id), None) => Some(*id),
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

fn error(code: i64, message: &str) -> RpcError {
    RpcError {
        code,
        message: message.to_owned(),
        data: None,
    }
}
