//! What goes into a call of a tool and what comes out of it, whoever calls.

use forebay_domain::port::Via;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Everything about a call but who, what and with which arguments.
#[derive(Debug)]
pub struct CallContext {
    pub via: Via,
    /// Fires when the caller takes the call back.
    pub cancel: CancellationToken,
    /// How long it may take at most; the tool's own limit where `None`.
    pub deadline: Option<Duration>,
    /// Where to report progress, where the caller wants any.
    pub progress: Option<Progress>,
}

/// How a call ended, unless it failed.
#[derive(Debug)]
pub enum Outcome {
    Complete(Complete),
    /// The caller took it back.
    Cancelled,
}

/// A finished result: the raw `CallToolResult` of the protocol.
#[derive(Debug, Clone)]
pub struct Complete {
    pub raw: Box<RawValue>,
    /// The tool ran and said that it failed.
    pub is_error: bool,
}

/// One report of progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Grows with every report.
    pub progress: f64,
    pub total: Option<f64>,
    pub message: Option<String>,
}

/// Takes reports of progress. A reader that is slow misses some; it never holds up the tool.
#[derive(Debug, Clone)]
pub struct Progress(mpsc::Sender<Step>);

/// Reports that wait for a slow reader at most.
const STEPS_MAX: usize = 64;

impl Progress {
    pub fn channel() -> (Self, mpsc::Receiver<Step>) {
        let (sender, receiver) = mpsc::channel(STEPS_MAX);
        (Self(sender), receiver)
    }

    pub fn report(&self, step: Step) {
        // A full queue means a reader that lags behind, a closed one a reader that left: neither is the tool's affair.
        let _lost = self.0.try_send(step);
    }
}
