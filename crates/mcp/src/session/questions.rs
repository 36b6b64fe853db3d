//! What a legacy session's client has been asked and has not answered yet.
//!
//! Ids are of our own making. An answer to an id that nobody waits for is no answer at all.

use crate::{
    call::{Question, RpcError, Thinking},
    envelope::{Answer, Id, Response},
    rpc,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};
use tokio::sync::oneshot;

/// Questions that wait for an answer in one session at most.
const QUESTIONS_MAX: usize = 64;

#[derive(Default)]
pub(crate) struct Questions(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    /// Sets the ids of this process apart: after a restart, an answer to an older question is no answer to a new one.
    suffix: String,
    /// Its client can answer nothing any more.
    hung_up: bool,
    waiting: HashMap<Id, Waiting>,
}

struct Waiting {
    reply: oneshot::Sender<Result<Box<RawValue>, RpcError>>,
    /// The time in which the client thinks is not the tool's.
    _thinking: Thinking,
}

impl Questions {
    /// Questions whose ids say which process asks.
    pub(crate) fn of(writer: &str) -> Self {
        Self(Mutex::new(Table {
            suffix: format!(".{writer}"),
            ..Table::default()
        }))
    }

    /// The request that puts the question to the client; nothing where too many wait already, or nobody can answer.
    pub(crate) fn ask(&self, question: Question, thinking: Thinking) -> Option<(Id, Bytes)> {
        let mut table = self.lock();
        table.waiting.retain(|_, waiting| !waiting.reply.is_closed());
        if table.hung_up || table.waiting.len() >= QUESTIONS_MAX {
            return None;
        }
        table.next += 1;
        let id = Id::parse(&format!("\"forebay-{}{}\"", table.next, table.suffix)).expect("a string is an id");
        let Question { method, params, reply } = question;
        let message = rpc::request(&id, &method, params.as_deref().map(RawValue::get));
        let waiting = Waiting {
            reply,
            _thinking: thinking,
        };
        table.waiting.insert(id.clone(), waiting);
        Some((id, message))
    }

    /// Takes the client's answer to whoever waits for it.
    pub(crate) fn answer(&self, response: &Response) {
        let Some(waiting) = response.id.as_ref().and_then(|id| self.lock().waiting.remove(id)) else {
            return;
        };
        // Whoever asked may have left in the meantime.
        let _left = waiting.reply.send(read(&response.answer));
    }

    /// No answer can come any more: whoever waits for one stops waiting.
    pub(crate) fn hang_up(&self) {
        let mut table = self.lock();
        table.hung_up = true;
        table.waiting.clear();
    }

    /// Nobody waits for this answer any more. True where somebody did.
    pub(crate) fn withdraw(&self, id: &Id) -> bool {
        self.lock().waiting.remove(id).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nobody panics while holding the questions")
    }
}

fn read(answer: &Answer) -> Result<Box<RawValue>, RpcError> {
    #[derive(Deserialize)]
    struct Wire {
        code: i64,
        #[serde(default)]
        message: String,
        data: Option<Box<RawValue>>,
    }
    match answer {
        Answer::Result(bytes) => Ok(serde_json::from_slice(bytes).expect("the envelope was read as JSON")),
        Answer::Error(bytes) => Err(match serde_json::from_slice::<Wire>(bytes) {
            Ok(Wire { code, message, data }) => RpcError { code, message, data },
            Err(_) => RpcError {
                code: -32603,
                message: "The client answered with an error of no known shape.".to_owned(),
                data: None,
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Client;

    fn question() -> (Question, oneshot::Receiver<Result<Box<RawValue>, RpcError>>) {
        let (reply, answer) = oneshot::channel();
        let method = "roots/list".to_owned();
        (
            Question {
                method,
                params: None,
                reply,
            },
            answer,
        )
    }

    fn response(id: &Id, answer: Answer) -> Response {
        Response {
            id: Some(id.clone()),
            answer,
        }
    }

    #[test]
    fn an_answer_finds_its_question_once() {
        let (questions, client) = (Questions::default(), Client::nobody());
        let (asked, mut answer) = question();
        let (id, message) = questions.ask(asked, client.thinking()).unwrap();
        assert_eq!(message, r#"{"jsonrpc":"2.0","id":"forebay-1","method":"roots/list"}"#);
        assert!(client.is_being_asked());
        let foreign = Id::parse("7").unwrap();
        questions.answer(&response(&foreign, Answer::Result(Bytes::from_static(b"{}"))));
        assert!(answer.try_recv().is_err(), "a foreign id answers nothing");
        let result = Bytes::from_static(br#"{"roots": [ ]}"#);
        questions.answer(&response(&id, Answer::Result(result)));
        assert_eq!(answer.try_recv().unwrap().unwrap().get(), r#"{"roots": [ ]}"#);
        assert!(!client.is_being_asked() && !questions.withdraw(&id));
    }

    #[test]
    fn an_error_is_an_answer_as_well() {
        let (questions, client) = (Questions::default(), Client::nobody());
        for (error, code) in [(r#"{"code":-1,"message":"no","data":[1]}"#, -1), ("7", -32603)] {
            let (asked, mut answer) = question();
            let (id, _) = questions.ask(asked, client.thinking()).unwrap();
            questions.answer(&response(&id, Answer::Error(Bytes::from_static(error.as_bytes()))));
            assert_eq!(answer.try_recv().unwrap().unwrap_err().code, code);
        }
    }

    #[test]
    fn only_so_many_wait_and_those_whom_nobody_awaits_make_room() {
        let (questions, client) = (Questions::default(), Client::nobody());
        let mut answers = Vec::new();
        for _ in 0..QUESTIONS_MAX {
            let (asked, answer) = question();
            assert!(questions.ask(asked, client.thinking()).is_some());
            answers.push(answer);
        }
        assert!(questions.ask(question().0, client.thinking()).is_none());
        answers.pop();
        let (asked, _answer) = question();
        assert!(questions.ask(asked, client.thinking()).is_some());
    }
}
