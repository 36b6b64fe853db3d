//! What tools that run as tasks ask their clients, and the way back of the answers.
//!
//! A task has no client that waits for it. What its tool asks lies here until somebody comes for the task and answers; the
//! task holds still meanwhile. The desk is this process's own: a question dies with the run that asked it, and a run that
//! takes its place asks anew, under other names.

use crate::{
    call::{Question, RpcError, Thinking},
    rpc::object,
};
use forebay_domain::task::TaskId;
use forebay_runtime::Entropy;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::watch;

/// Questions of one task that wait at most; those beyond get no answer.
const QUESTIONS_MAX: usize = 16;
/// Random bytes in the name of a question: no name ever stands for two of them.
const KEY_BYTES: usize = 6;

/// The questions of all tasks that run here. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Inner>);

struct Inner {
    entropy: Entropy,
    open: Mutex<HashMap<TaskId, Vec<Waiting>>>,
    /// Changes with every question that comes.
    rung: watch::Sender<u64>,
}

#[derive(Debug)]
struct Waiting {
    asked: Asked,
    question: Question,
    /// Time in which somebody thinks is not the tool's.
    _thinking: Thinking,
}

/// A question as whoever comes for it gets it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) key: String,
    pub(crate) method: String,
    pub(crate) params: Option<Box<RawValue>>,
}

/// Takes the questions of a task away when its run ends.
pub(crate) struct Sitting {
    desk: Desk,
    task: TaskId,
}

impl Drop for Sitting {
    fn drop(&mut self) {
        self.desk.open().remove(&self.task);
    }
}

impl Desk {
    pub(crate) fn new(entropy: Entropy) -> Self {
        Self(Arc::new(Inner {
            entropy,
            open: Mutex::default(),
            rung: watch::Sender::new(0),
        }))
    }

    /// To be held while a task runs.
    pub(crate) fn sit(&self, task: &TaskId) -> Sitting {
        Sitting {
            desk: self.clone(),
            task: task.clone(),
        }
    }

    /// The questions of a task that wait for answers, oldest first.
    pub(crate) fn of(&self, task: &TaskId) -> Vec<Asked> {
        let open = self.open();
        let waiting = open.get(task).map(Vec::as_slice).unwrap_or_default();
        waiting.iter().map(|waiting| waiting.asked.clone()).collect()
    }

    /// Answers one question of a task; nothing where it does not wait, or no longer.
    pub(crate) fn answer(&self, task: &TaskId, key: &str, answer: Result<Box<RawValue>, RpcError>) {
        let mut open = self.open();
        let Some(waiting) = open.get_mut(task) else { return };
        let Some(place) = waiting.iter().position(|waiting| waiting.asked.key == key) else {
            return;
        };
        let answered = waiting.remove(place);
        if waiting.is_empty() {
            open.remove(task);
        }
        drop(open);
        // The tool may have given up in the meantime.
        let _gone = answered.question.reply.send(answer);
    }

    /// Tells of every question that comes from now on.
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.0.rung.subscribe()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<TaskId, Vec<Waiting>>> {
        self.0.open.lock().expect("nobody panics while holding questions")
    }
}

impl Sitting {
    pub(crate) fn ask(&self, question: Question, thinking: Thinking) {
        let desk = &self.desk.0;
        let asked = Asked {
            key: format!("q-{}", hex::encode(desk.entropy.bytes::<KEY_BYTES>())),
            method: question.method.clone(),
            params: question.params.clone(),
        };
        let mut open = self.desk.open();
        let waiting = open.entry(self.task.clone()).or_default();
        // What the tool has given up waiting for is no question any more.
        waiting.retain(|waiting| !waiting.question.reply.is_closed());
        if waiting.len() < QUESTIONS_MAX {
            waiting.push(Waiting {
                asked,
                question,
                _thinking: thinking,
            });
        }
        drop(open);
        desk.rung.send_modify(|count| *count += 1);
    }
}

/// Questions as the text of `inputRequests`.
pub(crate) fn requests(asked: &[Asked]) -> String {
    let texts: Vec<(&str, String)> = asked
        .iter()
        .map(|asked| {
            let method = serde_json::Value::from(asked.method.as_str()).to_string();
            let params = asked.params.as_deref().map_or("{}", RawValue::get);
            (asked.key.as_str(), object(&[("method", &method), ("params", params)]))
        })
        .collect();
    let members: Vec<(&str, &str)> = texts.iter().map(|(key, text)| (*key, text.as_str())).collect();
    object(&members)
}
