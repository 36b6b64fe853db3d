//! A call under way, and everything that it has to say until it ends.
//!
//! Whoever holds it drives it, and dropping it cancels the call. A call whose client can be asked only by way of an
//! answer (2026-07-28) says so by [`Next::Ask`]; its holder then parks it.

use super::told::{Manner, Said, Told, Word};
use crate::{
    call::{Question, Thinking},
    envelope::Id,
    raw::Members,
    rpc::{Answered, Dialect, Ending, answered, object},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use tokio_util::sync::CancellationToken;

/// Questions of one call that wait for the client's next request at most.
const QUESTIONS_MAX: usize = 16;
/// Messages that wait in a parked call at most; the oldest one is lost.
const READY_MAX: usize = 64;

pub(crate) struct Running {
    id: Id,
    dialect: Dialect,
    /// What cancels the call.
    cancel: CancellationToken,
    /// What takes back the request under which it goes on, where that is not the one that began it.
    taken_back: Option<CancellationToken>,
    call: BoxFuture<'static, Ending>,
    told: Option<Told>,
    ready: VecDeque<Said>,
    /// Questions that the client has not answered yet.
    waiting: Vec<Waiting>,
    /// How many questions this call has asked, for their keys.
    asked: usize,
    /// Holds until the call has taken note of the answers that have just come.
    thought: Vec<Thinking>,
    ended: Option<Ending>,
}

struct Waiting {
    key: String,
    question: Question,
    thinking: Thinking,
}

/// What there is to do for a call.
pub(crate) enum Next {
    Say(Said),
    /// The connection may be closed for now.
    HangUp,
    /// It waits for answers that only another request can bring.
    Ask,
    End(Answered),
}

impl Running {
    /// `cancel` is what the call itself heeds.
    pub(crate) fn new(
        id: Id,
        dialect: Dialect,
        cancel: CancellationToken,
        call: BoxFuture<'static, Ending>,
        told: Option<Told>,
    ) -> Self {
        Self {
            id,
            dialect,
            cancel,
            taken_back: None,
            call,
            told,
            ready: VecDeque::new(),
            waiting: Vec::new(),
            asked: 0,
            thought: Vec::new(),
            ended: None,
        }
    }

    pub(crate) fn id(&self) -> &Id {
        &self.id
    }

    /// Drives the call to the next thing to be done. Dropping this future loses nothing.
    pub(crate) async fn next(&mut self) -> Next {
        self.take_note();
        loop {
            let is_cancelled = self.cancel.is_cancelled();
            if let Some(said) = self.ready.pop_front() {
                return Next::Say(said);
            }
            if let Some(ending) = self.ended.take() {
                return Next::End(answered(&self.id, &ending, self.dialect));
            }
            let asks = !self.waiting.is_empty();
            let word = tokio::select! {
                biased;
                () = fired(self.taken_back.as_ref()), if !is_cancelled => {
                    self.cancel.cancel();
                    continue;
                }
                word = next_word(&mut self.told) => word,
                ending = &mut self.call => {
                    self.end(ending);
                    continue;
                }
                // Both of the above have nothing to say for now.
                () = std::future::ready(()), if asks => return Next::Ask,
            };
            match word {
                Word::Say(said) => return Next::Say(said),
                Word::HangUp => return Next::HangUp,
                Word::Ask(question, thinking) => self.wait(question, thinking),
                Word::Nothing => {}
            }
        }
    }

    /// Drives the call while nobody listens, and keeps what it says. Completes when it has ended.
    pub(crate) async fn tend(&mut self) {
        while self.ended.is_none() {
            let word = tokio::select! {
                biased;
                word = next_word(&mut self.told) => word,
                ending = &mut self.call => {
                    self.end(ending);
                    continue;
                }
            };
            self.keep(word);
        }
    }

    /// Whether it was taken back, so that nobody needs to come for it.
    pub(crate) fn was_cancelled(&self) -> bool {
        matches!(&self.ended, Some(Err(fault)) if fault.is_cancelled())
    }

    /// Lets the call see its answers before the client's thinking time is over, which would otherwise count as its own.
    fn take_note(&mut self) {
        if self.thought.is_empty() || self.ended.is_some() {
            return;
        }
        if let Some(ending) = (&mut self.call).now_or_never() {
            self.end(ending);
        }
        self.thought.clear();
    }

    /// What was said just before the call ended comes before its answer.
    fn end(&mut self, ending: Ending) {
        while let Some(word) = self.told.as_mut().and_then(Told::said) {
            self.keep(word);
        }
        self.waiting.clear();
        if let Some(told) = &mut self.told {
            self.ready.extend(told.withdraw());
        }
        self.ended = Some(ending);
    }

    fn keep(&mut self, word: Word) {
        match word {
            Word::Say(said) => {
                if self.ready.len() >= READY_MAX {
                    self.ready.pop_front();
                }
                self.ready.push_back(said);
            }
            Word::Ask(question, thinking) => self.wait(question, thinking),
            Word::HangUp | Word::Nothing => {}
        }
    }

    /// Of too many questions, those that come last get no answer.
    fn wait(&mut self, question: Question, thinking: Thinking) {
        if self.waiting.len() < QUESTIONS_MAX {
            self.asked += 1;
            self.waiting.push(Waiting {
                key: format!("q{}", self.asked),
                question,
                thinking,
            });
        }
    }

    /// The questions that wait, as the text of `inputRequests`.
    pub(crate) fn questions(&self) -> String {
        let requests: Vec<(&str, String)> = self
            .waiting
            .iter()
            .map(|waiting| {
                let method = serde_json::Value::from(waiting.question.method.as_str()).to_string();
                let params = waiting.question.params.as_deref().map_or("{}", RawValue::get);
                let request = object(&[("method", &method), ("params", params)]);
                (waiting.key.as_str(), request)
            })
            .collect();
        let members: Vec<(&str, &str)> = requests.iter().map(|(key, text)| (*key, text.as_str())).collect();
        object(&members)
    }

    /// Goes on under another request of the same client, which may have brought answers and can be taken back itself.
    /// What it does not answer is asked again; what was never asked is ignored.
    pub(crate) fn resume(
        &mut self,
        id: Id,
        manner: Manner,
        taken_back: Option<CancellationToken>,
        responses: Option<&RawValue>,
    ) {
        self.id = id;
        self.taken_back = taken_back;
        if let Some(told) = &mut self.told {
            told.manner = manner;
        }
        let Some(responses) = responses.and_then(Members::of) else {
            return;
        };
        for waiting in std::mem::take(&mut self.waiting) {
            match responses.get(&waiting.key) {
                Some(answer) => {
                    let answer = RawValue::from_string(answer.to_owned()).expect("a member of an object is JSON");
                    // Whoever asked may have given up in the meantime.
                    let _gone = waiting.question.reply.send(Ok(answer));
                    self.thought.push(waiting.thinking);
                }
                None => self.waiting.push(waiting),
            }
        }
    }
}

async fn fired(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// The next word of a call; never, where it can say nothing.
async fn next_word(told: &mut Option<Told>) -> Word {
    match told {
        Some(told) => told.next().await,
        None => std::future::pending().await,
    }
}
