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
use forebay_store::Store;
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
/// The same of the name of a desk.
const NAME_BYTES: usize = 8;
/// The desk of the only process that there is.
const ALONE: &str = "alone";

/// The questions of all tasks that run here. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    name: String,
    entropy: Entropy,
    open: Mutex<HashMap<TaskId, Place>>,
    /// Changes with every question that comes.
    rung: watch::Sender<u64>,
}

/// What one run has asked.
#[derive(Debug)]
struct Place {
    /// Which run, among those of this process.
    run: u64,
    waiting: Vec<Waiting>,
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
    run: u64,
}

impl Drop for Sitting {
    fn drop(&mut self) {
        let mut open = self.desk.open();
        // Another run may have begun here before this one was given up.
        if open.get(&self.task).is_some_and(|place| place.run == self.run) {
            open.remove(&self.task);
        }
    }
}

impl Desk {
    pub fn new(store: &Store, entropy: Entropy) -> Self {
        // SQLite belongs to one process, and the next one is as good as this one: whoever comes for a task comes to it.
        let name = match store.engine() {
            "sqlite" => ALONE.to_owned(),
            _ => hex::encode(entropy.bytes::<NAME_BYTES>()),
        };
        Self(Arc::new(Inner {
            name,
            entropy,
            open: Mutex::default(),
            rung: watch::Sender::new(0),
        }))
    }

    /// Tells the processes apart to which clients come.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether there can be no other process that runs tasks.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.name == ALONE
    }

    /// To be held while a task runs.
    pub(crate) fn sit(&self, task: &TaskId) -> Sitting {
        let run = u64::from_ne_bytes(self.0.entropy.bytes());
        let waiting = Vec::new();
        self.open().insert(task.clone(), Place { run, waiting });
        Sitting {
            desk: self.clone(),
            task: task.clone(),
            run,
        }
    }

    /// Whether a task runs here, and so whether it can ask anything here.
    pub(crate) fn has(&self, task: &TaskId) -> bool {
        self.open().contains_key(task)
    }

    /// The questions of a task that wait for answers, oldest first.
    pub(crate) fn of(&self, task: &TaskId) -> Vec<Asked> {
        let open = self.open();
        let waiting = open.get(task).map(|place| place.waiting.as_slice()).unwrap_or_default();
        waiting.iter().map(|waiting| waiting.asked.clone()).collect()
    }

    /// Answers one question of a task; nothing where it does not wait, or no longer.
    pub(crate) fn answer(&self, task: &TaskId, key: &str, answer: Result<Box<RawValue>, RpcError>) {
        let mut open = self.open();
        let Some(place) = open.get_mut(task) else { return };
        let Some(at) = place.waiting.iter().position(|waiting| waiting.asked.key == key) else {
            return;
        };
        let answered = place.waiting.remove(at);
        drop(open);
        // The tool may have given up in the meantime.
        let _gone = answered.question.reply.send(answer);
    }

    /// Tells of every question that comes from now on.
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.0.rung.subscribe()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<TaskId, Place>> {
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
        let Some(place) = open.get_mut(&self.task).filter(|place| place.run == self.run) else {
            return;
        };
        let waiting = &mut place.waiting;
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
