//! Whatever waits while one group commits is decided and committed in the next.
//!
//! What is submitted and what happens to tasks that are there are two groups, since they touch different rows: on
//! PostgreSQL they commit side by side, and on SQLite the store's own writer makes one commit of both.

use forebay_domain::{
    port::BoxFuture,
    task::{Ended, Event, State},
};
use forebay_runtime::Stop;
use std::sync::Arc;
use tokio::sync::{broadcast, oneshot, watch};
use tracing::warn;

use super::{
    SubmitError, Submitted, TaskChange,
    claim::{self, Claim, Claimed},
    insert,
    metrics::Metrics,
    moves::{self, Scope, Step, Stepped},
    new::NewRow,
    unfinished::Tally,
    wake,
};
use crate::{StoreError, db::Db, groups::Groups, sql::Tx};

/// Requests that may wait; whoever comes after them waits for room.
pub(super) const QUEUE_MAX: usize = 1_024;
pub(super) const GROUP_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(super) enum Request {
    Submit(Arc<NewRow>),
    Step(Step),
    Claim(Claim),
}

#[derive(Debug)]
pub(super) enum Became {
    Submitted(Result<Submitted, SubmitError>),
    Stepped(Stepped),
    Claimed(Vec<Claimed>),
}

/// A request, and whom to tell what became of it once that is committed.
pub(super) struct Job {
    pub request: Request,
    pub answer: oneshot::Sender<Result<Became, StoreError>>,
}

struct Group {
    now_ms: i64,
    slot: i64,
    requests: Arc<[Request]>,
}

pub(super) struct GroupWriter {
    pub db: Db,
    pub jobs: Groups<Job>,
    pub metrics: Metrics,
    /// Where it counts what has not ended.
    pub slot: i64,
    pub changes: broadcast::Sender<TaskChange>,
    /// Who waits for work here, and who tells others.
    pub ready: [watch::Sender<u64>; 2],
}

impl GroupWriter {
    pub(super) async fn run(mut self, stop: Stop) {
        while let Some(group) = self.jobs.next(&stop).await {
            let size = u32::try_from(group.len()).unwrap_or(u32::MAX);
            self.metrics.group_size.observe(f64::from(size));
            self.commit(group).await;
        }
    }

    async fn commit(&self, jobs: Vec<Job>) {
        let (requests, answers): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.request, job.answer)).unzip();
        let requests: Arc<[Request]> = requests.into();
        let became = match self.write(requests.clone()).await {
            Ok(became) => became.into_iter().map(Ok).collect(),
            // One of them has met something that is unreadable: that must not be the others' fate.
            Err(error) if !error.is_unavailable() && requests.len() > 1 => self.write_each(&requests).await,
            Err(error) => requests.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut unheard = Vec::new();
        for ((request, became), answer) in requests.iter().zip(became).zip(answers) {
            if let Ok(became) = &became {
                self.tell(request, became);
            }
            // Whoever asked may have gone away: what they were given is somebody else's then.
            if let Err(Ok(Became::Claimed(claimed))) = answer.send(became) {
                unheard.extend(claimed.into_iter().map(given_back));
            }
        }
        if !unheard.is_empty()
            && let Err(error) = self.write(unheard.into()).await
        {
            warn!(
                cause = error.chain(),
                "tasks that nobody took wait for their leases to end"
            );
        }
    }

    async fn write_each(&self, requests: &[Request]) -> Vec<Result<Became, StoreError>> {
        let mut all = Vec::with_capacity(requests.len());
        for request in requests {
            let one = self.write([request.clone()].into()).await;
            all.push(one.and_then(|became| became.into_iter().next().ok_or_else(no_outcome)));
        }
        all
    }

    async fn write(&self, requests: Arc<[Request]>) -> Result<Vec<Became>, StoreError> {
        let now_ms = self.db.clock().now().as_millisecond();
        let group = Group {
            now_ms,
            slot: self.slot,
            requests,
        };
        let (became, is_ready) = self.db.write(group, run).await?;
        if is_ready {
            self.ready.iter().for_each(wake::bump);
        }
        Ok(became)
    }

    /// Tells whoever watches.
    fn tell(&self, request: &Request, became: &Became) {
        let tell = |id, state| {
            // Nobody may be listening.
            self.changes.send(TaskChange { id, state }).ok();
        };
        match (request, became) {
            (_, Became::Submitted(Ok(submitted))) if !submitted.is_repeat => {
                tell(submitted.id.clone(), submitted.state);
            }
            (Request::Step(step), Became::Stepped(Stepped::Done { state, .. })) if !step.is_beat() => {
                tell(step.id.clone(), *state);
            }
            (_, Became::Claimed(claimed)) => {
                for one in claimed {
                    tell(one.task.id.clone(), State::Running);
                }
            }
            _ => {}
        }
    }
}

fn given_back(claimed: Claimed) -> Request {
    Request::Step(Step {
        id: claimed.task.id,
        scope: Scope::All,
        event: Event::Settle {
            fence: claimed.fence,
            ended: Ended::Unbegun,
            jitter: 0,
        },
        is_error: false,
    })
}

fn no_outcome() -> StoreError {
    StoreError::corrupt("a request without an outcome")
}

/// What became of each, and whether somebody may find something to claim that was not there before.
type Done = (Vec<Became>, bool);

/// What happens to tasks first, so that a claim of the same group finds what that leads to.
fn run<'t>(tx: &'t mut Tx, group: &'t Group) -> BoxFuture<'t, Result<Done, StoreError>> {
    Box::pin(async move {
        let rows: Vec<&Arc<NewRow>> = pick(&group.requests, |request| match request {
            Request::Submit(row) => Some(row),
            _ => None,
        });
        let steps: Vec<&Step> = pick(&group.requests, |request| match request {
            Request::Step(step) => Some(step),
            _ => None,
        });
        let mut tally = Tally::default();
        let mut submitted = insert::submit(tx, group.now_ms, &rows, &mut tally).await?.into_iter();
        let (stepped, mut is_ready) = moves::apply(tx, group.now_ms, &steps, &mut tally).await?;
        let mut stepped = stepped.into_iter();
        let mut became = Vec::with_capacity(group.requests.len());
        for request in &*group.requests {
            let one = match request {
                Request::Submit(_) => submitted.next(),
                Request::Step(_) => stepped.next().map(Became::Stepped),
                Request::Claim(claim) => Some(Became::Claimed(claim::claim(tx, group.now_ms, claim).await?)),
            };
            let one = one.ok_or_else(no_outcome)?;
            is_ready |= matches!(&one, Became::Submitted(Ok(new)) if new.state == State::Pending && !new.is_repeat);
            became.push(one);
        }
        tally.write(tx, group.slot).await?;
        Ok((became, is_ready))
    })
}

fn pick<'a, T>(requests: &'a [Request], of: impl Fn(&'a Request) -> Option<T>) -> Vec<T> {
    requests.iter().filter_map(of).collect()
}
