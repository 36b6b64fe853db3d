//! What was acknowledged survives `kill -9`, and nothing is posted twice.

use super::{came_to, hard, is_balanced, once};
use crate::{open, try_open};
use forebay_store::ledger::HoldRequest;
use forebay_testkit::db::TestDb;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

const URL_VARIABLE: &str = "FOREBAY_TEST_LEDGER_URL";
const ROUND_VARIABLE: &str = "FOREBAY_TEST_LEDGER_ROUND";
const HELD: &str = "held ";
const SETTLED: &str = "settled ";

fn named(name: &str) -> HoldRequest {
    HoldRequest {
        idempotency_key: Some(name.to_owned()),
        ..once("0.01")
    }
}

#[tokio::test]
async fn holds_and_settlements_survive_a_kill_at_any_moment() {
    for db in TestDb::both().await {
        let (mut held, mut settled) = (Vec::new(), Vec::new());
        for round in 0..4_usize {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "ledger::crash::child_that_spends_until_it_is_killed",
                    "--ignored",
                    "--nocapture",
                ])
                .env(URL_VARIABLE, db.url())
                .env(ROUND_VARIABLE, round.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut told = 0;
            for line in BufReader::new(child.stdout.take().unwrap())
                .lines()
                .map_while(Result::ok)
            {
                held.extend(line.split_once(HELD).map(|(_, name)| name.to_owned()));
                settled.extend(line.split_once(SETTLED).map(|(_, name)| name.to_owned()));
                told += 1;
                if told == 7 + 13 * round {
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
        }
        assert!(settled.len() > 20, "{}: {} settled", db.name(), settled.len());

        let opened = open(&db).await;
        let ledger = opened.store.ledger();
        is_balanced(&db).await;
        for name in &held {
            let of = format!(
                "FROM ledger_txn AS t JOIN ledger_hold AS h ON h.id = t.hold_id WHERE t.once_key = 'acme hold {name}'"
            );
            assert_eq!(
                db.number(&format!("SELECT COUNT(*) {of}")).await,
                1,
                "{}: {name}",
                db.name()
            );
            if settled.contains(name) {
                let posted = format!("SELECT h.posted {of}");
                assert_eq!(db.number(&posted).await, 10_000, "{}: {name}", db.name());
            }
        }
        // Whoever comes back finds what was held, and ends it.
        let open = "SELECT COUNT(*) FROM ledger_hold WHERE state = 'open'";
        for name in held.iter().filter(|name| !settled.contains(name)) {
            if let Ok(hold) = ledger.hold(named(name)).await {
                assert!(hold.is_repeat, "{}: {name}", db.name());
                ledger.settle(&hold.id, came_to("0.01")).await.unwrap();
            }
        }
        let left = db.number(open).await;
        assert!(
            left <= 4 * 4,
            "{}: only what was never told may be open, not {left}",
            db.name()
        );
        is_balanced(&db).await;
        opened.close().await;
    }
}

/// Not a test of its own: the process that the test above kills.
#[tokio::test]
#[ignore = "started by holds_and_settlements_survive_a_kill_at_any_moment"]
#[expect(clippy::disallowed_methods, reason = "a child is told by its environment what to do")]
#[expect(clippy::print_stdout, reason = "its parent reads what was acknowledged")]
async fn child_that_spends_until_it_is_killed() {
    let (Ok(url), Ok(round)) = (std::env::var(URL_VARIABLE), std::env::var(ROUND_VARIABLE)) else {
        return;
    };
    let opened = try_open(&url).await.unwrap();
    let ledger = opened.store.ledger();
    ledger.configure(vec![hard(60, "1000")]);
    let spending = (0..4).map(|lane| {
        let (ledger, round) = (ledger.clone(), round.clone());
        async move {
            for number in 0..u64::MAX {
                let name = format!("{round}-{lane}-{number}");
                let hold = ledger.hold(named(&name)).await.unwrap();
                println!("{HELD}{name}");
                ledger.settle(&hold.id, came_to("0.01")).await.unwrap();
                println!("{SETTLED}{name}");
            }
        }
    });
    futures_util::future::join_all(spending).await;
}
