//! A full disk refuses what is to be written, with its own code; what is read goes on, and so does all once there is room.

use super::{claim, done, query, work};
use crate::{Opened, activity, audit_event, open, try_open, until};
use bytes::Bytes;
use forebay_domain::{Code, Event, Failure, task::State};
use forebay_store::{
    events::Room,
    queue::{Body, NewTask, Scope},
    sqlite_url,
};
use forebay_testkit::db::TestDb;
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const FOLDER_VARIABLE: &str = "FOREBAY_TEST_FULL_FOLDER";

/// Runs one of the tests below in namespaces of its own, where anybody may mount a small disk.
fn on_a_small_disk(size: &str, child: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size="$0" none "$1" && shift && exec "$@""#;
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount, size])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("queue::full::{child}"), "--ignored", "--nocapture"])
        .env(FOLDER_VARIABLE, folder.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[expect(clippy::disallowed_methods, reason = "a child is told by its environment what to do")]
fn small_disk() -> PathBuf {
    std::env::var(FOLDER_VARIABLE).unwrap().into()
}

async fn open_in(folder: &Path) -> Opened {
    try_open(&sqlite_url(&folder.join("forebay.db"))).await.unwrap()
}

/// Takes up what is left of the disk.
fn fill(file: &Path) {
    let mut file = File::create(file).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    on_a_small_disk("4m", "child_with_tasks");
}

/// Not a test of its own: it runs where a small disk is mounted.
#[tokio::test]
#[ignore = "started by a_full_disk_refuses_and_recovers"]
async fn child_with_tasks() {
    let folder = small_disk();
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let opened = open_in(&folder).await;
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

#[test]
fn on_a_full_disk_events_wait_and_only_those_of_reads_are_lost() {
    on_a_small_disk("32m", "child_with_events");
}

/// Of something that cost nothing.
fn look(number: u64) -> Event {
    Event {
        usage: None,
        cost: None,
        ..activity(number)
    }
}

/// Not a test of its own: it runs where a small disk is mounted.
#[tokio::test]
#[ignore = "started by on_a_full_disk_events_wait_and_only_those_of_reads_are_lost"]
async fn child_with_events() {
    let folder = small_disk();
    let opened = open_in(&folder).await;
    let log = opened.store.events();
    log.audit(audit_event(1)).await.unwrap();
    let rest = folder.join("rest");
    fill(&rest);
    log.record(look(1));
    until("the log has met the full disk", || async { log.is_full() }).await;
    let refused = log.audit(audit_event(2)).await.unwrap_err();
    assert_eq!(Failure::from(refused).code, Code::StoreFull);
    assert!(opened.store.is_healthy(), "it answers");
    assert_eq!(log.room().await, Room::Free, "little waits");

    // Nothing else runs on this thread until the next `await`, so the queue can only fill up.
    for number in 0..20_000 {
        log.record(look(number));
    }
    let lost = opened.metric("forebay_events_dropped_total");
    assert_eq!(lost, 20_000 - 8_193, "half of the queue is for what was spent");
    for number in 0..1_000 {
        log.record(activity(number));
    }
    assert_eq!(opened.metric("forebay_events_dropped_total"), lost);
    assert_eq!(log.room().await, Room::DiskFull, "and nobody waits for it");
    assert!(opened.store.is_healthy());
    assert!(opened.store.queue().list(&query(Scope::All)).await.is_ok());

    std::fs::remove_file(&rest).unwrap();
    until("there is room", || async { !log.is_full() }).await;
    until("all that was kept is written", || async {
        opened.metric("forebay_events_written_total{class=\"activity\"}") == 1 + 8_193 + 1_000
    })
    .await;
    assert!(!log.is_full() && opened.store.is_healthy());
    assert_eq!(log.room().await, Room::Free);
    log.audit(audit_event(2)).await.unwrap();
    assert!(log.verify().await.unwrap().is_whole());
    opened.close().await;
}

/// What PostgreSQL says where its disk is full, for whatever is inserted.
const NO_ROOM: &str = "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; \
    CREATE TRIGGER no_room BEFORE INSERT ON task FOR EACH ROW EXECUTE FUNCTION no_room(); \
    CREATE TRIGGER no_room BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION no_room()";

#[tokio::test]
async fn postgres_without_room_is_a_full_disk_too() {
    let db = TestDb::postgres().await;
    let opened = open(&db).await;
    let (log, queue) = (opened.store.events(), opened.store.queue());
    let kept = queue.submit(work("a")).await.unwrap().id;
    db.execute(NO_ROOM).await;
    let refused = [
        Failure::from(queue.submit(work("a")).await.unwrap_err()),
        Failure::from(log.audit(audit_event(1)).await.unwrap_err()),
    ];
    assert_eq!(refused.map(|failure| failure.code), [Code::StoreFull; 2]);
    log.record(activity(1));
    until("the log has met it", || async { log.is_full() }).await;
    assert!(opened.store.is_healthy());
    assert!(queue.get(&Scope::All, &kept, Body::Both).await.unwrap().is_some());

    db.execute("DROP FUNCTION no_room CASCADE").await;
    queue.submit(work("a")).await.unwrap();
    log.audit(audit_event(1)).await.unwrap();
    until("what waited is written", || async { !log.is_full() }).await;
    assert_eq!(
        db.number("SELECT COUNT(*) FROM event WHERE class = 'activity'").await,
        1
    );
    opened.close().await;
}
