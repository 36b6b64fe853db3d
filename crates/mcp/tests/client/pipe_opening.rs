//! Finding out over a pipe what a server speaks.

use crate::world::{Wish, discovered, initialized, pipe, soon};
use forebay_mcp::{
    client::{ClientFault, Limits, Mode},
    era::Version,
};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_modern_server_tells_everything_at_once() {
    let (opened, _peer) = Wish::default().over_pipe(crate::world::Peer::open_modern).await;
    let (connection, _heard) = opened.unwrap();
    assert_eq!(connection.version(), Version::V2026_07_28);
    assert_eq!(connection.capabilities().get(), r#"{"tools":{"x":1}}"#);
    assert_eq!(connection.server_info().unwrap().get(), r#"{"name":"s","version":"2"}"#);
    assert_eq!(connection.instructions(), Some("Ask."));
}

#[tokio::test]
async fn each_older_version_is_accepted_after_an_error_of_any_kind() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        for code in [-32601, -32602, -32600, -32000] {
            let (opened, asked) = Wish::default()
                .over_pipe(|mut peer| async move {
                    let asked = peer.expect("server/discover").await;
                    peer.refuse(&asked, code, &Value::Null).await;
                    (peer.handshake(version).await, peer)
                })
                .await;
            let (connection, _heard) = opened.unwrap();
            assert_eq!(connection.version().as_str(), version, "{code}");
            let params = &asked.0["params"];
            assert_eq!(params["protocolVersion"], "2025-11-25");
            assert_eq!(params["clientInfo"]["name"], "forebay");
            assert_eq!(params["capabilities"], json!({"elicitation": {}}));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_to_what_it_does_not_know_is_an_older_one() {
    let (opened, _peer) = Wish::default()
        .over_pipe(|mut peer| async move {
            peer.expect("server/discover").await;
            peer.handshake("2025-06-18").await;
            peer
        })
        .await;
    assert_eq!(opened.unwrap().0.version(), Version::V2025_06_18);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_late_is_served_by_whichever_era_it_speaks() {
    // One that speaks both keeps to the handshake, which binds it; one that is modern only refuses the handshake.
    for (refuses, expected) in [(false, Version::V2025_11_25), (true, Version::V2026_07_28)] {
        let (opened, _peer) = Wish::default()
            .over_pipe(|mut peer| async move {
                let discover = peer.expect("server/discover").await;
                let initialize = peer.expect("initialize").await;
                peer.answer(&discover, &discovered()).await;
                if refuses {
                    peer.refuse(&initialize, -32601, &Value::Null).await;
                } else {
                    peer.answer(&initialize, &initialized("2025-11-25")).await;
                }
                peer
            })
            .await;
        assert_eq!(opened.unwrap().0.version(), expected, "{refuses}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_given_up() {
    let wish = Wish {
        limits: Limits {
            opening_wait: Duration::from_secs(15),
            ..Limits::default()
        },
        ..Wish::default()
    };
    let (opened, _peer) = wish.over_pipe(|peer| async move { peer }).await;
    assert!(
        matches!(opened, Err(ClientFault::TimedOut(_))),
        "{opened:?}",
        opened = opened.err()
    );
}

#[tokio::test]
async fn a_server_that_dies_of_the_question_says_so_and_can_be_opened_by_the_handshake() {
    let (opened, ()) = Wish::default()
        .over_pipe(|mut peer| async move {
            peer.expect("server/discover").await;
        })
        .await;
    assert!(matches!(opened, Err(ClientFault::EndedOnProbe)));
    let (opened, _peer) = Wish::mode(Mode::Legacy)
        .over_pipe(|mut peer| async move {
            peer.handshake("2025-11-25").await;
            peer
        })
        .await;
    assert_eq!(opened.unwrap().0.version(), Version::V2025_11_25);
}

#[tokio::test]
async fn a_version_that_is_unknown_or_a_lie_is_refused() {
    for lie in ["2026-07-28", "1999-01-01", "", "2025-11-25 "] {
        let (opened, _peer) = Wish::mode(Mode::Legacy)
            .over_pipe(|mut peer| async move {
                let asked = peer.expect("initialize").await;
                peer.answer(&asked, &initialized(lie)).await;
                peer
            })
            .await;
        let Err(ClientFault::Version(said)) = opened else {
            panic!("{lie}")
        };
        assert_eq!(said, lie);
    }
    let (opened, _peer) = Wish::default()
        .over_pipe(|mut peer| async move {
            let asked = peer.expect("server/discover").await;
            peer.refuse(&asked, -32022, &json!({"supported": ["2099-01-01"]})).await;
            peer
        })
        .await;
    assert!(matches!(opened, Err(ClientFault::Version(said)) if said == "2099-01-01"));
}

#[tokio::test]
async fn a_server_that_refuses_a_version_which_it_names_is_asked_once_more() {
    for relents in [true, false] {
        let (opened, _peer) = Wish::default()
            .over_pipe(|mut peer| async move {
                let refusal = json!({"supported": ["2026-07-28"], "requested": "2026-07-28"});
                let asked = peer.expect("server/discover").await;
                peer.refuse(&asked, -32022, &refusal).await;
                let asked = peer.expect("server/discover").await;
                if relents {
                    peer.answer(&asked, &discovered()).await;
                } else {
                    peer.refuse(&asked, -32022, &refusal).await;
                }
                peer
            })
            .await;
        match opened {
            Ok((connection, _heard)) => assert!(relents && connection.version().is_modern()),
            Err(fault) => assert!(!relents && matches!(fault, ClientFault::Version(_)), "{fault}"),
        }
    }
}

#[tokio::test]
async fn a_mode_that_is_fixed_asks_nothing_else() {
    let (opened, _peer) = Wish::mode(Mode::Modern)
        .over_pipe(|mut peer| async move {
            let asked = peer.expect("server/discover").await;
            peer.refuse(&asked, -32601, &Value::Null).await;
            peer
        })
        .await;
    assert!(matches!(opened, Err(ClientFault::Refused(error)) if error.code == -32601));
}

#[tokio::test]
async fn an_opening_that_is_given_up_lets_go_of_the_pipe() {
    let (target, mut peer) = pipe();
    let (listener, _heard) = forebay_mcp::client::mailbox();
    let parts = forebay_mcp::client::Parts {
        tasks: forebay_runtime::Tasks::new(),
        listener,
        tenancy: forebay_mcp::client::Tenancy::OneCaller,
        limits: forebay_mcp::client::Limits::default(),
    };
    let opening = forebay_mcp::client::Connection::open(target, crate::world::hello(Mode::Auto), parts);
    tokio::select! {
        _ = opening => panic!("nobody answers"),
        _ = peer.expect("server/discover") => {}
    }
    soon(peer.ended()).await;
}
