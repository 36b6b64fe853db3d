//! Streamed answers: event by event, as they come.

use crate::world::{PATIENCE, World, chat, drain, failed, pieces, streamed};
use forebay_domain::{
    Code,
    event::{Outcome, Usage},
    model::{Answer, AnswerForm},
};
use forebay_testkit::openai::{COMPLETION_TOKENS, End, PROMPT_TOKENS, Reply, chunk, event, polite_events, usage_chunk};
use futures_util::StreamExt;
use serde_json::json;

async fn next(answer: &mut Answer) -> String {
    let item = tokio::time::timeout(PATIENCE, pieces(answer).next())
        .await
        .expect("an event comes in time");
    String::from_utf8(item.unwrap().unwrap().to_vec()).unwrap()
}

fn word(text: &str) -> String {
    event(&chunk("org/Qwen", &json!({ "content": text }), None))
}

fn last() -> String {
    event(&chunk("org/Qwen", &json!({}), Some("stop")))
}

const DONE: &str = "data: [DONE]\n\n";

fn told() -> Usage {
    Usage {
        input_tokens: PROMPT_TOKENS,
        output_tokens: COMPLETION_TOKENS,
        estimated: false,
    }
}

fn guessed(output_tokens: u64) -> Usage {
    Usage {
        input_tokens: 0,
        output_tokens,
        estimated: true,
    }
}

#[tokio::test]
async fn each_event_goes_on_before_the_next_one_comes() {
    let world = World::new().await;
    world
        .engine
        .will(Reply::events().piece(word("a")).gate().piece(last()).gate().piece(DONE));
    let mut answer = world.ask(&streamed()).await.unwrap();
    assert_eq!(answer.form(), AnswerForm::Events);
    assert_eq!(next(&mut answer).await, word("a"));
    world.engine.open_gate();
    assert_eq!(next(&mut answer).await, last());
    world.engine.open_gate();
    assert_eq!(drain(answer).await, (DONE.to_owned(), None));
    assert!(
        world
            .metrics()
            .contains(r#"gen_ai_server_time_to_first_token_seconds_count{gen_ai_request_model="qwen"} 1"#)
    );
}

#[tokio::test]
async fn usage_is_known_and_shown_only_to_who_asked() {
    let world = World::new().await;
    let (text, code) = world.read(&streamed()).await;
    assert_eq!((text, code), (polite_events("org/Qwen", false).concat(), None));
    let mut asking = streamed();
    asking["stream_options"] = json!({ "include_usage": true });
    let (text, code) = world.read(&asking).await;
    assert_eq!((text, code), (polite_events("org/Qwen", true).concat(), None));
    for (seen, event) in world.engine.seen().iter().zip(world.events(2).await) {
        assert_eq!(seen.json()["stream_options"], json!({ "include_usage": true }));
        assert_eq!(seen.header("accept"), Some("text/event-stream"));
        assert_eq!((event.usage, event.outcome), (Some(told()), Outcome::Ok));
    }
}

#[tokio::test]
async fn events_survive_whatever_way_the_network_cuts_them() {
    let world = World::new().await;
    let text = [
        word("Zürich é 北京"),
        ": keep-alive\n\n".to_owned(),
        last(),
        DONE.to_owned(),
    ]
    .concat();
    let crlf = text.replace('\n', "\r\n");
    // One byte a piece cuts inside every character and inside every CRLF; an LF after a cut is not passed on.
    let pieces = crlf
        .as_bytes()
        .iter()
        .fold(Reply::events(), |reply, byte| reply.piece(vec![*byte]));
    world.engine.will(pieces);
    let (got, code) = world.read(&streamed()).await;
    assert_eq!(code, None);
    assert_eq!(got.replace("\r\n", "\n").replace('\r', "\n"), text);
}

#[tokio::test]
async fn an_end_in_good_order_without_done_is_given_one() {
    for tail in [
        last(),
        last().trim_end().to_owned(),
        format!("{}{}", last(), DONE.trim_end()),
    ] {
        let world = World::new().await;
        world.engine.will(Reply::events().piece(word("a")).piece(tail.clone()));
        let (text, code) = world.read(&streamed()).await;
        assert_eq!(
            (text, code),
            ([word("a"), last(), DONE.to_owned()].concat(), None),
            "{tail}"
        );
        assert_eq!(world.event().await.outcome, Outcome::Ok);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_never_looks_complete() {
    for (tail, end) in [
        (String::new(), End::Properly),
        (last()[..20].to_owned(), End::Properly),
        (String::new(), End::Cut),
        (String::new(), End::Reset),
        (last(), End::Reset),
    ] {
        let world = World::new().await;
        let reply = Reply::events()
            .piece(word("a"))
            .piece(word("b"))
            .gate()
            .piece(format!(": \n\n{tail}"))
            .end(end.clone());
        world.engine.will(reply);
        let mut answer = world.ask(&streamed()).await.unwrap();
        assert_eq!(
            [next(&mut answer).await, next(&mut answer).await],
            [word("a"), word("b")]
        );
        world.engine.open_gate();
        let (text, code) = drain(answer).await;
        assert_eq!(code, Some(Code::UpstreamTruncated), "{tail} {end:?}");
        assert!(!text.contains("[DONE]"), "{tail} {end:?}");
        let event = world.event().await;
        assert_eq!(event.outcome, failed(Code::UpstreamTruncated));
        assert!(event.usage.unwrap().estimated);
    }
}

#[tokio::test]
async fn an_error_in_mid_stream_ends_it() {
    for bad in [
        event(&json!({ "error": { "message": "out of memory", "code": 500 } })),
        "data: <html>oh no</html>\n\n".to_owned(),
        "error: {\"code\":500}\n\n".to_owned(),
    ] {
        let world = World::new().await;
        world
            .engine
            .will(Reply::events().piece(word("a")).piece(bad.clone()).piece(DONE));
        let (text, code) = world.read(&streamed()).await;
        assert_eq!((text, code), (word("a"), Some(Code::UpstreamFailed)), "{bad}");
        assert_eq!(world.event().await.outcome, failed(Code::UpstreamFailed));
    }
    let world = World::new().await;
    world.engine.will(
        Reply::events()
            .piece(word("a"))
            .piece(b"data: {\"x\":\"\xff\"}\n\n".to_vec())
            .piece(DONE),
    );
    assert_eq!(world.read(&streamed()).await, (word("a"), Some(Code::UpstreamFailed)));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_upstream() {
    let world = World::new().await;
    world
        .engine
        .will(Reply::events().piece(word("a")).piece(word("b")).gate());
    let mut answer = world.ask(&streamed()).await.unwrap();
    next(&mut answer).await;
    next(&mut answer).await;
    drop(answer);
    tokio::time::timeout(PATIENCE, world.engine.left(1))
        .await
        .expect("the engine sees the client go");
    let event = world.event().await;
    assert_eq!((event.outcome, event.usage), (Outcome::Cancelled, Some(guessed(2))));
    assert_eq!(event.bytes_out, (word("a").len() + word("b").len()) as u64);
}

#[tokio::test]
async fn usage_that_was_told_before_the_client_left_counts() {
    let world = World::new().await;
    let mut telling = chunk("org/Qwen", &json!({ "content": "a" }), None);
    telling["usage"] = usage_chunk("org/Qwen")["usage"].clone();
    world.engine.will(Reply::events().piece(event(&telling)).gate());
    let mut answer = world.ask(&streamed()).await.unwrap();
    assert_eq!(next(&mut answer).await, event(&telling));
    drop(answer);
    assert_eq!(world.event().await.usage, Some(told()));
}

#[tokio::test]
async fn a_caller_that_stops_waiting_cancels_upstream() {
    for body in [chat(), streamed()] {
        let world = World::new().await;
        world.engine.will(Reply::polite(&body).hold_head());
        tokio::select! {
            _ = world.ask(&body) => panic!("the engine holds its answer back"),
            () = world.engine.asked(1) => {}
        }
        tokio::time::timeout(PATIENCE, world.engine.left(1))
            .await
            .expect("the engine sees the client go");
        let event = world.event().await;
        assert_eq!(
            (event.outcome, event.usage, event.bytes_out),
            (Outcome::Cancelled, None, 0)
        );
    }
}

#[tokio::test]
async fn who_has_done_has_everything() {
    let world = World::new().await;
    world.engine.will(Reply::events().piece(last()).piece(DONE).gate());
    let mut answer = world.ask(&streamed()).await.unwrap();
    assert_eq!(
        [next(&mut answer).await, next(&mut answer).await],
        [last(), DONE.to_owned()]
    );
    drop(answer);
    assert_eq!(world.event().await.outcome, Outcome::Ok);
}

#[tokio::test]
async fn an_engine_that_hangs_after_done_holds_nobody_up() {
    let world = World::new().await;
    world.engine.will(Reply::events().piece(last()).piece(DONE).gate());
    assert_eq!(
        world.read(&streamed()).await,
        ([last(), DONE.to_owned()].concat(), None)
    );
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let world = World::new().await;
    for body in [streamed(), chat(), streamed()] {
        assert_eq!(world.read(&body).await.1, None);
    }
    assert_eq!((world.engine.seen().len(), world.engine.connections()), (3, 1));
}
