//! What an upstream says outside of any request: a bounded mailbox that merges what says the same.
//!
//! "The list of tools has changed" is worth no more when it is said a thousand times, so one of it waits at most. What
//! cannot be merged is dropped and counted when the mailbox is full; the changes of lists always find room.

use crate::call::Emission;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// Messages that wait for a slow reader.
const WAITING_MAX: usize = 256;
/// Kinds of "the list has changed" that are kept even beyond that.
const KINDS_MAX: usize = 16;
/// What the waiting messages may weigh together.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The writing end. Clones share the mailbox, so one reader may hear several connections.
#[derive(Debug, Clone)]
pub struct Listener {
    mailbox: Arc<Mailbox>,
    _alive: Arc<Alive>,
}

/// The reading end.
#[derive(Debug)]
pub struct Heard(Arc<Mailbox>);

#[derive(Debug, Default)]
struct Mailbox {
    waiting: Mutex<Waiting>,
    came: Notify,
    closed: AtomicBool,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    emissions: VecDeque<Emission>,
    bytes: usize,
}

/// Closes the mailbox with the last of its listeners.
#[derive(Debug)]
struct Alive(Arc<Mailbox>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.came.notify_one();
    }
}

/// A mailbox.
pub fn mailbox() -> (Listener, Heard) {
    let mailbox = Arc::new(Mailbox::default());
    let listener = Listener {
        mailbox: mailbox.clone(),
        _alive: Arc::new(Alive(mailbox.clone())),
    };
    (listener, Heard(mailbox))
}

impl Listener {
    pub(super) fn put(&self, emission: Emission) {
        let mut waiting = self.mailbox.lock();
        let change = Change::of(&emission);
        let merged =
            change.is_some_and(|change| waiting.emissions.iter().any(|other| Change::of(other) == Some(change)));
        if merged {
            return;
        }
        let count_max = match change {
            Some(Change::List(_)) => WAITING_MAX + KINDS_MAX,
            Some(Change::Resource(_)) | None => WAITING_MAX,
        };
        let bytes = weight(&emission);
        if waiting.emissions.len() >= count_max || waiting.bytes + bytes > WAITING_BYTES_MAX {
            self.mailbox.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += bytes;
        waiting.emissions.push_back(emission);
        drop(waiting);
        self.mailbox.came.notify_one();
    }
}

impl Heard {
    /// The next message; `None` once all listeners are gone and everything was read.
    pub async fn next(&mut self) -> Option<Emission> {
        loop {
            if let Some(emission) = self.0.take() {
                return Some(emission);
            }
            if self.0.closed.load(Ordering::SeqCst) {
                return None;
            }
            self.0.came.notified().await;
        }
    }

    /// How many messages found no room.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Mailbox {
    fn take(&self) -> Option<Emission> {
        let mut waiting = self.lock();
        let emission = waiting.emissions.pop_front()?;
        waiting.bytes -= weight(&emission);
        Some(emission)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics while holding a mailbox")
    }
}

/// What an emission weighs in bytes; the changes of lists weigh nothing, so that they always find room.
fn weight(emission: &Emission) -> usize {
    match emission {
        Emission::Notification { method, .. } if method.ends_with("/list_changed") => 0,
        Emission::Progress(params) | Emission::Log(params) | Emission::Notification { params, .. } => {
            params.get().len()
        }
        Emission::Question(question) => question.params.as_ref().map_or(0, |params| params.get().len()),
        Emission::Hangup => 0,
    }
}

/// A message that says no more than that something has changed. Two equal ones say no more than one.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Change<'a> {
    List(&'a str),
    /// The params of `notifications/resources/updated`.
    Resource(&'a str),
}

impl<'a> Change<'a> {
    fn of(emission: &'a Emission) -> Option<Self> {
        match emission {
            Emission::Notification { method, params } => match method.as_str() {
                "notifications/resources/updated" => Some(Self::Resource(params.get())),
                method if method.ends_with("/list_changed") => Some(Self::List(method)),
                _ => None,
            },
            Emission::Progress(_) | Emission::Log(_) | Emission::Question(_) | Emission::Hangup => None,
        }
    }
}

/// Whether a notification says that something changed, which is everybody's affair, whatever stream it came on.
pub(super) fn says_change(method: &str) -> bool {
    method == "notifications/resources/updated" || method.ends_with("/list_changed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn notification(method: &str, params: &str) -> Emission {
        Emission::Notification {
            method: method.to_owned(),
            params: RawValue::from_string(params.to_owned()).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_flood_is_bounded_and_a_change_of_a_list_is_never_lost() {
        let (listener, mut heard) = mailbox();
        for n in 0..5000 {
            listener.put(notification("notifications/tools/list_changed", "{}"));
            listener.put(Emission::Log(RawValue::from_string(n.to_string()).unwrap()));
        }
        listener.put(notification("notifications/prompts/list_changed", "{}"));
        drop(listener);
        let (mut tools, mut prompts, mut logs) = (0, 0, 0);
        while let Some(emission) = heard.next().await {
            match emission {
                Emission::Notification { method, .. } if method.contains("tools") => tools += 1,
                Emission::Notification { .. } => prompts += 1,
                Emission::Log(_) => logs += 1,
                Emission::Progress(_) | Emission::Question(_) | Emission::Hangup => panic!("nobody sent that"),
            }
        }
        assert_eq!((tools, prompts), (1, 1));
        assert_eq!(logs, WAITING_MAX - 1);
        assert_eq!(heard.dropped(), 5000 - logs as u64);
    }

    #[tokio::test]
    async fn changes_of_different_resources_are_different() {
        let (listener, mut heard) = mailbox();
        for uri in ["a", "b", "a"] {
            listener.put(notification(
                "notifications/resources/updated",
                &format!("{{\"uri\":\"{uri}\"}}"),
            ));
        }
        drop(listener);
        let mut count = 0;
        while heard.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 2);
    }
}
