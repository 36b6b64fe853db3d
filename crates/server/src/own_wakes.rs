//! Polls a future once more where it woke itself, instead of having its task queued again.
//!
//! hyper wakes a connection whenever somebody takes a piece of its body, and whoever takes it is mostly polled by that same
//! connection. To the scheduler a task that is woken while it runs is work for another thread: it wakes one, which takes
//! the connection over to another core, in the middle of a request, and finds nothing to do.
//!
//! It keeps no wake that comes from elsewhere while nobody polls, and polls no more than twice before its task is queued.

use futures_util::task::AtomicWaker;
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Nobody polls it, and nobody has woken it.
const WAITS: u8 = 0;
const IS_POLLED: u8 = 1;
/// Woken, and not polled since.
const IS_WOKEN: u8 = 2;

/// How often it is polled before others have their turn: hyper wakes itself to leave it to them as well.
const POLLS_MAX: usize = 2;

/// The same future, which keeps those wakes to itself that come while it is polled.
pub(crate) fn kept<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    let own = Arc::new(Own::default());
    let waker = Waker::from(own.clone());
    poll_fn(move |task| {
        own.task.register(task.waker());
        for _ in 0..POLLS_MAX {
            own.state.swap(IS_POLLED, Ordering::AcqRel);
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() || own.rests() {
                return polled;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
}

#[derive(Default)]
struct Own {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Own {
    /// Whether nobody has woken it while it was polled. From then on a wake is its task's.
    fn rests(&self) -> bool {
        self.state
            .compare_exchange(IS_POLLED, WAITS, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(IS_WOKEN, Ordering::AcqRel) == WAITS {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::pin,
        sync::atomic::AtomicUsize,
        task::Poll::{Pending, Ready},
    };

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of each of so many polls of a future that wakes itself in those that are named: how often it was polled
    /// by then, and how often its task was woken.
    fn seen(wakes_itself_at: &[usize], ready_at: usize, polls: usize) -> Vec<(Poll<()>, usize, usize)> {
        let count = Arc::new(Count::default());
        let task = Waker::from(count.clone());
        let polled = AtomicUsize::new(0);
        let mut future = pin!(kept(poll_fn(|cx| {
            let now = polled.fetch_add(1, Ordering::Relaxed) + 1;
            if wakes_itself_at.contains(&now) {
                cx.waker().wake_by_ref();
            }
            if now == ready_at { Ready(()) } else { Pending }
        })));
        let each = |_| {
            let outcome = future.as_mut().poll(&mut Context::from_waker(&task));
            (outcome, polled.load(Ordering::Relaxed), count.0.load(Ordering::Relaxed))
        };
        (0..polls).map(each).collect()
    }

    #[test]
    fn a_future_that_woke_itself_is_polled_once_more_and_its_task_is_not_woken() {
        assert_eq!(seen(&[], 2, 2), [(Pending, 1, 0), (Ready(()), 2, 0)]);
        assert_eq!(seen(&[1], 3, 2), [(Pending, 2, 0), (Ready(()), 3, 0)]);
        assert_eq!(seen(&[1], 2, 1), [(Ready(()), 2, 0)]);
    }

    #[test]
    fn one_that_always_wakes_itself_lets_others_have_their_turn() {
        assert_eq!(
            seen(&[1, 2, 3, 4], 5, 3),
            [(Pending, 2, 1), (Pending, 4, 2), (Ready(()), 5, 2)]
        );
    }

    #[test]
    fn a_wake_from_elsewhere_wakes_the_task_once_until_it_is_polled() {
        let count = Arc::new(Count::default());
        let task = Waker::from(count.clone());
        let (given, taken) = std::sync::mpsc::channel();
        let mut future = pin!(kept(poll_fn(move |cx| {
            given.send(cx.waker().clone()).unwrap();
            Poll::<()>::Pending
        })));
        for round in 1..=3 {
            assert!(future.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
            let waker = taken.recv().unwrap();
            waker.wake_by_ref();
            waker.wake();
            assert_eq!(count.0.load(Ordering::Relaxed), round);
        }
    }

    #[test]
    fn no_wake_is_lost_among_threads() {
        const SENT: usize = 20_000;
        let (numbers, mut queue) = tokio::sync::mpsc::channel(1);
        let sends = kept(async move {
            for number in 0..SENT {
                numbers.send(number).await.unwrap();
            }
        });
        let takes = kept(async move {
            let mut next = 0;
            while let Some(number) = queue.recv().await {
                assert_eq!(number, next);
                next += 1;
            }
            next
        });
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::spawn(|| by_itself(sends));
        std::thread::spawn(move || told.send(by_itself(takes)));
        let patience = std::time::Duration::from_mins(1);
        assert_eq!(heard.recv_timeout(patience), Ok(SENT), "each waits for the other");
    }

    fn by_itself<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(future)
    }
}
