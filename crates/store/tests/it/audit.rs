//! The audit trail: chained, whole, and telling when it is not.

use crate::{audit_event, open, page_of};
use forebay_store::events::{EventQuery, FaultKind};
use forebay_testkit::db::TestDb;

/// Writes five audit rows, lets `tampering` loose on them, and says what was found.
async fn check(tampering: &str, expected: Option<(u64, FaultKind)>) {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        for number in 1..=5 {
            opened.store.events().audit(audit_event(number)).await.unwrap();
        }
        let place = format!("{}: {tampering}", db.name());
        assert!(opened.store.events().verify().await.unwrap().is_whole(), "{place}");
        db.execute(tampering).await;
        let report = opened.store.events().verify().await.unwrap();
        let found = report.fault.map(|fault| (fault.position, fault.kind));
        assert_eq!(found, expected, "{place}");
        opened.close().await;
    }
}

#[tokio::test]
async fn a_changed_row_shows() {
    for column in [
        "action = 'x'",
        "tenant = 'x'",
        "outcome = 'ok'",
        "at_ms = at_ms + 1",
        "count = 2",
        "reason = NULL",
    ] {
        check(
            &format!("UPDATE event SET {column} WHERE chain_seq = 3"),
            Some((3, FaultKind::Changed)),
        )
        .await;
    }
}

#[tokio::test]
async fn a_row_that_became_unreadable_or_lost_its_class_shows() {
    for column in [
        "outcome = 'nonsense'",
        "subject = NULL",
        "class = 'activity'",
        "hash = NULL",
    ] {
        check(
            &format!("UPDATE event SET {column} WHERE chain_seq = 2"),
            Some((2, FaultKind::Changed)),
        )
        .await;
    }
}

#[tokio::test]
async fn a_missing_row_shows() {
    check("DELETE FROM event WHERE chain_seq = 3", Some((3, FaultKind::Missing))).await;
    check("DELETE FROM event WHERE chain_seq = 1", Some((1, FaultKind::Missing))).await;
}

#[tokio::test]
async fn a_moved_row_shows() {
    let swap = "UPDATE event SET chain_seq = 99 WHERE chain_seq = 3; UPDATE event SET chain_seq = 3 WHERE chain_seq = 4; \
                UPDATE event SET chain_seq = 4 WHERE chain_seq = 99";
    check(swap, Some((3, FaultKind::Moved))).await;
}

#[tokio::test]
async fn a_truncated_tail_shows() {
    let length = 5;
    check(
        "DELETE FROM event WHERE chain_seq >= 4",
        Some((4, FaultKind::Truncated { length })),
    )
    .await;
    check("DELETE FROM event", Some((1, FaultKind::Truncated { length }))).await;
}

#[tokio::test]
async fn a_head_that_does_not_fit_shows() {
    let forged = "UPDATE audit_chain SET head_hash = (SELECT hash FROM event WHERE chain_seq = 1)";
    check(forged, Some((5, FaultKind::HeadDiffers))).await;
    let shortened = "UPDATE audit_chain SET length = 4, head_hash = (SELECT hash FROM event WHERE chain_seq = 4)";
    check(shortened, Some((5, FaultKind::Added { length: 4 }))).await;
    check("DELETE FROM audit_chain", Some((1, FaultKind::Headless))).await;
}

#[tokio::test]
async fn what_is_no_audit_row_may_go() {
    check("DELETE FROM event WHERE class = 'activity'", None).await;
}

#[tokio::test]
async fn each_process_has_a_chain_and_all_of_them_are_whole() {
    for db in TestDb::both().await {
        let (one, two) = tokio::join!(open(&db), open(&db));
        let audits = (0..400).map(|number| {
            let log = if number % 2 == 0 {
                one.store.events()
            } else {
                two.store.events()
            };
            log.audit(audit_event(number))
        });
        for outcome in futures_util::future::join_all(audits).await {
            outcome.unwrap();
        }
        let report = one.store.events().verify().await.unwrap();
        assert_eq!(
            (report.chains, report.rows, report.fault),
            (2, 400, None),
            "{}",
            db.name()
        );
        assert_eq!(one.metric("forebay_events_written_total{class=\"audit\"}"), 200);
        let commits = one.metric("forebay_store_commit_seconds_count");
        assert!(commits < 20, "200 audit events in {commits} commits");
        one.close().await;
        two.close().await;

        let again = open(&db).await;
        again.store.events().audit(audit_event(1)).await.unwrap();
        let report = again.store.events().verify().await.unwrap();
        assert_eq!(
            (report.chains, report.rows, report.fault),
            (3, 401, None),
            "a start begins a new chain"
        );
        again.close().await;
    }
}

#[tokio::test]
async fn one_unreadable_row_hides_no_other() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        for number in 1..=3 {
            opened.store.events().audit(audit_event(number)).await.unwrap();
        }
        db.execute("UPDATE event SET surface = 'of a later version' WHERE chain_seq = 2")
            .await;
        let page = page_of(&opened.store, &EventQuery::default(), 2).await;
        let positions: Vec<u64> = page
            .events
            .iter()
            .map(|stored| stored.link.as_ref().unwrap().position)
            .collect();
        assert_eq!(positions, [1, 3], "{}", db.name());
        opened.close().await;
    }
}
