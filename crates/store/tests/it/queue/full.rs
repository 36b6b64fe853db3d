//! A full disk refuses what is to be written, with its own code, and all goes on once there is room.

use super::{claim, done, work};
use crate::try_open;
use bytes::Bytes;
use forebay_domain::{Code, Failure, task::State};
use forebay_store::{
    queue::{Body, NewTask, Scope},
    sqlite_url,
};
use std::{
    path::Path,
    process::{Command, Stdio},
};

const FOLDER_VARIABLE: &str = "FOREBAY_TEST_FULL_FOLDER";

/// In namespaces of its own, where anybody may mount a small disk.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=4m none "$0" && exec "$@""#;
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "queue::full::child_on_a_small_disk", "--ignored"])
        .env(FOLDER_VARIABLE, folder.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// Not a test of its own: it runs where a small disk is mounted.
#[tokio::test]
#[ignore = "started by a_full_disk_refuses_and_recovers"]
#[expect(clippy::disallowed_methods, reason = "a child is told by its environment what to do")]
async fn child_on_a_small_disk() {
    let folder = std::env::var(FOLDER_VARIABLE).unwrap();
    let ballast = Path::new(&folder).join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let opened = try_open(&sqlite_url(&Path::new(&folder).join("forebay.db")))
        .await
        .unwrap();
    let queue = opened.store.queue();
    let large = || NewTask {
        input: Bytes::from(format!(r#""{}""#, "x".repeat(100_000))),
        ..work("a")
    };
    let mut kept = Vec::new();
    let refused = loop {
        match queue.submit(large()).await {
            Ok(submitted) => kept.push(submitted.id),
            Err(error) => break error,
        }
        assert!(kept.len() < 100, "the disk is small");
    };
    let failure = Failure::from(refused);
    assert_eq!(failure.code, Code::StoreFull, "{}", failure.chain());
    assert!(failure.retry_after.is_some());
    assert!(!kept.is_empty());
    // What was acknowledged can be read, and the store takes itself for reachable.
    for id in &kept {
        let task = queue.get(&Scope::All, id, Body::Both).await.unwrap().unwrap();
        assert_eq!((task.state, task.input.unwrap().len()), (State::Pending, 100_002));
    }
    assert!(opened.store.is_healthy());

    std::fs::remove_file(&ballast).unwrap();
    kept.push(queue.submit(large()).await.unwrap().id);
    for one in claim(&queue, "a", 100).await {
        queue.settle(&one.task.id, one.fence, done()).await.unwrap();
    }
    for id in &kept {
        let task = queue.get(&Scope::All, id, Body::Output).await.unwrap().unwrap();
        assert_eq!(task.state, State::Completed);
    }
    opened.close().await;
}
