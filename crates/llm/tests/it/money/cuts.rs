//! Answers of which nobody knows what they came to: cut, left, or without a word about it.

use super::*;
use crate::world::{pieces, until};
use forebay_testkit::openai::{End, chunk, event, polite_events};

/// Streams that end in mid-answer, after these words.
const WORDS: &str = "The capital";

fn begun() -> Reply {
    let first = event(&chunk("m", &json!({ "content": WORDS }), None));
    Reply::events().piece(first)
}

async fn estimated(world: &World) -> (Usd, Usd) {
    let posted = settled(world).await;
    let movements = movements(world, 2).await;
    assert_eq!(kinds(&movements), [TxnKind::Hold, TxnKind::Settle]);
    assert!(movements[1].estimated && !movements[1].above_hold, "{movements:?}");
    assert_eq!(movements[1].posted, posted);
    (movements[0].held, posted)
}

#[tokio::test]
async fn a_stream_that_breaks_off_costs_its_input_and_what_was_said_where_that_was_all() {
    for end in [End::Cut, End::Reset] {
        let world = open().await;
        limit(&world, "100");
        world.engine.will(begun().end(end));
        assert_eq!(world.read(&streamed_to(1_000)).await.1, Some(Code::UpstreamTruncated));
        let (held, posted) = estimated(&world).await;
        // The hold has a thousand tokens of output; all but those that came are given back.
        let words = usd("0.002").micros() * i64::try_from(WORDS.len()).unwrap();
        assert_eq!(held.micros() - posted.micros(), usd("2").micros() - words);
    }
}

/// An engine that is known to tell each word at once.
async fn open() -> World {
    World::with(|engine| json!({ "qwen": { "backends": [{ "url": engine, "engine": "llamacpp" }], "price": price() } }))
        .await
}

/// It may have thought for long before it broke off.
#[tokio::test]
async fn a_stream_that_breaks_off_may_have_been_any_where_words_may_be_hidden() {
    let mut thinking = streamed_to(1_000);
    thinking["reasoning_effort"] = "high".into();
    for (world, body) in [(priced().await, streamed_to(1_000)), (open().await, thinking)] {
        limit(&world, "100");
        world.engine.will(begun().end(End::Cut));
        assert_eq!(world.read(&body).await.1, Some(Code::UpstreamTruncated));
        let (held, posted) = estimated(&world).await;
        assert_eq!(posted, held);
    }
}

fn streamed_to(max_tokens: u64) -> Value {
    let mut body = streamed();
    body["max_tokens"] = max_tokens.into();
    body
}

#[tokio::test]
async fn a_client_that_leaves_while_the_engine_is_waited_for_pays_for_what_came() {
    let world = open().await;
    limit(&world, "100");
    world.engine.will(begun().gate());
    let mut answer = world.ask(&streamed_to(1_000)).await.unwrap();
    assert!(pieces(&mut answer).next().await.unwrap().is_ok());
    assert!(
        pieces(&mut answer).next().now_or_never().is_none(),
        "the engine says no more"
    );
    drop(answer);
    world.engine.left(1).await;
    let (held, posted) = estimated(&world).await;
    assert!(posted > Usd::ZERO && posted < held, "{posted} of {held}");
}

/// What the engine had sent by then lies in the connection, and nobody has looked at it.
#[tokio::test]
async fn a_client_that_leaves_without_having_read_all_may_have_been_told_any() {
    let world = open().await;
    limit(&world, "100");
    world.engine.will(begun().gate());
    let mut answer = world.ask(&streamed_to(1_000)).await.unwrap();
    assert!(pieces(&mut answer).next().await.unwrap().is_ok());
    drop(answer);
    let (held, posted) = estimated(&world).await;
    assert_eq!(posted, held);
}

/// The engine may think for long before it says a word, and be left at once.
#[tokio::test]
async fn a_client_that_leaves_before_or_at_the_first_word_pays_for_what_may_have_been_thought() {
    for says_a_word in [false, true] {
        let world = priced().await;
        limit(&world, "100");
        let reply = if says_a_word { begun() } else { Reply::events() };
        world.engine.will(reply.gate());
        let request = streamed_to(1_000);
        let mut asked = Box::pin(world.ask(&request));
        if says_a_word {
            let mut answer = asked.await.unwrap();
            assert!(pieces(&mut answer).next().await.unwrap().is_ok());
            assert!(pieces(&mut answer).next().now_or_never().is_none(), "it thinks");
        } else {
            tokio::select! {
                _ = &mut asked => panic!("it thinks"),
                () = until(|| !world.engine.seen().is_empty()) => drop(asked),
            }
        }
        world.engine.left(1).await;
        let (held, posted) = estimated(&world).await;
        assert_eq!(posted, held, "after a word: {says_a_word}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_once_the_usage_is_told_pays_that() {
    let world = priced().await;
    limit(&world, "100");
    let mut events = polite_events("m", true);
    events.pop();
    let reply = events.into_iter().fold(Reply::events(), Reply::piece).gate();
    world.engine.will(reply);
    let mut body = streamed_to(1_000);
    body["stream_options"] = json!({ "include_usage": true });
    let mut answer = world.ask(&body).await.unwrap();
    let mut heard = String::new();
    while !heard.contains("\"usage\":{") {
        heard.push_str(str::from_utf8(&pieces(&mut answer).next().await.unwrap().unwrap()).unwrap());
    }
    drop(answer);
    assert_eq!(settled(&world).await, POLITE);
    assert!(!movements(&world, 2).await[1].estimated);
}

/// Some engines tell what they used so far, apart from their words.
#[tokio::test]
async fn a_usage_on_the_way_is_not_the_last_one() {
    let world = priced().await;
    limit(&world, "100");
    let so_far = json!({ "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 1 } });
    world.engine.will(begun().piece(event(&so_far)).end(End::Cut));
    assert_eq!(world.read(&streamed_to(1_000)).await.1, Some(Code::UpstreamTruncated));
    let (_, posted) = estimated(&world).await;
    // 11 tokens of input, rounded as a hold is, and the thousand of output that it may have had.
    assert_eq!(posted, usd("2.011002"));
}

#[tokio::test]
async fn an_answer_in_one_piece_that_nobody_waits_for_may_have_been_any() {
    let world = priced().await;
    limit(&world, "100");
    world.engine.will(Reply::polite(&chat()).hold_head());
    let body = short(chat());
    let mut answer = Box::pin(world.ask(&body));
    tokio::select! {
        _ = &mut answer => panic!("the engine waits"),
        () = world.engine.asked(1) => {}
    }
    drop(answer);
    let (held, posted) = estimated(&world).await;
    assert_eq!(posted, held, "all of it: nobody has seen how much there was");
}

#[tokio::test]
async fn an_answer_that_breaks_off_before_anybody_has_seen_it_may_have_been_any() {
    let world = priced().await;
    limit(&world, "100");
    for reply in [
        Reply::silent(End::Reset),
        Reply::whole(200, "application/json", "{").announcing(900),
    ] {
        world.engine.will(reply);
    }
    let mut config = json!({ "qwen": { "price": price(), "retry": { "attempts": 1 } } });
    config["qwen"]["backends"] = json!([{ "url": world.engine.url() }]);
    world.router.reconfigure(crate::world::settings(config));
    assert!(world.ask(&short(chat())).await.is_err());
    let (held, posted) = estimated(&world).await;
    assert_eq!(posted, held);
}

#[tokio::test]
async fn whoever_leaves_the_queue_pays_nothing() {
    let world = World::with(
        |engine| json!({ "qwen": { "backends": [{ "url": engine, "max_concurrency": 1 }], "price": price() } }),
    )
    .await;
    limit(&world, "100");
    world.engine.will(Reply::polite(&chat()).hold_head());
    let body = short(chat());
    let mut first = Box::pin(world.ask(&body));
    tokio::select! {
        _ = &mut first => panic!("the engine waits"),
        () = world.engine.asked(1) => {}
    }
    let one = stands(&world).await.0;
    let mut second = Box::pin(world.ask(&body));
    let both_held = async {
        while stands(&world).await.0 == one {
            tokio::task::yield_now().await;
        }
        // It holds; now it goes into the queue.
        while !world.metrics().contains("forebay_model_queue_depth{model=\"qwen\"} 1") {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut second => panic!("it waits for a place"),
        () = both_held => {}
    }
    drop(second);
    let movements = movements(&world, 3).await;
    assert_eq!(kinds(&movements), [TxnKind::Hold, TxnKind::Hold, TxnKind::Void]);
    assert_eq!(stands(&world).await, (one, Usd::ZERO));
    world.engine.open_gate();
    drain(first.await.unwrap()).await;
    assert_eq!(settled(&world).await, POLITE);
}

#[tokio::test]
async fn an_engine_that_tells_no_usage_is_paid_by_the_bound() {
    let choice =
        json!({ "index": 0, "message": { "role": "assistant", "content": "Paris." }, "finish_reason": "stop" });
    let whole = Reply::json(200, &json!({ "choices": [choice] }));
    let events = polite_events("m", false)
        .into_iter()
        .fold(Reply::events(), Reply::piece);
    for (body, reply) in [(short(chat()), whole), (streamed_to(1_000), events)] {
        let world = priced().await;
        limit(&world, "100");
        world.engine.will(reply);
        assert_eq!(world.read(&body).await.1, None);
        let (held, posted) = estimated(&world).await;
        assert!(posted > Usd::ZERO && posted <= held, "{posted} of {held}");
    }
}

/// A message tells its input at the beginning and its output at the end.
#[tokio::test]
async fn a_stream_of_messages_that_breaks_off_costs_the_input_it_told_and_all_that_it_may_have_thought() {
    let world = World::with(
        |engine| json!({ "qwen": { "backends": [{ "url": engine, "engine": "anthropic" }], "price": price() } }),
    )
    .await;
    limit(&world, "100");
    let named = |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    let begun = named(
        json!({ "type": "message_start", "message": { "type": "message", "role": "assistant",
        "model": "m", "content": [], "usage": { "input_tokens": 40, "output_tokens": 1 } } }),
    );
    let said = named(json!({ "type": "content_block_delta", "index": 0,
        "delta": { "type": "text_delta", "text": "Paris" } }));
    world
        .engine
        .will(Reply::events().piece(begun).piece(said).end(End::Cut));
    let body = json!({ "model": "qwen", "max_tokens": 500, "stream": true,
        "messages": [{ "role": "user", "content": "Why?" }] });
    let answer = ask(&world, Endpoint::Messages, &body).await.unwrap();
    assert_eq!(drain(answer).await.1, Some(Code::UpstreamTruncated));
    let (_, posted) = estimated(&world).await;
    // 40 tokens of input, rounded as a hold is, and the 500 of output that it may have had.
    assert_eq!(posted, usd("1.040002"));
}
