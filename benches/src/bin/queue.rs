//! How many tasks a second the queue takes from submission to result, beside what the bare driver does with a plain table
//! in the same database; how long a claim takes among many tasks, and how soon a task begins that is submitted while
//! nothing else goes on.
//!
//! Prints one JSON object. The database is `--url`, empty or made before by the same program.
#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a harness that does not work shall stop")]

use bytes::Bytes;
use clap::Parser;
use forebay_benches::{Driver, measure, open_store, part_ms};
use forebay_domain::{
    Principal, Role,
    id::TraceId,
    model::Priority,
    task::{Ended, Needs, Offer, Retry, TaskOwner},
};
use forebay_runtime::{Clock, Entropy, Tasks};
use forebay_store::{
    Queue,
    queue::{Claim, NewTask},
};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::{
    fmt::Write,
    time::{Duration, Instant},
};

#[derive(Parser, Clone)]
struct Options {
    #[arg(long)]
    url: String,
    /// Loops that each submit, claim and settle a batch after another.
    #[arg(long, default_value_t = 4)]
    loops: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Tasks that wait while claims are timed.
    #[arg(long, default_value_t = 1_000_000)]
    queued: u64,
}

const BATCH: usize = 100;
/// Types of the tasks that wait while claims are timed; each claim asks for all of them.
const TYPES: u32 = 7;
const INPUT: &str = r#"{"model_id":"qwen","prompt":"What is the capital of France?"}"#;
const OUTPUT: &str = r#"{"content":"Paris."}"#;

/// How the bare driver says a batch: a statement a row, or one for all of them. Either way it makes three commits for a
/// hundred tasks, each flushed, and each row gets an input and an output of its own.
#[derive(Clone, Copy, PartialEq)]
enum Bare {
    Rows,
    Batch,
}

/// A plain table in it, as one would write it by hand.
#[derive(Clone)]
struct Plain(Driver);

const TABLE: [&str; 3] = [
    "DROP TABLE IF EXISTS bench_task",
    "CREATE TABLE bench_task (id TEXT PRIMARY KEY, state TEXT NOT NULL, priority BIGINT NOT NULL, run_at BIGINT NOT NULL, \
     worker TEXT, lease BIGINT, attempts BIGINT NOT NULL, input TEXT NOT NULL, output TEXT)",
    "CREATE INDEX bench_task_ready ON bench_task (state, priority, run_at)",
];

macro_rules! in_transaction {
    ($driver:expr, |$tx:ident| $body:block) => {
        match &$driver.0 {
            Driver::Sqlite(pool) => {
                let mut $tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
                let value = $body;
                $tx.commit().await.unwrap();
                value
            }
            Driver::Postgres(pool) => {
                let mut $tx = pool.begin().await.unwrap();
                let value = $body;
                $tx.commit().await.unwrap();
                value
            }
        }
    };
}

impl Plain {
    async fn insert(&self, how: Bare, ids: &[String]) {
        let per_statement = if how == Bare::Rows { 1 } else { BATCH };
        let sql = insertion(per_statement);
        in_transaction!(self, |tx| {
            for part in ids.chunks(per_statement) {
                let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
                for id in part {
                    query = query.bind(id).bind(INPUT);
                }
                query.execute(&mut *tx).await.unwrap();
            }
        });
    }

    async fn claim(&self) -> Vec<String> {
        let lock = match &self.0 {
            Driver::Sqlite(_) => "",
            Driver::Postgres(_) => "FOR UPDATE SKIP LOCKED",
        };
        let sql = format!(
            "UPDATE bench_task SET state = 'running', worker = 'w', lease = 1, attempts = attempts + 1 WHERE id IN \
             (SELECT id FROM bench_task WHERE state = 'pending' ORDER BY priority, run_at LIMIT {BATCH} {lock}) \
             RETURNING id, input"
        );
        in_transaction!(self, |tx| {
            let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.unwrap();
            rows.into_iter().map(|(id, _)| id).collect()
        })
    }

    async fn complete(&self, how: Bare, ids: &[String]) {
        let per_statement = if how == Bare::Rows { 1 } else { BATCH };
        in_transaction!(self, |tx| {
            for part in ids.chunks(per_statement) {
                let sql = completion(part.len());
                let mut query = sqlx::query(AssertSqlSafe(sql));
                for id in part {
                    query = query.bind(id).bind(OUTPUT);
                }
                query.execute(&mut *tx).await.unwrap();
            }
        });
    }

    /// Tasks of several types, of which one in ten stands in a lane of ten, behind its first.
    async fn fill(&self, queued: u64, now_ms: i64) {
        let sql = format!(
            "INSERT INTO task (id, stage, task_type, priority, rank, run_at_ms, fence, attempts, cancel_wanted, attempts_max, \
             retry_first_ms, retry_max_ms, timeout_ms, result_ttl_ms, needs_memory, lane, tenant, subject, principal, trace, \
             created_at_ms, input) SELECT 'full' || n, CASE WHEN n % 10 = 0 AND n % 100 > 0 THEN 'waiting' ELSE 'pending' END, \
             'full' || (n % {TYPES}), 1 + n % 4, {now_ms} - n - 60000 * (1 + n % 4), \
             {now_ms} - n, 0, 0, false, 5, 1000, 60000, 60000, 60000, 0, \
             CASE WHEN n % 10 = 0 THEN 'lane' || (n / 100) END, 'acme', 'ann', '{{\"role\":\"user\"}}', \
             '0000000000000000000000000000000a', {now_ms} - n, '{INPUT}' FROM (WITH RECURSIVE s (n) AS \
             (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {queued}) SELECT n FROM s) AS s"
        );
        self.0.run(&sql).await;
        self.0.analyze("task").await;
    }
}

fn insertion(rows: usize) -> String {
    let mut sql = "INSERT INTO bench_task (id, state, priority, run_at, attempts, input) VALUES ".to_owned();
    for row in 0..rows {
        let comma = if row == 0 { "" } else { ", " };
        write!(sql, "{comma}(${}, 'pending', 2, 1, 0, ${})", 2 * row + 1, 2 * row + 2).unwrap();
    }
    sql
}

fn completion(rows: usize) -> String {
    let values: Vec<String> = (0..rows)
        .map(|row| format!("(${}, ${})", 2 * row + 1, 2 * row + 2))
        .collect();
    format!(
        "UPDATE bench_task SET state = 'completed', output = ended.column2, worker = NULL, lease = NULL \
         FROM (VALUES {}) AS ended WHERE id = ended.column1",
        values.join(", ")
    )
}

fn work(owner: &TaskOwner, task_type: &str) -> NewTask {
    NewTask {
        task_type: task_type.parse().unwrap(),
        owner: owner.clone(),
        priority: Priority::Medium,
        run_at: None,
        input: Bytes::from_static(INPUT.as_bytes()),
        idempotency_key: None,
        stands_for: None,
        lane: None,
        context_id: None,
        wanted_by: None,
        retry: Retry::default(),
        timeout: Duration::from_mins(1),
        result_ttl: Duration::from_hours(1),
        trace: TraceId::from_bytes([1; 16]).unwrap(),
        needs: Needs::default(),
    }
}

fn owner() -> TaskOwner {
    TaskOwner::of(&Principal {
        tenant: "acme".parse().unwrap(),
        project: None,
        subject: "ann".parse().unwrap(),
        key: Some("k1".parse().unwrap()),
        session: None,
        role: Role::User,
        grants: Vec::new(),
        shown: Vec::new(),
        good_until: None,
    })
}

fn claim_of(types: &[&str], at_most: u32) -> Claim {
    Claim {
        worker: "bench".parse().unwrap(),
        offer: Offer::default(),
        room: types.iter().map(|of| (of.parse().unwrap(), at_most)).collect(),
        at_most,
        lease: Duration::from_mins(1),
    }
}

/// One batch from its submission to its results; gives how many it settled.
async fn cycle(queue: &Queue, owner: &TaskOwner) -> usize {
    for submitted in join_all((0..BATCH).map(|_| queue.submit(work(owner, "bench")))).await {
        submitted.unwrap();
    }
    let claimed = queue
        .claim(claim_of(&["bench"], u32::try_from(BATCH).unwrap()))
        .await
        .unwrap();
    let settling = claimed.iter().map(|one| {
        let ended = Ended::Done(Bytes::from_static(OUTPUT.as_bytes()));
        queue.settle(&one.task.id, one.fence, ended)
    });
    for settled in join_all(settling).await {
        settled.unwrap();
    }
    claimed.len()
}

async fn bare(options: &Options, plain: &Plain, how: Bare) -> f64 {
    for sql in TABLE {
        plain.0.run(sql).await;
    }
    let (plain, entropy) = (plain.clone(), Entropy::system());
    let cycles = measure(options.loops, options.seconds, move || {
        let (plain, entropy) = (plain.clone(), entropy.clone());
        async move {
            let first = u64::from_be_bytes(entropy.bytes());
            let ids: Vec<String> = (0..BATCH).map(|number| format!("{first:020}{number:012}")).collect();
            plain.insert(how, &ids).await;
            let claimed = plain.claim().await;
            plain.complete(how, &claimed).await;
            claimed.len()
        }
    });
    cycles.await.0
}

fn median_ms(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort();
    (part_ms(&took, 50), part_ms(&took, 99))
}

/// From the submission to the claim of a worker that waits for a nudge.
async fn starting(queue: &Queue, owner: &TaskOwner) -> (f64, f64) {
    let mut took = Vec::new();
    for _ in 0..200 {
        let mut ready = queue.ready();
        ready.mark_unchanged();
        let worker = async {
            loop {
                ready.changed().await.unwrap();
                let claimed = queue.claim(claim_of(&["idle"], 1)).await.unwrap();
                if let Some(one) = claimed.into_iter().next() {
                    return (Instant::now(), one);
                }
            }
        };
        let begun = Instant::now();
        let (submitted, (started, one)) = tokio::join!(queue.submit(work(owner, "idle")), worker);
        submitted.unwrap();
        took.push(started - begun);
        let ended = Ended::Done(Bytes::from_static(OUTPUT.as_bytes()));
        queue.settle(&one.task.id, one.fence, ended).await.unwrap();
    }
    median_ms(took)
}

async fn claiming(queue: &Queue, at_most: u32) -> (f64, f64) {
    let types: Vec<String> = (0..TYPES).map(|number| format!("full{number}")).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let mut took = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        let claimed = queue.claim(claim_of(&types, at_most)).await.unwrap();
        took.push(begun.elapsed());
        assert_eq!(claimed.len(), at_most as usize);
    }
    median_ms(took)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let tasks = Tasks::new();
    let store = open_store(&options.url, &tasks).await;
    let (queue, owner) = (store.queue(), owner());
    let plain = Plain(Driver::open(&options.url).await);

    let rows = bare(&options, &plain, Bare::Rows).await;
    let batch = bare(&options, &plain, Bare::Batch).await;
    let (cycling, of) = (queue.clone(), owner.clone());
    let (cycles, _) = measure(options.loops, options.seconds, move || {
        let (queue, owner) = (cycling.clone(), of.clone());
        async move { cycle(&queue, &owner).await }
    })
    .await;
    let (start_ms, start_p99_ms) = starting(&queue, &owner).await;

    plain.fill(options.queued, Clock::system().now().as_millisecond()).await;
    let (one_ms, one_p99_ms) = claiming(&queue, 1).await;
    let (many_ms, many_p99_ms) = claiming(&queue, 100).await;
    let begun = Instant::now();
    let sorts = queue.counts().await.unwrap().len();
    println!(
        "{}",
        json!({
            "engine": store.engine(), "loops": options.loops, "queued": options.queued, "types": TYPES,
            "bare_rows_per_s": rows, "bare_batches_per_s": batch, "cycles_per_s": cycles,
            "start_p50_ms": start_ms, "start_p99_ms": start_p99_ms,
            "claim_p50_ms": one_ms, "claim_p99_ms": one_p99_ms,
            "claim_100_p50_ms": many_ms, "claim_100_p99_ms": many_p99_ms,
            "counts_ms": begun.elapsed().as_secs_f64() * 1_000.0, "sorts": sorts,
        })
    );
    tasks.shut_down(Duration::from_secs(30)).await;
}
