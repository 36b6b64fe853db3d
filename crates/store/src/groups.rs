//! What is committed together: whatever waits while one group commits is the next.
//!
//! An fsync costs far more than a statement, so that what shares a commit is nearly free. Whoever was answered by the last
//! commit comes back soon, and one after the other: a group waits for some of as many as that one had, for a millisecond or
//! two.

use forebay_runtime::Stop;
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// A timer is no finer than this.
const LINGER: Duration = Duration::from_millis(1);

/// For how many of as many as the last group had the next one waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Companions {
    /// Where a group costs little beside its commit, more made everybody wait longer than it saved (measured).
    Half,
    /// Where each group is many ways to the database and back.
    All,
}

/// The end of a queue from which groups are taken.
pub(crate) struct Groups<T> {
    queue: mpsc::Receiver<T>,
    max: usize,
    companions: Companions,
    previous: usize,
}

impl<T> Groups<T> {
    pub(crate) fn new(queue: mpsc::Receiver<T>, max: usize, companions: Companions) -> Self {
        Self {
            queue,
            max,
            companions,
            previous: 1,
        }
    }

    /// The next group. None once it is to stop and all that was in the queue then has been taken.
    pub(crate) async fn next(&mut self, stop: &Stop) -> Option<Vec<T>> {
        let mut group = Vec::new();
        tokio::select! {
            biased;
            _ = self.queue.recv_many(&mut group, self.max) => {}
            () = stop.draining(), if !self.queue.is_closed() => {
                self.queue.close();
                self.queue.recv_many(&mut group, self.max).await;
            }
        }
        self.linger(&mut group).await;
        self.previous = group.len();
        (!group.is_empty()).then_some(group)
    }

    async fn linger(&mut self, group: &mut Vec<T>) {
        let deadline = Instant::now() + LINGER;
        let expected = match self.companions {
            Companions::Half => self.previous.div_ceil(2),
            Companions::All => self.previous,
        };
        while !group.is_empty() && group.len() < expected {
            let room = self.max - group.len();
            match tokio::time::timeout_at(deadline, self.queue.recv_many(group, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_millis(10);

    /// What becomes of five at once, of two after a while, and of one after another while.
    async fn taken(companions: Companions) -> Vec<(Vec<i32>, Duration)> {
        let (sender, queue) = mpsc::channel(16);
        let (mut queue, stop) = (Groups::new(queue, 4, companions), Stop::new());
        let begun = Instant::now();
        let takes = async {
            let mut all = Vec::new();
            while let Some(group) = queue.next(&stop).await {
                all.push((group, begun.elapsed()));
            }
            all
        };
        let puts = async {
            for number in 0..5 {
                sender.send(number).await.unwrap();
            }
            tokio::time::sleep(LATER).await;
            sender.send(5).await.unwrap();
            sender.send(6).await.unwrap();
            tokio::time::sleep(LATER).await;
            sender.send(7).await.unwrap();
            tokio::time::sleep(LATER).await;
            stop.drain();
        };
        let (groups, ()) = tokio::join!(takes, puts);
        assert!(sender.is_closed());
        groups
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_waits_for_some_of_the_last_one_and_not_for_long() {
        let common = [
            (vec![0, 1, 2, 3], Duration::ZERO),
            (vec![4], LINGER),
            (vec![5, 6], LATER),
        ];
        let with = |last| [&common[..], &[(vec![7], last)]].concat();
        assert_eq!(taken(Companions::Half).await, with(LATER * 2), "one is half of two");
        assert_eq!(
            taken(Companions::All).await,
            with(LATER * 2 + LINGER),
            "another could come"
        );
    }
}
