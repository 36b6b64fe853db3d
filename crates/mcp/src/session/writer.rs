//! The one writer of a process: takes what waits, writes it in portions, and keeps the order of each stream.
//!
//! It never gives up on the store for good: what cannot be written is dropped after a few tries, and the next portion is
//! tried again.

use super::{
    Session,
    place::Stream,
    shelf::{Job, Shelf},
};
use forebay_domain::id::SessionId;
use forebay_runtime::Stop;
use forebay_store::{StoreError, mcp::streams::StreamEvent};
use futures_util::{StreamExt, stream};
use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};
use tokio::sync::mpsc::Receiver;

/// Jobs of one portion at most.
const PORTION_MAX: usize = 512;
/// Streams that are written to at the same time.
const STREAMS_AT_ONCE: usize = 16;
/// How often something is tried before it is dropped, and how long between.
const TRIES_MAX: u32 = 4;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// What is to be written, in an order in which it can be.
#[derive(Default)]
struct Portion {
    appends: Vec<Append>,
    places: HashMap<(SessionId, Stream), usize>,
    described: HashMap<SessionId, Arc<Session>>,
    removed: Vec<SessionId>,
}

struct Append {
    session: SessionId,
    stream: Stream,
    events: Vec<StreamEvent>,
}

impl Shelf {
    /// Writes until the gateway drains and every call has said all it has to say.
    pub(crate) async fn write_down(self, stop: Stop) {
        let Some(mut queue) = self.take_queue() else {
            return;
        };
        let over = async {
            stop.draining().await;
            self.all_said().await;
        };
        tokio::pin!(over);
        let mut jobs = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut jobs, PORTION_MAX) => if count == 0 {
                    return;
                },
                () = &mut over => break,
            }
            self.write(&mut jobs).await;
        }
        self.write_rest(&mut queue).await;
    }

    /// What was said while the last portion was being written.
    async fn write_rest(&self, queue: &mut Receiver<Job>) {
        let mut jobs = Vec::new();
        while let Ok(job) = queue.try_recv() {
            jobs.push(job);
        }
        self.write(&mut jobs).await;
    }

    async fn write(&self, jobs: &mut Vec<Job>) {
        let mut portion = Portion::default();
        for job in jobs.drain(..) {
            if let Job::Append { event, .. } = &job {
                self.taken(event);
            }
            portion.add(job);
        }
        stream::iter(portion.appends)
            .for_each_concurrent(STREAMS_AT_ONCE, |append| self.append_all(append))
            .await;
        for session in portion.described.into_values() {
            self.write_description(&session).await;
        }
        for session in portion.removed {
            self.insist(|| self.sessions().remove(&session)).await;
        }
    }

    async fn append_all(&self, append: Append) {
        let Append {
            session,
            stream,
            events,
        } = append;
        self.insist(|| {
            self.streams()
                .append(&session, stream.as_str(), events.clone(), self.now())
        })
        .await;
    }

    async fn write_description(&self, session: &Session) {
        let (level, subscriptions) = (session.level(), session.subscribed());
        self.insist(|| self.sessions().set_log_level(&session.id, Some(level.as_str())))
            .await;
        self.insist(|| self.sessions().set_subscriptions(&session.id, &subscriptions))
            .await;
    }

    /// Tries a few times; only once, where the last ones were in vain.
    async fn insist<T, F: Future<Output = Result<T, StoreError>>>(&self, work: impl Fn() -> F) {
        let tries = if self.is_failing() { 1 } else { TRIES_MAX };
        for attempt in 1..=tries {
            match Box::pin(work()).await {
                Ok(_) => return self.tell_kept(),
                Err(error) if error.is_unavailable() && attempt < tries => tokio::time::sleep(BETWEEN_TRIES).await,
                Err(error) => return self.tell_lost(&error.to_string()),
            }
        }
    }
}

impl Portion {
    fn add(&mut self, job: Job) {
        match job {
            Job::Append { session, stream, event } => {
                let place = *self.places.entry((session.clone(), stream.clone())).or_insert_with(|| {
                    self.appends.push(Append {
                        session,
                        stream,
                        events: Vec::new(),
                    });
                    self.appends.len() - 1
                });
                self.appends[place].events.push(event);
            }
            Job::Describe(session) => {
                self.described.insert(session.id.clone(), session);
            }
            Job::Remove(session) => self.removed.push(session),
        }
    }
}
