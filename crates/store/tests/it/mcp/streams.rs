//! Streams: replayed in order, bounded by session, honest about what is gone.

use super::{session, session_id};
use crate::{at, open};
use forebay_domain::{Code, Failure};
use forebay_store::mcp::streams::{Append, MESSAGE_BYTES_MAX, McpStreams, SESSION_EVENTS_MAX, StreamEvent, Worth};
use forebay_testkit::db::TestDb;
use std::ops::RangeInclusive;

fn events(seqs: RangeInclusive<u64>) -> Vec<StreamEvent> {
    let event = |seq: u64| StreamEvent {
        seq,
        message: format!("{{\"n\":{seq}}}").into_bytes(),
        worth: Worth::Lasting,
    };
    seqs.map(event).collect()
}

/// The numbers after `seq`, and whether nothing before them is missing.
async fn after(streams: &McpStreams, session: &str, stream: &str, seq: u64) -> (Vec<u64>, bool) {
    let replay = streams.after(&session_id(session), stream, seq, 5_000).await.unwrap();
    (replay.events.iter().map(|event| event.seq).collect(), replay.whole)
}

#[tokio::test]
async fn a_client_gets_what_it_missed_and_nothing_of_others() {
    for db in TestDb::both().await {
        let (one, two) = tokio::join!(open(&db), open(&db));
        for id in ["a", "b"] {
            one.store
                .mcp_sessions()
                .put(&session_id(id), &session("k1"))
                .await
                .unwrap();
        }
        let streams = one.store.mcp_streams();
        let id = session_id("a");
        streams.append(&id, "s", events(1..=5), at(1_000)).await.unwrap();
        streams.append(&id, "t", events(1..=2), at(1_000)).await.unwrap();
        streams
            .append(&session_id("b"), "s", events(1..=1), at(1_000))
            .await
            .unwrap();
        let kept = streams.append(&id, "s", events(4..=6), at(1_001)).await.unwrap();
        assert_eq!(
            kept,
            Append::Kept,
            "{}: a part that comes twice is kept once",
            db.name()
        );

        let elsewhere = two.store.mcp_streams();
        assert_eq!(after(&elsewhere, "a", "s", 3).await, (vec![4, 5, 6], true));
        assert_eq!(after(&elsewhere, "a", "s", 0).await, (vec![1, 2, 3, 4, 5, 6], true));
        assert_eq!(after(&elsewhere, "a", "s", 6).await, (vec![], true));
        assert_eq!(after(&elsewhere, "a", "s", u64::MAX).await, (vec![], true));
        assert_eq!(after(&elsewhere, "a", "t", 1).await, (vec![2], true));
        assert_eq!(after(&elsewhere, "c", "s", 0).await, (vec![], true));
        let page = elsewhere.after(&id, "s", 1, 2).await.unwrap();
        assert_eq!(page.events, events(2..=3));

        assert_eq!(elsewhere.drop_stream(&id, "s").await.unwrap(), 6);
        assert_eq!(after(&streams, "a", "s", 0).await, (vec![], true));
        assert_eq!(after(&streams, "a", "t", 0).await, (vec![1, 2], true));
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn a_session_keeps_its_newest_messages_and_says_that_older_are_gone() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        opened
            .store
            .mcp_sessions()
            .put(&session_id("a"), &session("k1"))
            .await
            .unwrap();
        let streams = opened.store.mcp_streams();
        let id = session_id("a");
        let most = u64::from(SESSION_EVENTS_MAX);
        let slack = most / 8;
        streams.append(&id, "old", events(1..=slack), at(1_000)).await.unwrap();
        streams.append(&id, "new", events(1..=most), at(2_000)).await.unwrap();
        let all = (1..=slack).collect();
        assert_eq!(
            after(&streams, "a", "old", 0).await,
            (all, true),
            "{}: a little more",
            db.name()
        );
        let last = streams.append(&id, "newest", events(1..=3), at(3_000)).await;
        assert_eq!(last.unwrap(), Append::Kept);
        assert_eq!(after(&streams, "a", "old", 0).await, (vec![], true));
        assert_eq!(after(&streams, "a", "newest", 0).await, (vec![1, 2, 3], true));
        let (seqs, whole) = after(&streams, "a", "new", 2).await;
        assert_eq!((seqs.first(), seqs.last(), whole), (Some(&4), Some(&most), false));
        opened.close().await;
    }
}

#[tokio::test]
async fn reports_of_progress_push_no_answer_out() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        opened
            .store
            .mcp_sessions()
            .put(&session_id("a"), &session("k1"))
            .await
            .unwrap();
        let (streams, id) = (opened.store.mcp_streams(), session_id("a"));
        streams.append(&id, "answered", events(1..=2), at(1_000)).await.unwrap();
        let mut reports = events(1..=5 * u64::from(SESSION_EVENTS_MAX));
        for report in &mut reports {
            report.worth = Worth::Passing;
        }
        for (place, part) in reports.chunks(100).enumerate() {
            let at = at(2_000 + i64::try_from(place).unwrap());
            streams.append(&id, "busy", part.to_vec(), at).await.unwrap();
        }
        let answered = after(&streams, "a", "answered", 0).await;
        assert_eq!(answered, (vec![1, 2], true), "{}", db.name());
        let (seqs, _) = after(&streams, "a", "busy", 4_500).await;
        assert_eq!(seqs.len(), 500, "the newest of them");
        let count = db.number("SELECT COUNT(*) FROM mcp_stream_event").await;
        assert!((1_000..=1_125).contains(&count), "{count}");
        opened.close().await;
    }
}

#[tokio::test]
async fn a_session_keeps_only_so_many_bytes() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        opened
            .store
            .mcp_sessions()
            .put(&session_id("a"), &session("k1"))
            .await
            .unwrap();
        let streams = opened.store.mcp_streams();
        let large = |seq| StreamEvent {
            seq,
            message: vec![b'x'; MESSAGE_BYTES_MAX - 1],
            worth: Worth::Lasting,
        };
        for seq in 1..=3 {
            let at = at(1_000 + i64::try_from(seq).unwrap());
            streams
                .append(&session_id("a"), "s", vec![large(seq)], at)
                .await
                .unwrap();
        }
        assert_eq!(after(&streams, "a", "s", 0).await, (vec![2, 3], false), "{}", db.name());
        let over = StreamEvent {
            seq: 4,
            message: vec![b'x'; MESSAGE_BYTES_MAX + 1],
            worth: Worth::Lasting,
        };
        let refused = streams
            .append(&session_id("a"), "s", vec![over], at(2_000))
            .await
            .unwrap_err();
        assert_eq!(Failure::from(refused).code, Code::BodyTooLarge);
        opened.close().await;
    }
}

#[tokio::test]
async fn nothing_is_kept_for_a_session_that_is_gone() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let (sessions, streams) = (opened.store.mcp_sessions(), opened.store.mcp_streams());
        let id = session_id("a");
        let refused = streams.append(&id, "s", events(1..=1), at(1_000)).await.unwrap();
        assert_eq!(refused, Append::NoSession, "{}", db.name());

        // Whichever comes first: no message outlives its session, and nobody is told of a fault.
        for round in 0..20 {
            let id = session_id(&format!("r{round}"));
            sessions.put(&id, &session("k1")).await.unwrap();
            let (appended, removed) =
                tokio::join!(streams.append(&id, "s", events(1..=3), at(1_000)), sessions.remove(&id));
            appended.unwrap();
            assert!(removed.unwrap());
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM mcp_stream_event").await, 0);
        opened.close().await;
    }
}

#[tokio::test]
async fn streams_of_one_session_are_written_side_by_side() {
    for db in TestDb::both().await {
        let (one, two) = tokio::join!(open(&db), open(&db));
        one.store
            .mcp_sessions()
            .put(&session_id("a"), &session("k1"))
            .await
            .unwrap();
        let writers = (0..8).map(|n| {
            let store = if n % 2 == 0 { &one.store } else { &two.store };
            let streams = store.mcp_streams();
            async move {
                for first in [1, 51, 101, 151] {
                    let part = events(first..=first + 49);
                    let stream = format!("s{n}");
                    streams
                        .append(&session_id("a"), &stream, part, at(1_000))
                        .await
                        .unwrap();
                }
            }
        });
        futures_util::future::join_all(writers).await;
        let kept = db.number("SELECT COUNT(*) FROM mcp_stream_event").await;
        assert_eq!(kept, i64::from(SESSION_EVENTS_MAX), "{}", db.name());
        one.close().await;
        two.close().await;
    }
}

#[tokio::test]
async fn old_messages_are_swept() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        opened
            .store
            .mcp_sessions()
            .put(&session_id("a"), &session("k1"))
            .await
            .unwrap();
        let streams = opened.store.mcp_streams();
        let id = session_id("a");
        streams.append(&id, "old", events(1..=600), at(1_000)).await.unwrap();
        streams.append(&id, "new", events(1..=2), at(2_000)).await.unwrap();
        assert_eq!(streams.sweep(at(1_000)).await.unwrap(), 0, "{}", db.name());
        assert_eq!(streams.sweep(at(2_000)).await.unwrap(), 600);
        assert_eq!(after(&streams, "a", "new", 0).await, (vec![1, 2], true));
        opened.close().await;
    }
}
