//! How many exact holds a second the ledger makes with so many writers, beside what the bare driver does with one
//! conditional update in the same database, and how long a window's sum takes over many postings.
//!
//! Prints one JSON object. The database is `--url`, empty or made before by the same program.
#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a harness that does not work shall stop")]

use clap::Parser;
use forebay_benches::{Driver, measure, open_store, part_ms};
use forebay_domain::{
    id::TraceId,
    ledger::{Ask, BudgetRule, Enforcement, Payer, Purpose, PurposeKind, Scope, Window},
    money::{Usd, UsdRate},
};
use forebay_runtime::{Clock, Tasks};
use forebay_store::{
    Ledger,
    ledger::{HoldRequest, Settlement},
};
use serde_json::json;
use std::time::{Duration, Instant};

#[derive(Parser, Clone)]
struct Options {
    #[arg(long)]
    url: String,
    #[arg(long, default_value_t = 16)]
    writers: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rows of postings that a window is judged over.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
}

const UPDATE: &str = "UPDATE bench_purse SET held = held + 1 WHERE name = 'acme' AND held + 1 <= 1000000000000";

async fn update(driver: &Driver) {
    match driver {
        Driver::Sqlite(pool) => sqlx::query(UPDATE).execute(pool).await.map(drop).unwrap(),
        Driver::Postgres(pool) => sqlx::query(UPDATE).execute(pool).await.map(drop).unwrap(),
    }
}

/// So many milliseconds with a posting each, the newest now, as if somebody had spent for as long.
async fn fill(driver: &Driver, entries: u64, now_ms: i64) {
    let begin = now_ms - i64::try_from(entries).unwrap();
    // Without a WHERE one of the parsers takes ON for a part of the SELECT.
    let rows = format!(
        "INSERT INTO purse_posted (purse, at_ms, cumulative) SELECT 'full 0 full', {begin} + n, n FROM \
         (WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {entries}) SELECT n FROM s) AS s \
         WHERE true ON CONFLICT DO NOTHING"
    );
    driver.run(&rows).await;
    let purse = format!(
        "INSERT INTO purse (name, held, burn, posted, last_at_ms) VALUES ('full 0 full', 0, 0, {entries}, {now_ms}) \
         ON CONFLICT DO NOTHING"
    );
    driver.run(&purse).await;
    driver.analyze("purse_posted").await;
}

fn payer(tenant: &str) -> Payer {
    Payer {
        tenant: tenant.parse().unwrap(),
        project: None,
        key: Some("k1".parse().unwrap()),
        session: None,
        subject: None,
    }
}

fn hold_of(tenant: &str) -> HoldRequest {
    HoldRequest {
        payer: payer(tenant),
        purpose: Purpose {
            kind: PurposeKind::Model,
            name: "bench".to_owned(),
        },
        ask: Ask {
            amount: Usd::from_micros(1),
            rate: UsdRate::ZERO,
        },
        trace: TraceId::from_bytes([1; 16]).unwrap(),
        idempotency_key: None,
        lapses_at: "2100-01-01T00:00:00Z".parse().unwrap(),
        needs_limit: true,
    }
}

fn limits() -> Vec<BudgetRule> {
    [60, 1_440]
        .map(|minutes| BudgetRule {
            scope: Scope::Tenant,
            of: None,
            window: Window::new(minutes, Usd::from_micros(900_000_000_000), Enforcement::Hard).unwrap(),
        })
        .into()
}

/// The median of how long judging a payer takes.
async fn judging(ledger: &Ledger, tenant: &str) -> f64 {
    let payer = payer(tenant);
    let mut took = Vec::new();
    for _ in 0..200 {
        let one = Instant::now();
        ledger.standings(&payer).await.unwrap();
        took.push(one.elapsed());
    }
    took.sort();
    part_ms(&took, 50)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let tasks = Tasks::new();
    let store = open_store(&options.url, &tasks).await;
    let ledger = store.ledger();
    ledger.configure(limits());

    let bare = Driver::open(&options.url).await;
    bare.run("DROP TABLE IF EXISTS bench_purse").await;
    bare.run("CREATE TABLE bench_purse (name TEXT PRIMARY KEY, held BIGINT NOT NULL)")
        .await;
    bare.run("INSERT INTO bench_purse VALUES ('acme', 0)").await;
    let driver = bare.clone();
    let (updates, update) = measure(options.writers, options.seconds, move || {
        let driver = driver.clone();
        async move {
            update(&driver).await;
            1
        }
    })
    .await;

    let holding = ledger.clone();
    let (holds, hold) = measure(options.writers, options.seconds, move || {
        let ledger = holding.clone();
        async move {
            ledger.hold(hold_of("acme")).await.unwrap();
            1
        }
    })
    .await;
    let spending = ledger.clone();
    let (settled, both) = measure(options.writers, options.seconds, move || {
        let ledger = spending.clone();
        async move {
            let hold = ledger.hold(hold_of("zeta")).await.unwrap();
            let settlement = Settlement {
                actual: Usd::from_micros(1),
                estimated: false,
            };
            ledger.settle(&hold.id, settlement).await.unwrap();
            1
        }
    })
    .await;

    let empty_ms = judging(&ledger, "nobody").await;
    fill(&bare, options.entries, Clock::system().now().as_millisecond()).await;
    let full_ms = judging(&ledger, "full").await;
    println!(
        "{}",
        json!({
            "engine": store.engine(), "writers": options.writers, "entries": options.entries,
            "bare_updates_per_s": updates, "bare_update_p50_ms": part_ms(&update, 50),
            "holds_per_s": holds, "hold_p50_ms": part_ms(&hold, 50),
            "hold_and_settle_per_s": settled, "hold_and_settle_p50_ms": part_ms(&both, 50),
            "judge_without_entries_ms": empty_ms, "judge_ms": full_ms,
        })
    );
    tasks.shut_down(Duration::from_secs(30)).await;
}
