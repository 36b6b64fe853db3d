//! Sessions: kept whole under a hash, found until they expire, ended with their key.

use super::{raw, session, session_id};
use crate::{at, open};
use forebay_domain::{Code, Failure, id::KeyId};
use forebay_store::mcp::{
    sessions::{DOCUMENT_BYTES_MAX, McpSession},
    streams::{StreamEvent, Worth},
};
use forebay_testkit::db::TestDb;

#[tokio::test]
async fn a_session_is_kept_whole_and_not_under_its_id() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let sessions = opened.store.mcp_sessions();
        let (id, new) = (session_id("canary-of-an-id"), session("k1"));
        sessions.put(&id, &new).await.unwrap();
        let found = sessions.find(&id, at(1_000)).await.unwrap().unwrap();
        assert_eq!(found.owner, new.owner, "{}", db.name());
        assert_eq!((found.version, found.scope), (new.version, new.scope));
        assert_eq!(found.caps.get(), new.caps.get(), "as it was sent");
        assert_eq!(found.client_info.unwrap().get(), new.client_info.unwrap().get());
        assert_eq!((found.log_level, found.subscriptions), (None, new.subscriptions));
        let times = (found.created_at, found.touched_at, found.expires_at);
        assert_eq!(times, (new.created_at, new.touched_at, new.expires_at));

        assert!(sessions.find(&session_id("other"), at(1_000)).await.unwrap().is_none());
        let again = sessions.put(&id, &session("k2")).await.unwrap_err();
        assert_eq!(Failure::from(again).code, Code::Conflict, "nobody takes a session over");
        let shown = if db.is_postgres() {
            "encode(id_hash, 'hex')"
        } else {
            "hex(id_hash)"
        };
        let plain = format!("SELECT COUNT(*) FROM mcp_session WHERE lower({shown}) LIKE '%63616e617279%'");
        assert_eq!(db.number(&plain).await, 0, "the id itself is not there");
        opened.close().await;
    }
}

#[tokio::test]
async fn a_session_without_a_key_or_client_info_is_kept_too() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let sessions = opened.store.mcp_sessions();
        let mut new = session("k1");
        new.owner.key = None;
        let new = McpSession {
            client_info: None,
            log_level: Some("debug".to_owned()),
            subscriptions: ["nul\0\"é".to_owned()].into(),
            ..new
        };
        sessions.put(&session_id("a"), &new).await.unwrap();
        let found = sessions.find(&session_id("a"), at(1_000)).await.unwrap().unwrap();
        assert_eq!((found.owner.key, found.log_level.as_deref()), (None, Some("debug")));
        assert!(found.client_info.is_none());
        assert_eq!(found.subscriptions, new.subscriptions, "{}", db.name());
        opened.close().await;
    }
}

#[tokio::test]
async fn an_expired_session_is_not_found_and_stays_expired() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let sessions = opened.store.mcp_sessions();
        let (a, b) = (session_id("a"), session_id("b"));
        for id in [&a, &b] {
            sessions.put(id, &session("k1")).await.unwrap();
        }
        let both = [a.clone(), b.clone(), a.clone(), session_id("unknown")];
        assert_eq!(sessions.touch(&both, at(2_000), at(9_000)).await.unwrap(), 2);
        assert_eq!(sessions.touch(&[], at(2_000), at(9_000)).await.unwrap(), 0);
        let before = sessions.touch(&both, at(1_500), at(2_500)).await.unwrap();
        assert_eq!(before, 0, "{}: an earlier touch moves nothing back", db.name());
        let found = sessions.find(&a, at(8_999)).await.unwrap().unwrap();
        assert_eq!((found.touched_at, found.expires_at), (at(2_000), at(9_000)));

        assert!(sessions.find(&a, at(9_000)).await.unwrap().is_none());
        assert_eq!(sessions.touch(&both, at(9_000), at(99_000)).await.unwrap(), 0);
        assert_eq!(sessions.sweep(at(8_999)).await.unwrap(), 0);
        assert_eq!(sessions.sweep(at(9_000)).await.unwrap(), 2);
        assert_eq!(db.number("SELECT COUNT(*) FROM mcp_session").await, 0);
        opened.close().await;
    }
}

#[tokio::test]
async fn what_a_client_sets_is_kept() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let sessions = opened.store.mcp_sessions();
        let id = session_id("a");
        sessions.put(&id, &session("k1")).await.unwrap();
        let uris = ["file:///b".to_owned(), "file:///c".to_owned()].into();
        assert!(sessions.set_subscriptions(&id, &uris).await.unwrap());
        assert!(sessions.set_log_level(&id, Some("warning")).await.unwrap());
        let found = sessions.find(&id, at(1_000)).await.unwrap().unwrap();
        assert_eq!(
            (found.subscriptions, found.log_level.as_deref()),
            (uris.clone(), Some("warning"))
        );
        assert!(sessions.set_log_level(&id, None).await.unwrap());
        let found = sessions.find(&id, at(1_000)).await.unwrap().unwrap();
        assert_eq!(found.log_level, None, "{}", db.name());

        let gone = session_id("gone");
        assert!(!sessions.set_subscriptions(&gone, &uris).await.unwrap());
        assert!(!sessions.set_log_level(&gone, None).await.unwrap());
        opened.close().await;
    }
}

#[tokio::test]
async fn sessions_end_with_their_key_and_streams_with_their_session() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let (sessions, streams) = (opened.store.mcp_sessions(), opened.store.mcp_streams());
        for (id, key) in [("a", "k1"), ("b", "k1"), ("c", "k2")] {
            sessions.put(&session_id(id), &session(key)).await.unwrap();
            let event = StreamEvent {
                seq: 1,
                message: b"{}".to_vec(),
                worth: Worth::Lasting,
            };
            streams
                .append(&session_id(id), "s", vec![event], at(1_000))
                .await
                .unwrap();
        }
        let key = KeyId::try_from("k1").unwrap();
        assert_eq!(sessions.remove_of_key(&key).await.unwrap(), 2, "{}", db.name());
        assert_eq!(sessions.remove_of_key(&key).await.unwrap(), 0);
        assert_eq!(db.number("SELECT COUNT(*) FROM mcp_stream_event").await, 1);
        assert!(sessions.remove(&session_id("c")).await.unwrap());
        assert!(!sessions.remove(&session_id("c")).await.unwrap());
        assert_eq!(db.number("SELECT COUNT(*) FROM mcp_stream_event").await, 0);
        opened.close().await;
    }
}

#[tokio::test]
async fn what_is_too_large_for_a_session_is_refused() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let sessions = opened.store.mcp_sessions();
        let id = session_id("a");
        let large = "x".repeat(DOCUMENT_BYTES_MAX);
        let words = [
            McpSession {
                caps: raw(&format!("\"{large}\"")),
                ..session("k1")
            },
            McpSession {
                client_info: Some(raw(&format!("\"{large}\""))),
                ..session("k1")
            },
            McpSession {
                subscriptions: [large.clone()].into(),
                ..session("k1")
            },
            McpSession {
                scope: large.clone(),
                ..session("k1")
            },
        ];
        for new in words {
            let refused = sessions.put(&id, &new).await.unwrap_err();
            assert_eq!(Failure::from(refused).code, Code::BodyTooLarge, "{}", db.name());
        }
        sessions.put(&id, &session("k1")).await.unwrap();
        let refused = sessions.set_subscriptions(&id, &[large].into()).await.unwrap_err();
        assert_eq!(Failure::from(refused).code, Code::BodyTooLarge);
        opened.close().await;
    }
}

#[tokio::test]
async fn thousands_are_touched_and_swept_in_portions() {
    for db in TestDb::both().await {
        let opened = open(&db).await;
        let sessions = opened.store.mcp_sessions();
        let ids: Vec<_> = (0..1_201).map(|n| session_id(&format!("s{n}"))).collect();
        let new = session("k1");
        let puts = ids.iter().map(|id| sessions.put(id, &new));
        for outcome in futures_util::future::join_all(puts).await {
            outcome.unwrap();
        }
        assert_eq!(
            sessions.touch(&ids, at(2_000), at(6_000)).await.unwrap(),
            1_201,
            "{}",
            db.name()
        );
        assert_eq!(sessions.sweep(at(6_000)).await.unwrap(), 1_201);
        opened.close().await;
    }
}
