//! What was acknowledged survives `kill -9`.

use crate::{audit_event, open, trace, try_open};
use forebay_testkit::db::TestDb;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

const URL_VARIABLE: &str = "FOREBAY_TEST_CRASH_URL";
const ACKNOWLEDGED: &str = "acknowledged ";

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    for db in TestDb::both().await {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::child_that_writes_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(URL_VARIABLE, db.url())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        for line in lines.map_while(Result::ok) {
            if let Some((_, number)) = line.split_once(ACKNOWLEDGED) {
                acknowledged.push(number.parse::<u64>().unwrap());
            }
            if acknowledged.len() == 60 {
                // SIGKILL. What the pipe still holds was acknowledged too, and is read to its end.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(
            acknowledged.len() >= 60,
            "{}: {} acknowledged",
            db.name(),
            acknowledged.len()
        );

        let opened = open(&db).await;
        for number in acknowledged {
            let sql = format!("SELECT COUNT(*) FROM event WHERE trace = '{}'", trace(number));
            assert_eq!(db.number(&sql).await, 1, "{}: event {number}", db.name());
        }
        assert!(
            opened.store.events().verify().await.unwrap().is_whole(),
            "{}",
            db.name()
        );
        opened.close().await;
    }
}

/// Not a test of its own: the process that the test above kills.
#[tokio::test]
#[ignore = "started by what_was_acknowledged_survives_a_kill"]
#[expect(clippy::disallowed_methods, reason = "a child is told by its environment what to do")]
#[expect(clippy::print_stdout, reason = "its parent reads what was acknowledged")]
async fn child_that_writes_until_it_is_killed() {
    let Ok(url) = std::env::var(URL_VARIABLE) else { return };
    let opened = try_open(&url).await.unwrap();
    let log = opened.store.events();
    for first in (0..u64::MAX).step_by(8) {
        let group = (first..first + 8).map(|number| async move {
            log.audit(audit_event(number)).await.unwrap();
            println!("{ACKNOWLEDGED}{number}");
        });
        futures_util::future::join_all(group).await;
    }
}
