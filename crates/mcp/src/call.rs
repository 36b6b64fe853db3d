//! What goes into a call and what comes out of it, whoever calls: the client as a tool sees it, and how a call ends.
//!
//! A call tells its client things on the way (progress, log messages) and may ask it something. Both travel as
//! [`Emission`]s in one bounded queue, so that their order is kept; how they reach the client is the front's affair.

use crate::era::Version;
use forebay_domain::{Code, Failure, port::Via};
use serde_json::{Value, json, value::RawValue};
use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Everything about a call but who, what and with which arguments.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub via: Via,
    /// Fires when the caller takes the call back.
    pub cancel: CancellationToken,
    /// How long it may take at most; the tool's own limit where `None`.
    pub deadline: Option<Duration>,
    /// Who is to be told and may be asked.
    pub client: Client,
    /// What a client brings along that was asked before (2026-07-28, multi-round-trip requests).
    pub retry: Option<Retry>,
}

/// The answers to what an earlier round asked, and the state it left with the client.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// The raw object `inputResponses`.
    pub input_responses: Option<Box<RawValue>>,
    /// The source's own state, checked and unwrapped.
    pub request_state: Option<String>,
}

/// How a call ended, unless it failed.
#[derive(Debug)]
pub enum Outcome {
    Complete(Complete),
    /// It cannot go on without input: a raw `InputRequiredResult`, with the source's own `requestState`.
    InputRequired(Box<RawValue>),
    /// A source that speaks JSON-RPC itself answered with an error, which goes to the client as it is.
    Refused(RpcError),
    /// The caller took it back.
    Cancelled,
}

/// A finished result as the protocol writes it.
#[derive(Debug, Clone)]
pub struct Complete {
    pub raw: Box<RawValue>,
    /// The tool ran and said that it failed.
    pub is_error: bool,
    /// Where it failed beyond what a caller could mend: why, for the record.
    pub failed: Option<Code>,
}

/// A JSON-RPC error object of somebody else's making.
#[derive(Debug, Clone)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Option<Box<RawValue>>,
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        let mut details = json!({"rpcCode": error.code});
        if let Some(data) = error.data {
            details["data"] = serde_json::from_str(data.get()).unwrap_or_default();
        }
        Self::new(Code::UpstreamFailed, error.message).details(details)
    }
}

/// One thing that a call in progress says to its client.
#[derive(Debug)]
pub enum Emission {
    /// The params of `notifications/progress`; the front puts the client's own token in.
    Progress(Box<RawValue>),
    /// The params of `notifications/message`.
    Log(Box<RawValue>),
    /// Any other notification, as it came.
    Notification { method: String, params: Box<RawValue> },
    /// A request to the client: `sampling/createMessage`, `elicitation/create`, `roots/list`.
    Question(Question),
    /// The connection may be closed for now: a client of 2025-11-25 comes back for the rest by itself.
    Hangup,
}

/// A request that waits for the client's answer. Dropping it answers that nobody will.
#[derive(Debug)]
pub struct Question {
    pub method: String,
    pub params: Option<Box<RawValue>>,
    pub reply: oneshot::Sender<Result<Box<RawValue>, RpcError>>,
}

/// Emissions that wait for a slow reader at most.
const EMISSIONS_MAX: usize = 64;

/// The client of a call: what it can do, and the way to it.
#[derive(Debug, Clone)]
pub struct Client {
    pub version: Version,
    pub caps: Arc<ClientCaps>,
    /// The least severe log message that it wants; none at all where `None`.
    pub log_level: Option<LogLevel>,
    /// Whether it asked for progress.
    pub wants_progress: bool,
    emissions: Option<mpsc::Sender<Emission>>,
    asked: Arc<Asked>,
}

/// What a client has been asked in the course of one call.
#[derive(Debug, Default)]
struct Asked {
    waiting: AtomicUsize,
    answered: AtomicUsize,
}

/// Holds for as long as the client is thinking about a question.
#[derive(Debug)]
pub struct Thinking(Arc<Asked>);

impl Drop for Thinking {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.answered.fetch_add(1, Ordering::SeqCst);
    }
}

impl Client {
    /// A client that can neither be told nor asked anything.
    pub fn nobody() -> Self {
        Self {
            version: Version::LEGACY_NEWEST,
            caps: Arc::default(),
            log_level: None,
            wants_progress: false,
            emissions: None,
            asked: Arc::default(),
        }
    }

    /// A client that reads emissions from the receiver.
    pub fn listening(version: Version, caps: Arc<ClientCaps>) -> (Self, mpsc::Receiver<Emission>) {
        let (sender, receiver) = mpsc::channel(EMISSIONS_MAX);
        let client = Self {
            version,
            caps,
            log_level: None,
            wants_progress: false,
            emissions: Some(sender),
            asked: Arc::default(),
        };
        (client, receiver)
    }

    /// Whether its user can be asked to fill in a form: it says that it can, and there is a way to ask it.
    pub fn fills_in_forms(&self) -> bool {
        self.caps.fills_in_forms() && self.emissions.is_some()
    }

    /// To be held by whoever carries a question to the client, until the answer is there.
    pub fn thinking(&self) -> Thinking {
        self.asked.waiting.fetch_add(1, Ordering::SeqCst);
        Thinking(self.asked.clone())
    }

    /// Whether the call waits for its client: that time is not the tool's.
    pub fn is_being_asked(&self) -> bool {
        self.asked.waiting.load(Ordering::SeqCst) > 0
    }

    /// How many questions were answered, or given up, so far.
    pub fn answered(&self) -> usize {
        self.asked.answered.load(Ordering::SeqCst)
    }

    /// The way to the client, for a source that relays what somebody else says.
    pub fn emissions(&self) -> Option<mpsc::Sender<Emission>> {
        self.emissions.clone()
    }

    /// Reports progress, where it was asked for. A reader that is slow misses some; it never holds up the tool.
    pub fn report(&self, step: Step) {
        if self.wants_progress {
            self.tell(Emission::Progress(step.into_raw()));
        }
    }

    /// Sends a log message, where one this severe is wanted.
    pub fn log(&self, level: LogLevel, logger: &str, data: &Value) {
        if self.log_level.is_some_and(|least| level >= least) {
            let params = json!({"level": level.as_str(), "logger": logger, "data": data});
            self.tell(Emission::Log(raw(&params)));
        }
    }

    /// Lets go of the connection while there is nothing to say, where the client knows how to come back for the rest.
    pub fn hang_up(&self) {
        self.tell(Emission::Hangup);
    }

    fn tell(&self, emission: Emission) {
        // A full queue means a reader that lags behind, a closed one a reader that left: neither is the tool's affair.
        if let Some(emissions) = &self.emissions {
            let _lost = emissions.try_send(emission);
        }
    }

    /// Asks the client, and waits for its answer for as long as the call may last.
    pub async fn ask(&self, method: &str, params: Option<Box<RawValue>>) -> Result<Box<RawValue>, AskFault> {
        let needed = Capability::of(method).ok_or(AskFault::Nobody)?;
        if !self.caps.has(needed) {
            return Err(AskFault::Unable(needed));
        }
        let (reply, answer) = oneshot::channel();
        let question = Question {
            method: method.to_owned(),
            params,
            reply,
        };
        let emissions = self.emissions.as_ref().ok_or(AskFault::Nobody)?;
        emissions
            .send(Emission::Question(question))
            .await
            .map_err(|_| AskFault::Nobody)?;
        answer.await.map_err(|_| AskFault::Nobody)?.map_err(AskFault::Refused)
    }
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskFault {
    #[error("there is no client that could be asked")]
    Nobody,
    #[error("the client has not declared the capability `{}`", .0.as_str())]
    Unable(Capability),
    #[error("the client refused: {} ({})", .0.message, .0.code)]
    Refused(RpcError),
}

impl From<AskFault> for Failure {
    fn from(fault: AskFault) -> Self {
        match fault {
            AskFault::Unable(needed) => Self::new(
                Code::MissingClientCapability,
                format!("This needs a client with the capability `{}`.", needed.as_str()),
            )
            .hint("Use a client that declares it.")
            .details(json!({"requiredCapabilities": needed.to_json()})),
            AskFault::Nobody => Self::new(
                Code::ClientSilent,
                "The client could not be asked, and this needs its answer.",
            ),
            AskFault::Refused(error) => Self::new(
                Code::ClientSilent,
                format!("The client refused to answer: {} ({}).", error.message, error.code),
            ),
        }
    }
}

/// What a client can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    Sampling,
    Elicitation,
    Roots,
}

impl Capability {
    pub const ALL: [Self; 3] = [Self::Sampling, Self::Elicitation, Self::Roots];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Elicitation => "elicitation",
            Self::Roots => "roots",
        }
    }

    /// The capability that a request to the client needs; none for methods that no client knows.
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "sampling/createMessage" => Some(Self::Sampling),
            "elicitation/create" => Some(Self::Elicitation),
            "roots/list" => Some(Self::Roots),
            _ => None,
        }
    }

    /// As a `ClientCapabilities` object, for the error that names it.
    pub fn to_json(self) -> Value {
        json!({self.as_str(): {}})
    }
}

/// The capabilities that a client declared, as it wrote them.
#[derive(Debug, Clone)]
pub struct ClientCaps {
    raw: Box<RawValue>,
    has: [bool; Capability::ALL.len()],
    fills_in_forms: bool,
}

impl ClientCaps {
    /// Reads the raw `ClientCapabilities` object; what is no object declares nothing.
    pub fn new(declared: &RawValue) -> Self {
        let Ok(Value::Object(members)) = serde_json::from_str(declared.get()) else {
            return Self::default();
        };
        Self {
            raw: declared.to_owned(),
            has: Capability::ALL.map(|one| members.get(one.as_str()).is_some_and(Value::is_object)),
            fills_in_forms: members.get("elicitation").is_some_and(fills_in_forms),
        }
    }

    /// Whether its user can be asked by a form, and not only sent to an address.
    pub fn fills_in_forms(&self) -> bool {
        self.fills_in_forms
    }

    pub fn has(&self, capability: Capability) -> bool {
        self.has[capability as usize]
    }

    pub fn raw(&self) -> &RawValue {
        &self.raw
    }
}

impl Default for ClientCaps {
    fn default() -> Self {
        Self {
            raw: raw(&json!({})),
            has: [false; Capability::ALL.len()],
            fills_in_forms: false,
        }
    }
}

/// Forms are what elicitation was before it had parts; whoever names parts can do those that it names.
fn fills_in_forms(elicitation: &Value) -> bool {
    let Some(parts) = elicitation.as_object() else {
        return false;
    };
    parts.contains_key("form") || !parts.contains_key("url")
}

/// The severity of a log message, after RFC 5424.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl LogLevel {
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Failure> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str).join(", ");
                Failure::new(Code::InvalidParams, format!("`level` must be one of {known}."))
            })
    }
}

/// One report of progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Grows with every report.
    pub progress: f64,
    pub total: Option<f64>,
    pub message: Option<String>,
}

impl Step {
    fn into_raw(self) -> Box<RawValue> {
        let mut params = json!({"progress": self.progress});
        if let Some(total) = self.total {
            params["total"] = json!(total);
        }
        if let Some(message) = self.message {
            params["message"] = json!(message);
        }
        raw(&params)
    }
}

/// A value as the protocol's raw JSON.
pub fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("a JSON value is JSON")
}
