//! The log: kept whole, batched, bounded, followed without a gap.

use crate::{activity, audit_event, knock, open, page_of, trace, until};
use forebay_domain::{
    Code, Event, Failure,
    event::{Actor, Class, Outcome, Surface, Usage},
    id::TenantId,
};
use forebay_store::{
    StoreError,
    events::{EventPage, EventQuery, Order},
};
use forebay_testkit::db::TestDb;
use jiff::Timestamp;
use sqlx::{Connection, PgConnection};

/// Events that differ in every field, each at its limits.
fn varied() -> Vec<Event> {
    let full = audit_event(1);
    let actor = full.actor.clone().unwrap();
    let bare = Actor {
        project: None,
        key: None,
        session: None,
        ..actor
    };
    vec![
        full.clone(),
        Event {
            at: Timestamp::from_millisecond(-1).unwrap(),
            actor: Some(bare),
            outcome: Outcome::ToolError,
            reason: Some(String::new()),
            usage: Some(Usage::default()),
            ..full.clone()
        },
        Event {
            surface: Surface::OpenAi,
            actor: None,
            outcome: Outcome::Failed(Code::RateLimited),
            reason: None,
            usage: None,
            cost: None,
            count: u32::MAX,
            ..full.clone()
        },
        Event {
            surface: Surface::System,
            outcome: Outcome::Cancelled,
            action: "GET /ünïcode/'quoted\"; DROP TABLE event".to_owned(),
            ..full.clone()
        },
        Event {
            surface: Surface::Mcp,
            outcome: Outcome::Ok,
            duration_us: i64::MAX.unsigned_abs(),
            bytes_in: i64::MAX.unsigned_abs(),
            bytes_out: 0,
            ..full
        },
    ]
}

#[tokio::test]
async fn an_event_is_kept_whole_and_so_is_its_chain() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let log = opened.store.events();
        for event in varied() {
            log.audit(event).await.unwrap();
        }
        let page = page_of(&opened.store, &EventQuery::default(), 5).await;
        let read: Vec<Event> = page.events.iter().map(|stored| stored.event.clone()).collect();
        assert_eq!(read, varied(), "{}", db.name());
        let positions: Vec<u64> = page
            .events
            .iter()
            .map(|stored| stored.link.as_ref().unwrap().position)
            .collect();
        assert_eq!(positions, [1, 2, 3, 4, 5]);
        let report = log.verify().await.unwrap();
        assert_eq!((report.chains, report.rows, report.fault), (1, 5, None));
        opened.close().await;
    }
}

#[tokio::test]
async fn what_no_database_can_hold_is_bounded_before_it_is_hashed() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let log = opened.store.events();
        let wild = Event {
            at: Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap(),
            action: "a\0b".to_owned(),
            reason: Some("é".repeat(5_000)),
            duration_us: u64::MAX,
            ..audit_event(1)
        };
        log.audit(wild).await.unwrap();
        let page = page_of(&opened.store, &EventQuery::default(), 1).await;
        let read = &page.events[0].event;
        assert_eq!(read.at, Timestamp::from_millisecond(1_700_000_000_123).unwrap());
        assert_eq!(read.action, "a\u{1a}b");
        assert_eq!(read.reason.as_ref().unwrap().len(), 1024);
        assert_eq!(read.duration_us, i64::MAX.unsigned_abs());
        assert!(log.verify().await.unwrap().is_whole(), "{}", db.name());
        opened.close().await;
    }
}

#[tokio::test]
async fn activity_is_batched_and_a_flood_of_refusals_is_one_row() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        for _ in 0..300 {
            opened.store.events().record(knock("GET /api/v1/keys"));
        }
        opened.store.events().record(activity(2));
        let page = page_of(&opened.store, &EventQuery::default(), 2).await;
        let rows: Vec<(&str, u32)> = page
            .events
            .iter()
            .map(|stored| (stored.event.action.as_str(), stored.event.count))
            .collect();
        assert_eq!(rows, [("GET /api/v1/keys", 300), ("keys:write", 1)], "{}", db.name());
        assert_eq!(opened.metric("forebay_events_written_total{class=\"activity\"}"), 2);
        opened.close().await;
    }
}

#[tokio::test]
async fn a_flood_of_anonymous_requests_is_one_row_and_a_flood_of_audit_is_not() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        for _ in 0..300 {
            opened.store.events().record(Event {
                outcome: Outcome::Ok,
                ..knock("GET /health")
            });
        }
        let anonymous = Event {
            actor: None,
            ..audit_event(1)
        };
        let log = opened.store.events();
        let (one, two) = tokio::join!(log.audit(anonymous.clone()), log.audit(anonymous));
        one.and(two).unwrap();
        opened.close().await;
        let rows = "SELECT COUNT(*) FROM event WHERE class =";
        assert_eq!(db.number(&format!("{rows} 'audit'")).await, 2, "{}", db.name());
        assert_eq!(db.number(&format!("{rows} 'activity'")).await, 1, "{}", db.name());
        assert_eq!(db.number("SELECT count FROM event WHERE class = 'activity'").await, 300);
    }
}

#[tokio::test]
async fn postgres_reads_the_audit_trail_by_its_index() {
    let db = TestDb::postgres().await;
    let opened = open(&db).await;
    db.execute(
        "INSERT INTO event (xid, at_ms, class, surface, trace, action, outcome, duration_us, bytes_in, bytes_out, count) \
         SELECT 0, 0, CASE WHEN n % 500 = 0 THEN 'audit' ELSE 'activity' END, 'api', '', 'a', 'ok', 0, 0, 0, 1 \
         FROM generate_series(1, 10000) n; ANALYZE event",
    )
    .await;
    let query = EventQuery {
        class: Some(Class::Audit),
        ..EventQuery::default()
    };
    opened.store.events().read(&query).await.unwrap();
    opened.close().await;
    until("the index is counted as used", || async {
        db.number("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'event_of_audit'")
            .await
            > 0
    })
    .await;
}

#[tokio::test]
async fn a_drain_loses_nothing_and_after_it_nothing_is_lost_in_silence() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        for number in 0..3_000 {
            opened.store.events().record(activity(number));
        }
        let store = opened.store.clone();
        opened.close().await;
        assert_eq!(db.number("SELECT COUNT(*) FROM event").await, 3_000, "{}", db.name());

        let refused = store.events().audit(audit_event(1)).await.unwrap_err();
        assert_eq!(Failure::from(refused).code, Code::StoreUnavailable);
        assert!(store.ping().await.unwrap_err().is_unavailable());
    }
}

#[tokio::test]
async fn a_full_queue_drops_counts_and_makes_room() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        // Nothing else runs on this thread until the next `await`, so the queue can only fill up.
        for number in 0..20_000 {
            opened.store.events().record(activity(number));
        }
        assert!(
            opened.store.is_healthy(),
            "too much to write is no fault of the database"
        );
        let dropped = opened.metric("forebay_events_dropped_total");
        assert_eq!(dropped, 20_000 - 16_384);
        let at_once = tokio::time::timeout(std::time::Duration::ZERO, opened.store.events().room()).await;
        assert!(at_once.is_err(), "there is no room yet");
        opened.store.events().room().await;
        assert!(opened.store.is_healthy());
        opened.store.events().record(activity(1));
        opened.close().await;
        assert_eq!(db.number("SELECT COUNT(*) FROM event").await, 16_385, "{}", db.name());
    }
}

fn traces(page: &EventPage) -> Vec<String> {
    page.events
        .iter()
        .map(|stored| stored.event.trace.to_string())
        .collect()
}

fn expected(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| trace(number).to_string()).collect()
}

#[tokio::test]
async fn the_log_is_read_in_pages_and_by_what_is_asked() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let store = &opened.store;
        for number in 0..7 {
            let mut event = audit_event(number);
            if number % 2 == 1 {
                event.actor.as_mut().unwrap().tenant = TenantId::try_from("other").unwrap();
            }
            store.events().audit(event).await.unwrap();
        }
        store.events().record(activity(100));
        page_of(store, &EventQuery::default(), 8).await;

        let mut query = EventQuery {
            limit: 3,
            ..EventQuery::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = store.events().read(&query).await.unwrap();
            if page.events.is_empty() {
                assert_eq!(Some(page.next), query.after, "the end is a place to go on from");
                break;
            }
            seen.extend(traces(&page));
            // Through its text, as a client holds it.
            query.after = Some(page.next.to_string().parse().unwrap());
        }
        assert_eq!(seen, expected([0, 1, 2, 3, 4, 5, 6, 100]), "{}", db.name());
        store.events().audit(audit_event(7)).await.unwrap();
        assert_eq!(traces(&page_of(store, &query, 1).await), expected([7]));

        let ask = async |query: EventQuery| traces(&store.events().read(&query).await.unwrap());
        let other = Some(TenantId::try_from("other").unwrap());
        let all = EventQuery::default;
        assert_eq!(ask(EventQuery { tenant: other, ..all() }).await, expected([1, 3, 5]));
        assert_eq!(
            ask(EventQuery {
                class: Some(Class::Activity),
                ..all()
            })
            .await,
            expected([100])
        );
        assert_eq!(
            ask(EventQuery {
                trace: Some(trace(4)),
                ..all()
            })
            .await,
            expected([4])
        );
        let newest = EventQuery {
            order: Order::NewestFirst,
            limit: 2,
            ..all()
        };
        let page = store.events().read(&newest).await.unwrap();
        assert_eq!(traces(&page), expected([7, 100]));
        let after = EventQuery {
            after: Some(page.next),
            ..all()
        };
        assert_eq!(
            ask(after).await,
            expected([]),
            "the newest page ends at the end of the log"
        );

        let foreign = if db.is_postgres() { "s1" } else { "p1.1" };
        let query = EventQuery {
            after: Some(foreign.parse().unwrap()),
            ..all()
        };
        let refused = store.events().read(&query).await.unwrap_err();
        assert!(matches!(refused, StoreError::Cursor { .. }), "{refused:?}");
        assert_eq!(Failure::from(refused).code, Code::InvalidRequest);
        opened.close().await;
    }
}

/// PostgreSQL only: SQLite has one writer.
#[tokio::test]
async fn a_cursor_never_passes_a_row_that_commits_later() {
    let db = TestDb::postgres().await;
    let opened = open(&db).await;
    let store = &opened.store;
    store.events().audit(audit_event(1)).await.unwrap();
    let first = page_of(store, &EventQuery::default(), 1).await;

    // Another replica takes the next sequence number, and does not commit yet.
    let mut slow = PgConnection::connect(db.url()).await.unwrap();
    let mut tx = slow.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO event (at_ms, class, surface, trace, action, outcome, duration_us, bytes_in, bytes_out, count) \
         VALUES (1, 'activity', 'api', $1, 'slow', 'ok', 0, 0, 0, 1)",
    )
    .bind(trace(2).to_string())
    .execute(&mut *tx)
    .await
    .unwrap();
    store.events().audit(audit_event(3)).await.unwrap();

    let query = EventQuery {
        after: Some(first.next),
        ..EventQuery::default()
    };
    let meanwhile = store.events().read(&query).await.unwrap();
    assert_eq!(
        traces(&meanwhile),
        expected([]),
        "the third may not be seen while the second may still come"
    );
    assert_eq!(
        db.number("SELECT COUNT(*) FROM event").await,
        2,
        "although it is committed"
    );

    tx.commit().await.unwrap();
    let query = EventQuery {
        after: Some(meanwhile.next),
        ..EventQuery::default()
    };
    assert_eq!(traces(&page_of(store, &query, 2).await), expected([2, 3]));
    opened.close().await;
}

/// PostgreSQL only: a dump restored into a young cluster carries transaction numbers from its future.
#[tokio::test]
async fn rows_from_another_clusters_future_become_the_past() {
    let db = TestDb::postgres().await;
    let opened = open(&db).await;
    for number in 1..=3 {
        opened.store.events().audit(audit_event(number)).await.unwrap();
    }
    opened.close().await;
    db.execute("UPDATE event SET xid = xid + 1000000000000").await;

    let opened = open(&db).await;
    opened.store.events().audit(audit_event(4)).await.unwrap();
    let page = page_of(&opened.store, &EventQuery::default(), 4).await;
    assert_eq!(traces(&page), expected([1, 2, 3, 4]));
    opened.close().await;
}
