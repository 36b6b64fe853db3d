//! What a call says on its way, put into the client's own terms: its progress token, its log level, its way of being
//! asked.

use crate::{
    call::{Client, Emission, LogLevel, Question, Thinking},
    envelope::Id,
    raw::{Members, with_member},
    rpc::notification,
    session::{Session, log::Weight},
};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The ears of a call's client.
pub(crate) struct Told {
    receiver: mpsc::Receiver<Emission>,
    client: Client,
    pub(crate) manner: Manner,
    /// Who is asked at once; where there is no session, questions wait for the client's next request.
    session: Option<Arc<Session>>,
    /// What was asked and may be unanswered.
    asked: Vec<Id>,
}

/// How this client is told things.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manner {
    /// Whether anything but the answer reaches it.
    pub(crate) hears: Hears,
    /// The token under which it wants progress reported, as JSON text.
    pub(crate) token: Option<Box<str>>,
    pub(crate) level: Option<LogLevel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Hears {
    #[default]
    AnswerOnly,
    Everything,
}

/// One emission as it concerns the client.
pub(crate) enum Word {
    Say(Said),
    /// A question that has to wait for the client's next request.
    Ask(Question, Thinking),
    HangUp,
    /// Nothing that this client wants to hear.
    Nothing,
}

/// One message for the client.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) message: Bytes,
    pub(crate) weight: Weight,
}

impl Told {
    pub(crate) fn new(
        receiver: mpsc::Receiver<Emission>,
        client: Client,
        manner: Manner,
        session: Option<Arc<Session>>,
    ) -> Self {
        Self {
            receiver,
            client,
            manner,
            session,
            asked: Vec::new(),
        }
    }

    /// The next word; never, once the call can say no more.
    pub(crate) async fn next(&mut self) -> Word {
        match self.receiver.recv().await {
            Some(emission) => self.word(emission),
            None => std::future::pending().await,
        }
    }

    /// A word that has been said already.
    pub(crate) fn said(&mut self) -> Option<Word> {
        let emission = self.receiver.try_recv().ok()?;
        Some(self.word(emission))
    }

    fn word(&mut self, emission: Emission) -> Word {
        match emission {
            Emission::Question(question) => self.question(question),
            Emission::Progress(_) | Emission::Log(_) | Emission::Notification { .. } | Emission::Hangup
                if self.manner.hears == Hears::AnswerOnly =>
            {
                Word::Nothing
            }
            Emission::Progress(params) => match &self.manner.token {
                Some(token) => {
                    let params = with_member(&params, "progressToken", token);
                    say("notifications/progress", &params, Weight::Progress)
                }
                None => Word::Nothing,
            },
            Emission::Log(params) if !self.wants(&params) => Word::Nothing,
            Emission::Log(params) => say("notifications/message", &params, Weight::Notification),
            Emission::Notification { method, params } => say(&method, &params, Weight::Notification),
            Emission::Hangup => Word::HangUp,
        }
    }

    fn question(&mut self, question: Question) -> Word {
        let thinking = self.client.thinking();
        let Some(session) = &self.session else {
            return Word::Ask(question, thinking);
        };
        match session.questions.ask(question, thinking) {
            Some((id, message)) => {
                self.asked.push(id);
                Word::Say(Said {
                    message,
                    weight: Weight::Vital,
                })
            }
            None => Word::Nothing,
        }
    }

    /// Whether a log message is severe enough. One whose level cannot be read is no log message.
    fn wants(&self, params: &RawValue) -> bool {
        let level = Members::of(params).and_then(|members| {
            let level: String = serde_json::from_str(members.get("level")?).ok()?;
            level.parse::<LogLevel>().ok()
        });
        matches!((level, self.manner.level), (Some(level), Some(least)) if level >= least)
    }

    /// The call has ended, so nobody waits for answers to what it asked: the client is told to stop thinking.
    pub(crate) fn withdraw(&mut self) -> Vec<Said> {
        let Some(session) = &self.session else {
            return Vec::new();
        };
        let unanswered = self.asked.drain(..).filter(|id| session.questions.withdraw(id));
        let cancelled = unanswered.map(|id| Said {
            message: notification(
                "notifications/cancelled",
                Some(&format!(
                    r#"{{"requestId":{id},"reason":"The call that asked has ended."}}"#
                )),
            ),
            weight: Weight::Notification,
        });
        cancelled.collect()
    }
}

fn say(method: &str, params: &RawValue, weight: Weight) -> Word {
    Word::Say(Said {
        message: notification(method, Some(params.get())),
        weight,
    })
}
