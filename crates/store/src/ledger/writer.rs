//! The one task that moves money: whatever waits while one group commits is decided and committed in the next.
//!
//! A tenant's purse is in every movement of it, so that two replicas that write for one tenant wait for one another: many
//! movements in one transaction cost little more than one of them. The group is decided in order, each after the one
//! before it, so that it admits what a line of single transactions would have admitted.

use forebay_domain::{
    ledger::{Book, BudgetRule, Outcome, Refusal, Request},
    port::BoxFuture,
};
use forebay_runtime::Stop;
use std::sync::Arc;
use tokio::sync::{broadcast, oneshot, watch};

use super::{
    known::Known,
    load::{self, Asked},
    metrics::Metrics,
    news::{self, LedgerNews},
    write::{self, Ids},
};
use crate::{StoreError, db::Db, groups::Groups, sql::Tx};

/// Requests that may wait; whoever comes after them waits for room.
pub(super) const QUEUE_MAX: usize = 1_024;
pub(super) const GROUP_MAX: usize = 256;

pub(super) type Became = Result<Outcome, Refusal>;

/// A request, and whom to tell what became of it once that is committed.
pub(super) struct Job {
    pub request: Request,
    pub answer: oneshot::Sender<Result<Became, StoreError>>,
}

/// What one transaction does.
struct Group {
    now_ms: i64,
    ids: Ids,
    rules: Arc<Vec<BudgetRule>>,
    requests: Arc<[Request]>,
    metrics: Metrics,
}

pub(super) struct GroupWriter {
    pub db: Db,
    pub jobs: Groups<Job>,
    pub known: Known,
    pub metrics: Metrics,
    pub news: broadcast::Sender<LedgerNews>,
    pub ids: Ids,
    pub moved: watch::Sender<u64>,
}

impl GroupWriter {
    pub(super) async fn run(mut self, stop: Stop) {
        while let Some(group) = self.jobs.next(&stop).await {
            let size = u32::try_from(group.len()).unwrap_or(u32::MAX);
            self.metrics.group_size.observe(f64::from(size));
            self.commit(group).await;
        }
    }

    async fn commit(&mut self, jobs: Vec<Job>) {
        let (requests, answers): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.request, job.answer)).unzip();
        let requests: Arc<[Request]> = requests.into();
        let became = match self.write(requests.clone()).await {
            Ok(became) => became.into_iter().map(Ok).collect(),
            // One of them has met something that is unreadable: that must not be the others' fate.
            Err(error) if !error.is_unavailable() && requests.len() > 1 => self.write_each(&requests).await,
            Err(error) => vec![Err(error); requests.len()],
        };
        for ((request, became), answer) in requests.iter().zip(became).zip(answers) {
            self.tell(request, became, answer);
        }
        self.moved.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn write_each(&mut self, requests: &[Request]) -> Vec<Result<Became, StoreError>> {
        let mut all = Vec::with_capacity(requests.len());
        for request in requests {
            let one = self.write([request.clone()].into()).await;
            all.push(one.and_then(|became| {
                let mut became = became.into_iter();
                became
                    .next()
                    .ok_or_else(|| StoreError::corrupt("a movement without an outcome"))
            }));
        }
        all
    }

    async fn write(&mut self, requests: Arc<[Request]>) -> Result<Vec<Became>, StoreError> {
        self.ids.group = self.ids.group.wrapping_add(1);
        let group = Group {
            now_ms: self.db.clock().now().as_millisecond(),
            ids: self.ids,
            rules: self.known.configured(),
            requests,
            metrics: self.metrics.clone(),
        };
        self.db.write(group, run).await
    }

    fn tell(
        &self,
        request: &Request,
        became: Result<Became, StoreError>,
        answer: oneshot::Sender<Result<Became, StoreError>>,
    ) {
        if let Ok(became) = &became {
            self.metrics.count(request, became);
            for news in news::news(request, became) {
                // Nobody may be listening.
                self.news.send(news).ok();
            }
        }
        // Whoever asked may have gone away.
        answer.send(became).ok();
    }
}

fn run<'t>(tx: &'t mut Tx, group: &'t Group) -> BoxFuture<'t, Result<Vec<Became>, StoreError>> {
    Box::pin(async move {
        let asked = Asked {
            now_ms: group.now_ms,
            rules: &group.rules,
            requests: &group.requests,
        };
        let facts = load::facts(tx, &asked).await?;
        let last_ms = facts.heads.values().map(|head| head.last_at_ms).max();
        group.metrics.ahead(group.now_ms, last_ms);
        let mut book = Book::new(facts);
        let became = group.requests.iter().map(|request| book.decide(request)).collect();
        write::write(tx, group.ids, &book.close()).await?;
        Ok(became)
    })
}
