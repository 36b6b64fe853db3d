//! What an inner call says on its way, carried to the client of the whole: progress as a part of the whole's, log
//! messages and notifications as they are, questions with their answers.
//!
//! Each inner call has a client of its own, so that only the call that asked something waits for the answer, and only
//! its time stands still meanwhile.

use crate::call::{Client, Emission, Outcome, Question};
use forebay_domain::Failure;
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::value::RawValue;
use std::{future::Future, pin::Pin};
use tokio::sync::{mpsc, oneshot};

pub(super) struct Relay {
    inner: Client,
    said: mpsc::Receiver<Emission>,
    outer: mpsc::Sender<Emission>,
}

impl Relay {
    /// None where nobody is there to be told.
    pub(super) fn to(outer: &Client) -> Option<Self> {
        let emissions = outer.emissions()?;
        let (mut inner, said) = Client::listening(outer.version, outer.caps.clone());
        inner.log_level = outer.log_level;
        inner.wants_progress = outer.wants_progress;
        Some(Self {
            inner,
            said,
            outer: emissions,
        })
    }

    /// The client that the inner call knows.
    pub(super) fn client(&self) -> Client {
        self.inner.clone()
    }

    /// Runs the call to its end.
    pub(super) async fn carry(
        &mut self,
        mut call: Pin<&mut impl Future<Output = Result<Outcome, Failure>>>,
        progress: impl Fn(&RawValue),
    ) -> Result<Outcome, Failure> {
        let mut questions = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(emission) = self.said.recv() => {
                    questions.extend(self.pass(emission, &progress));
                }
                Some(()) = questions.next(), if !questions.is_empty() => {}
                result = &mut call => {
                    // What it said before its end comes before its end.
                    while let Ok(emission) = self.said.try_recv() {
                        drop(self.pass(emission, &progress));
                    }
                    return result;
                }
            }
        }
    }

    /// Passes one emission on. A question comes back as the future that waits for its answer.
    fn pass(&self, emission: Emission, progress: &dyn Fn(&RawValue)) -> Option<impl Future<Output = ()> + use<>> {
        match emission {
            Emission::Progress(params) => progress(&params),
            Emission::Question(question) => return Some(asked(question, self.inner.clone(), self.outer.clone())),
            other @ (Emission::Log(_) | Emission::Notification { .. } | Emission::Hangup) => {
                // As everywhere, a reader that lags behind misses some.
                let _lost = self.outer.try_send(other);
            }
        }
        None
    }
}

/// Asks the outer client, and hands its answer to whoever asked within.
async fn asked(question: Question, inner: Client, outer: mpsc::Sender<Emission>) {
    let _thinking = inner.thinking();
    let (reply, answer) = oneshot::channel();
    let passed = Question {
        method: question.method,
        params: question.params,
        reply,
    };
    // Where nobody listens or nobody answers, the question is dropped, which says just that.
    if outer.send(Emission::Question(passed)).await.is_ok()
        && let Ok(answer) = answer.await
    {
        let _gone = question.reply.send(answer);
    }
}
