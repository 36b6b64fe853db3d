//! `kill -9` at any moment: what was acknowledged is there, and what was settled never runs again.

use super::{claim_of, done, work};
use crate::{open, try_open};
use bytes::Bytes;
use forebay_domain::task::{Refusal, Retry};
use forebay_runtime::Entropy;
use forebay_store::{
    Queue,
    queue::{Claim, NewTask, TaskError},
};
use forebay_testkit::db::TestDb;
use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::Duration,
};

const URL_VARIABLE: &str = "FOREBAY_TEST_QUEUE_URL";
const ROUND_VARIABLE: &str = "FOREBAY_TEST_QUEUE_ROUND";
/// How many kills each database sees, where that is more than usual.
const KILLS_VARIABLE: &str = "FOREBAY_TEST_QUEUE_KILLS";
const KILLS: usize = 15;
/// Lines of the journal after which a process is killed, at most.
const LINES_MAX: u64 = 60;
const LEASE: Duration = Duration::from_millis(100);
const MARK: &str = "journal: ";
const SIGKILL: i32 = 9;

/// What the client wrote down.
#[derive(Default)]
struct Journal {
    submitted: HashSet<String>,
    settled: HashSet<String>,
    claims: usize,
}

impl Journal {
    fn note(&mut self, line: &str) -> bool {
        let Some((_, entry)) = line.split_once(MARK) else {
            return false;
        };
        match entry.split_once(' ').unwrap() {
            ("submitted", name) => _ = self.submitted.insert(name.to_owned()),
            ("settled", name) => assert!(self.settled.insert(name.to_owned()), "{name} was settled twice"),
            ("claimed", name) => {
                assert!(!self.settled.contains(name), "{name} was settled, and runs again");
                self.claims += 1;
            }
            (other, _) => unreachable!("{other}"),
        }
        true
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "who wants more kills than usual says so in the environment"
)]
fn kills() -> usize {
    std::env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().unwrap())
}

#[tokio::test]
async fn nothing_is_lost_or_done_again_on_sqlite() {
    killed_again_and_again(TestDb::sqlite()).await;
}

#[tokio::test]
async fn nothing_is_lost_or_done_again_on_postgres() {
    killed_again_and_again(TestDb::postgres().await).await;
}

async fn killed_again_and_again(db: TestDb) {
    let (mut journal, entropy) = (Journal::default(), Entropy::system());
    for round in 0..kills() {
        let kill_after = 1 + entropy.below(LINES_MAX);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "queue::crash::child_that_works_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(URL_VARIABLE, db.url())
            .env(ROUND_VARIABLE, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = 0;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            told += u64::from(journal.note(&line));
            if told == kill_after {
                child.kill().unwrap();
            }
        }
        // It never ends by itself, unless something is wrong with it.
        assert_eq!(
            child.wait().unwrap().signal(),
            Some(SIGKILL),
            "round {round}, {told} lines"
        );
        assert!(told >= kill_after);
    }
    // They were killed at work, and not before.
    let (claims, settled) = (journal.claims, journal.settled.len());
    assert!(
        claims >= settled && settled >= kills(),
        "{claims} claims, {settled} settled"
    );

    // A server may still be doing what a process asked of it that is no more.
    let others = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while db.is_postgres() && db.number(others).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let opened = open(&db).await;
    let queue = opened.store.queue();
    let unfinished = "SELECT COUNT(*) FROM task WHERE stage <> 'completed'";
    let left = usize::try_from(db.number(unfinished).await).unwrap();
    let draining = async {
        while db.number(unfinished).await > 0 {
            step(&queue, |line| journal.note(&line)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), draining)
        .await
        .expect("all that is left is done");
    assert!(journal.submitted.len() >= kills(), "{}", journal.submitted.len());
    assert_eq!(
        journal.settled.len(),
        settled + left,
        "each that was left was done in the end"
    );
    for name in &journal.submitted {
        let sql = format!("SELECT COUNT(*) FROM task WHERE idempotency_key = '{name}' AND stage = 'completed'");
        assert_eq!(db.number(&sql).await, 1, "{}: {name}", db.name());
    }
    opened.close().await;
}

/// Claims and settles what there is, and tells of both.
async fn step(queue: &Queue, mut tell: impl FnMut(String) -> bool) {
    queue.lapse().await.unwrap();
    let claim = Claim {
        lease: LEASE,
        ..claim_of("w", &[("a", 4)], 4)
    };
    for one in queue.claim(claim).await.unwrap() {
        let name = one.task.idempotency_key.unwrap();
        tell(format!("{MARK}claimed {name}"));
        match queue.settle(&one.task.id, one.fence, done()).await {
            Ok(settled) if !settled.is_repeat => _ = tell(format!("{MARK}settled {name}")),
            // It took longer than the lease, on a busy machine.
            Err(TaskError::Refused(Refusal::Stale | Refusal::Settled)) => {}
            other => unreachable!("{other:?}"),
        }
    }
}

/// Not a test of its own: the process that the tests above kill.
#[tokio::test]
#[ignore = "started by nothing_is_lost_or_done_again"]
#[expect(clippy::disallowed_methods, reason = "a child is told by its environment what to do")]
#[expect(clippy::print_stdout, reason = "its parent reads what was acknowledged")]
async fn child_that_works_until_it_is_killed() {
    let (Ok(url), Ok(round)) = (std::env::var(URL_VARIABLE), std::env::var(ROUND_VARIABLE)) else {
        return;
    };
    let opened = try_open(&url).await.unwrap();
    let queue = opened.store.queue();
    let clients = (0..3).map(|client| {
        let (queue, round) = (queue.clone(), round.clone());
        async move {
            for number in 0..u64::MAX {
                let name = format!("{round}-{client}-{number}");
                let new = NewTask {
                    idempotency_key: Some(name.clone()),
                    lane: (number % 2 == 0).then(|| format!("lane-{client}")),
                    input: Bytes::from(format!(r#""{}""#, name.repeat(1 + 400 * usize::from(number % 3 == 0)))),
                    retry: Retry {
                        attempts_max: 10_000,
                        first: Duration::ZERO,
                        max: Duration::ZERO,
                    },
                    ..work("a")
                };
                queue.submit(new).await.unwrap();
                println!("{MARK}submitted {name}");
                step(&queue, |line| {
                    println!("{line}");
                    true
                })
                .await;
            }
        }
    });
    futures_util::future::join_all(clients).await;
}
