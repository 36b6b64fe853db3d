//! PostgreSQL is restarted, as after a crash, while the queue is busy.

use super::{claim, done, work};
use crate::{open, until};
use forebay_domain::{
    id::TaskId,
    task::{Retry, State},
};
use forebay_store::{
    Queue,
    queue::{Body, NewTask, Scope},
};
use forebay_testkit::db::TestDb;
use sqlx::{Connection, PgConnection};
use std::{
    collections::HashSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// In a cluster of its own, since others use the one of the test run.
#[test]
fn a_restart_under_load_loses_nothing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/with-postgres");
    let status = Command::new(script)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "queue::restart::child_whose_cluster_is_restarted",
            "--ignored",
        ])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn restart(data: &Path) {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("bin/pg_ctl"))
        .filter(|program| program.exists())
        .collect();
    found.sort();
    let program = found.pop().unwrap();
    // The server refuses to be run by root.
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let status = command
        .args(["restart", "--silent", "--wait", "--mode", "immediate", "--pgdata"])
        .arg(data)
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

async fn data_folder(db: &TestDb) -> PathBuf {
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    let folder: String = sqlx::query_scalar("SHOW data_directory")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    folder.into()
}

#[derive(Default)]
struct Seen {
    submitted: Mutex<Vec<TaskId>>,
    settled: Mutex<HashSet<TaskId>>,
    stop: AtomicBool,
}

fn hasty() -> NewTask {
    NewTask {
        retry: Retry {
            attempts_max: 1_000,
            first: Duration::ZERO,
            max: Duration::ZERO,
        },
        ..work("a")
    }
}

/// Goes on whatever the database says.
async fn client(queue: &Queue, seen: &Seen) {
    while !seen.stop.load(Ordering::SeqCst) {
        if let Ok(submitted) = queue.submit(hasty()).await {
            seen.submitted.lock().unwrap().push(submitted.id);
        }
        let claim = forebay_store::queue::Claim {
            lease: Duration::from_secs(1),
            ..super::claim_of("w", &[("a", 2)], 2)
        };
        for one in queue.claim(claim).await.unwrap_or_default() {
            assert!(
                !seen.settled.lock().unwrap().contains(&one.task.id),
                "it was settled, and runs again"
            );
            if queue.settle(&one.task.id, one.fence, done()).await.is_ok() {
                seen.settled.lock().unwrap().insert(one.task.id);
            }
        }
    }
}

/// Not a test of its own: it runs in a cluster that nobody else uses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a_restart_under_load_loses_nothing"]
async fn child_whose_cluster_is_restarted() {
    let db = TestDb::postgres().await;
    let data = data_folder(&db).await;
    let opened = open(&db).await;
    let (queue, seen) = (opened.store.queue(), Seen::default());
    let enough = |count: usize| {
        let seen = &seen;
        move || async move { seen.settled.lock().unwrap().len() >= count }
    };
    let restarts = async {
        for round in 1..=3 {
            until("some work is done", enough(50 * round)).await;
            let data = data.clone();
            tokio::task::spawn_blocking(move || restart(&data)).await.unwrap();
        }
        until("work goes on", enough(250)).await;
        seen.stop.store(true, Ordering::SeqCst);
    };
    let clients = futures_util::future::join_all((0..4).map(|_| client(&queue, &seen)));
    tokio::join!(restarts, clients);

    until("all that is left is done", || async {
        queue.lapse().await.unwrap();
        for one in claim(&queue, "a", 100).await {
            assert!(!seen.settled.lock().unwrap().contains(&one.task.id));
            queue.settle(&one.task.id, one.fence, done()).await.unwrap();
        }
        db.number("SELECT COUNT(*) FROM task WHERE stage <> 'completed'").await == 0
    })
    .await;
    let submitted = seen.submitted.lock().unwrap().clone();
    for id in submitted {
        let task = queue.get(&Scope::All, &id, Body::Output).await.unwrap().unwrap();
        assert_eq!(task.state, State::Completed);
    }
    opened.close().await;
}
