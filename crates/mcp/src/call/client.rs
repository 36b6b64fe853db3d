//! The client of a call as a tool sees it: what it can do, and the way to it.

use super::{Capability, ClientCaps, Emission, LogLevel, Question, RpcError, Step, raw};
use crate::era::Version;
use forebay_domain::{Code, Failure};
use serde_json::{Value, json, value::RawValue};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{mpsc, oneshot};

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
