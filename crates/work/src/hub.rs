//! What running tasks tell to whoever watches them from this process: pieces of an answer, before there is all of it.
//!
//! Nothing here is durable, and nothing of it counts: the task's output has everything again. So it is bounded without
//! mercy. Each task keeps its last pieces, for those who begin to watch a little late; whoever is slower than that is
//! told that something is missing, and never holds up the task.

use crate::shared::{Shared, Use};
use bytes::Bytes;
use forebay_domain::{port::Tell, task::TaskId};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};
use tokio::sync::Notify;

/// Pieces of one task that are kept for those who come late, or read slowly.
const PIECES_MAX: usize = 4_096;
/// The same in bytes.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// One thing that a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// A piece, as the task told it.
    Piece { attempt: u32, bytes: Bytes },
    /// Pieces went by unread, and are not kept any more.
    Missed,
}

/// All tasks of this process that run or are watched. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hub(Shared<Channel>);

#[derive(Debug, Default)]
pub(crate) struct Channel {
    log: Mutex<Log>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Log {
    kept: VecDeque<(u32, Bytes)>,
    bytes: usize,
    /// Pieces that were let go.
    gone: u64,
    /// Runs of this task that may tell something.
    runs: usize,
    /// Runs that have begun, whatever became of them.
    begun: u32,
}

impl Channel {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics while holding it")
    }
}

impl Log {
    fn keep(&mut self, attempt: u32, bytes: Bytes) {
        self.bytes += bytes.len();
        self.kept.push_back((attempt, bytes));
        while self.kept.len() > PIECES_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some((_, oldest)) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
            self.gone += 1;
        }
    }
}

impl Hub {
    /// Where a run tells its pieces, for as long as this is kept.
    pub(crate) fn teller(&self, id: &TaskId, attempt: u32) -> Teller {
        let channel = self.0.of(id);
        {
            let mut log = channel.log();
            log.runs += 1;
            log.begun += 1;
        }
        Teller { attempt, channel }
    }

    /// Begins to watch a task, whether or not it runs yet, and whether or not it runs here.
    pub(crate) fn watch(&self, id: &TaskId) -> Deltas {
        Deltas {
            channel: self.0.of(id),
            next: 0,
            heard: 0,
        }
    }
}

/// The running task's end.
#[derive(Debug)]
pub(crate) struct Teller {
    attempt: u32,
    channel: Use<Channel>,
}

impl Tell for Teller {
    fn tell(&self, piece: Bytes) {
        self.channel.log().keep(self.attempt, piece);
        self.channel.changed.notify_waiters();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.channel.log().runs -= 1;
        self.channel.changed.notify_waiters();
    }
}

/// A watcher's end.
#[derive(Debug)]
pub struct Deltas {
    channel: Use<Channel>,
    /// The piece that comes next, counted from the task's first.
    next: u64,
    /// Runs of which everything was heard.
    heard: u32,
}

impl Deltas {
    /// The next piece; nothing once the run that told them has ended, and after that those of the next run, if there is
    /// one. What has not begun to run here is waited for: watch the task itself beside this.
    pub async fn next(&mut self) -> Option<Delta> {
        let Self { channel, next, heard } = self;
        loop {
            // Before the look, so that nothing comes between the two.
            let mut changed = std::pin::pin!(channel.changed.notified());
            changed.as_mut().enable();
            let look = channel.log().look(next, heard);
            match look {
                Look::Delta(delta) => return Some(delta),
                Look::Ended => return None,
                Look::Wait => changed.await,
            }
        }
    }
}

enum Look {
    Delta(Delta),
    Wait,
    Ended,
}

impl Log {
    fn look(&self, next: &mut u64, heard: &mut u32) -> Look {
        if *next < self.gone {
            *next = self.gone;
            return Look::Delta(Delta::Missed);
        }
        let index = usize::try_from(*next - self.gone).unwrap_or(usize::MAX);
        match self.kept.get(index) {
            Some((attempt, bytes)) => {
                *next += 1;
                Look::Delta(Delta::Piece {
                    attempt: *attempt,
                    bytes: bytes.clone(),
                })
            }
            None if self.begun > *heard && self.runs == 0 => {
                *heard = self.begun;
                Look::Ended
            }
            None => Look::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TaskId {
        TaskId::try_from(text).unwrap()
    }

    fn piece(text: &str) -> Delta {
        Delta::Piece {
            attempt: 1,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    #[tokio::test]
    async fn who_comes_late_hears_it_all_and_the_end_is_an_end() {
        let hub = Hub::default();
        let mut early = hub.watch(&id("a"));
        let teller = hub.teller(&id("a"), 1);
        teller.tell(Bytes::from_static(b"one"));
        let mut late = hub.watch(&id("a"));
        teller.tell(Bytes::from_static(b"two"));
        drop(teller);
        for watcher in [&mut early, &mut late] {
            assert_eq!(watcher.next().await, Some(piece("one")));
            assert_eq!(watcher.next().await, Some(piece("two")));
            assert_eq!(watcher.next().await, None);
        }
        let again = hub.teller(&id("a"), 2);
        again.tell(Bytes::from_static(b"one"));
        let bytes = Bytes::from_static(b"one");
        assert_eq!(early.next().await, Some(Delta::Piece { attempt: 2, bytes }));
        drop((early, late, again));
        assert!(hub.0.all().is_empty(), "nothing is kept of what nobody watches");
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_the_first_piece() {
        let hub = Hub::default();
        let mut watcher = hub.watch(&id("a"));
        let teller = hub.teller(&id("a"), 1);
        let (heard, ()) = tokio::join!(watcher.next(), async { teller.tell(Bytes::from_static(b"one")) });
        assert_eq!(heard, Some(piece("one")));
    }

    #[tokio::test]
    async fn the_slow_miss_pieces_and_the_memory_is_bounded() {
        let hub = Hub::default();
        let mut slow = hub.watch(&id("a"));
        let teller = hub.teller(&id("a"), 1);
        let large = Bytes::from(vec![b'x'; KEPT_BYTES_MAX / 4]);
        for _ in 0..10 {
            teller.tell(large.clone());
        }
        assert!(slow.channel.log().bytes <= KEPT_BYTES_MAX);
        assert_eq!(slow.next().await, Some(Delta::Missed));
        let mut rest = 0;
        drop(teller);
        while slow.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, 4);
    }

    #[tokio::test]
    async fn a_piece_larger_than_all_room_is_missed() {
        let hub = Hub::default();
        let mut watcher = hub.watch(&id("a"));
        let teller = hub.teller(&id("a"), 1);
        teller.tell(Bytes::from(vec![b'x'; KEPT_BYTES_MAX + 1]));
        assert_eq!(watcher.next().await, Some(Delta::Missed));
        drop(teller);
        assert_eq!(watcher.next().await, None);
    }
}
