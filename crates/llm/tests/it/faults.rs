//! Everything that an engine can do wrong: each a clear failure, bounded in size and time.

use crate::world::{ENGINE_KEY, World, chat, drain, failed, streamed, user};
use forebay_domain::{
    Code, Failure,
    model::{Endpoint, Hints, ModelRequest},
};
use forebay_testkit::openai::{End, Engine, Reply};
use serde_json::{Value, json};
use std::time::Duration;

/// What a caller is told about this reply.
async fn told(reply: Reply, body: &Value) -> Failure {
    let world = World::new().await;
    world.engine.will(reply);
    let failure = world.ask(body).await.err().expect("the reply is faulty");
    assert_eq!(world.event().await.outcome, failed(failure.code));
    let (details, chain, metrics) = (&failure.details, failure.chain(), world.metrics());
    let shown = format!("{} {details:?} {chain} {metrics}", failure.sentence());
    for secret in ["127.0.0.1", ENGINE_KEY] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(failure.message.contains("`qwen`"), "{shown}");
    failure
}

async fn check(reply: Reply, code: Code, words: &str) {
    for body in [chat(), streamed()] {
        let failure = told(reply.clone(), &body).await;
        assert_eq!(failure.code, code, "{}", failure.message);
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

fn error(message: &str) -> Value {
    json!({ "error": { "message": message, "type": "BadRequestError", "code": 400 } })
}

#[tokio::test]
async fn what_the_client_did_wrong_comes_back_in_the_engines_words() {
    let words = "max_tokens must be at most 256,\ngot 9000";
    for status in [400, 413, 422] {
        check(
            Reply::json(status, &error(words)),
            Code::InvalidRequest,
            "max_tokens must be at most 256, got 9000",
        )
        .await;
    }
    check(
        Reply::whole(400, "text/html", "<html>nginx</html>"),
        Code::InvalidRequest,
        "it gave no reason",
    )
    .await;
    check(
        Reply::json(400, &json!({ "detail": "no" })),
        Code::InvalidRequest,
        "refused the request: no",
    )
    .await;
    let failure = told(Reply::json(400, &error(&"é".repeat(20_000))), &chat()).await;
    assert!(failure.message.len() < 2_200);
    let failure = told(Reply::json(400, &error(&format!("bad key {ENGINE_KEY}"))), &chat()).await;
    assert!(failure.message.contains("bad key [redacted]"), "{}", failure.message);
}

#[tokio::test]
async fn what_the_operator_did_wrong_is_no_fault_of_the_client() {
    for status in [401, 403] {
        let failure = told(
            Reply::json(status, &error("Incorrect API key provided: sk-c***91")),
            &chat(),
        )
        .await;
        assert_eq!(failure.code, Code::UpstreamFailed);
        assert!(
            failure
                .hint
                .clone()
                .unwrap()
                .contains("models.qwen.backends[0].api_key")
        );
        assert!(!format!("{failure:?}").contains("sk-c"), "{failure:?}");
    }
    let failure = told(
        Reply::json(404, &error("The model `org/Qwen` does not exist.")),
        &chat(),
    )
    .await;
    assert_eq!(failure.code, Code::UpstreamFailed);
    assert!(failure.hint.unwrap().contains("models.qwen.backends[0].model"));
    let details = failure.details.unwrap();
    assert_eq!(details["engine_message"], "The model `org/Qwen` does not exist.");
    assert_eq!((&details["status"], &details["backend"]), (&json!(404), &json!(0)));
}

#[tokio::test]
async fn an_engine_in_trouble_is_named() {
    for status in [500, 502, 503, 418, 204, 307] {
        let reply = Reply::whole(status, "text/html", "<html>bad gateway</html>").header("location", "/elsewhere");
        let failure = told(reply, &chat()).await;
        assert_eq!(failure.code, Code::UpstreamFailed, "{status}");
        assert!(!failure.sentence().contains("html>"), "{}", failure.sentence());
    }
    for status in [408, 504] {
        check(
            Reply::json(status, &json!({})),
            Code::UpstreamTimedOut,
            "gave up waiting",
        )
        .await;
    }
    let failure = told(Reply::json(429, &json!({})).header("retry-after", "7"), &streamed()).await;
    assert_eq!(
        (failure.code, failure.retry_after),
        (Code::RateLimited, Some(Duration::from_secs(7)))
    );
    let failure = told(Reply::json(429, &json!({})).header("retry-after", "soon"), &chat()).await;
    assert_eq!((failure.code, failure.retry_after), (Code::RateLimited, None));
    let failure = told(
        Reply::json(503, &json!({})).header("retry-after", "99999999999"),
        &chat(),
    )
    .await;
    assert_eq!(failure.retry_after, Some(Duration::from_hours(24)));
}

#[tokio::test]
async fn success_that_is_none_is_found_out() {
    check(Reply::begin(200, ""), Code::UpstreamFailed, "without a content type").await;
    check(
        Reply::whole(200, "text/html", "<html>"),
        Code::UpstreamFailed,
        "answered with `text/html` where",
    )
    .await;
    check(
        Reply::json(200, &error("engine died")),
        Code::UpstreamFailed,
        "reported an error instead",
    )
    .await;
    check(
        Reply::json(200, &json!({ "object": "error", "message": "x" })),
        Code::UpstreamFailed,
        "reported an error",
    )
    .await;
    for (reply, words) in [
        (Reply::whole(200, "application/json", "<html>"), "no chat completion"),
        (Reply::whole(200, "application/json", ""), "no chat completion"),
        (
            Reply::whole(200, "application/json", b"{\"choices\":[\"\xff\"]}".to_vec()),
            "no chat completion",
        ),
        (Reply::json(200, &json!({ "text": "hi" })), "no chat completion"),
        (
            Reply::events().piece("data: [DONE]\n\n"),
            "answered with `text/event-stream` where",
        ),
    ] {
        let failure = told(reply, &chat()).await;
        assert_eq!(failure.code, Code::UpstreamFailed);
        assert!(failure.message.contains(words), "{}", failure.message);
    }
    let failure = told(Reply::polite(&chat()), &streamed()).await;
    assert!(
        failure.message.contains("one document where a stream"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    for (reply, code) in [
        (
            Reply::begin(200, "application/json").piece("{\"choi").end(End::Cut),
            Code::UpstreamTruncated,
        ),
        (
            Reply::begin(200, "application/json").piece("{\"choi").end(End::Reset),
            Code::UpstreamTruncated,
        ),
        (
            Reply::begin(200, "application/json")
                .announcing(100)
                .piece("{\"choices\":[]}")
                .end(End::Cut),
            Code::UpstreamTruncated,
        ),
        (Reply::silent(End::Reset), Code::UpstreamFailed),
        (Reply::silent(End::Cut), Code::UpstreamFailed),
    ] {
        let failure = told(reply.clone(), &chat()).await;
        assert_eq!(failure.code, code, "{reply:?}: {}", failure.message);
    }
}

#[tokio::test]
async fn an_answer_has_a_largest_size() {
    let endless = Reply::begin(200, "application/json").end(End::Never(vec![b' '; 1 << 18].into()));
    let failure = told(endless, &chat()).await;
    assert_eq!(failure.code, Code::UpstreamTruncated);
    assert!(failure.message.contains("more than 16 MiB"), "{}", failure.message);
    let announced = Reply::begin(200, "application/json").announcing(1 << 30).gate();
    assert_eq!(told(announced, &chat()).await.code, Code::UpstreamTruncated);
    let mut long = String::from("data: {\"choices\":[\"");
    long.push_str(&"x".repeat(1 << 19));
    long.push_str("\"]}\n\n");
    for piece in [long, "x".repeat(1 << 18)] {
        let world = World::new().await;
        world.engine.will(Reply::events().end(End::Never(piece.into())));
        let answer = world.ask(&streamed()).await.unwrap();
        assert_eq!(drain(answer).await.1, Some(Code::UpstreamTruncated));
        world.engine.left(1).await;
        assert_eq!(world.event().await.outcome, failed(Code::UpstreamTruncated));
    }
}

/// The engine's time is real here, and the shortest that can be configured: a second.
async fn impatient(begin_s: u32, idle_s: u32, total_s: u32) -> World {
    World::with(|engine| {
        let timeouts = json!({ "begin_s": begin_s, "idle_s": idle_s, "total_s": total_s });
        json!({ "qwen": { "backends": [{ "url": engine }], "timeouts": timeouts } })
    })
    .await
}

#[tokio::test]
async fn an_engine_that_never_begins_is_given_up() {
    for body in [chat(), streamed()] {
        let world = impatient(1, 60, 60).await;
        world.engine.will(Reply::json(200, &json!({})).hold_head());
        let failure = world.ask(&body).await.err().unwrap();
        assert_eq!(failure.code, Code::UpstreamTimedOut);
        assert!(failure.hint.unwrap().contains("models.qwen.timeouts.begin_s"));
        world.engine.left(1).await;
        assert_eq!(world.event().await.outcome, failed(Code::UpstreamTimedOut));
    }
}

#[tokio::test]
async fn an_engine_that_falls_silent_is_given_up() {
    let world = impatient(60, 1, 60).await;
    world.engine.will(Reply::events().piece("data: {}\n\n").gate());
    let (text, code) = world.read(&streamed()).await;
    assert_eq!((text.as_str(), code), ("data: {}\n\n", Some(Code::UpstreamTimedOut)));
    world
        .engine
        .will(Reply::begin(200, "application/json").piece("{").gate());
    let failure = world.ask(&chat()).await.err().unwrap();
    assert!(failure.hint.unwrap().contains("models.qwen.timeouts.idle_s"));
    world.engine.left(2).await;
}

#[tokio::test]
async fn an_engine_that_never_ends_is_given_up() {
    let world = impatient(60, 60, 1).await;
    world
        .engine
        .will(Reply::begin(200, "application/json").piece("{").gate());
    let failure = world.ask(&chat()).await.err().unwrap();
    assert_eq!(failure.code, Code::UpstreamTimedOut);
    assert!(failure.hint.unwrap().contains("models.qwen.timeouts.total_s"));
    world.engine.will(Reply::events().piece(": still here\n\n").gate());
    assert_eq!(world.read(&streamed()).await.1, Some(Code::UpstreamTimedOut));
    world.engine.left(2).await;
}

/// Asks for what an engine may have nothing of.
async fn embed(world: &World) -> Result<String, Failure> {
    let request = ModelRequest {
        endpoint: Endpoint::Embeddings,
        model: "qwen".to_owned(),
        body: json!({ "model": "qwen", "input": "Why?" }).to_string().into(),
        hints: Hints::default(),
    };
    let answer = world.send(&user(), request).await?;
    Ok(drain(answer).await.0)
}

#[tokio::test]
async fn an_engine_that_has_nothing_of_the_kind_stays_in_use_for_the_rest() {
    for status in [501, 404, 405] {
        let world = World::still(|engine| json!({ "qwen": { "backends": [{ "url": engine }] } })).await;
        for _ in 0..5 {
            world.engine.will(Reply::json(status, &error("no")));
            let failure = embed(&world).await.unwrap_err();
            assert_eq!(
                failure.code,
                Code::InvalidRequest,
                "clients repeat what failed upstream"
            );
            assert!(
                failure.message.starts_with("The model `qwen` makes no embeddings"),
                "{failure}"
            );
            assert_eq!(failure.details.unwrap()["status"], status);
        }
        assert_eq!(world.engine.seen().len(), 5, "each was asked once");
        assert_eq!(world.state(0), ("up", 0), "{status}");
        assert_eq!(world.read(&chat()).await.1, None);

        let second = Engine::start().await;
        let world = World::still(|engine| {
            let backends = json!([{ "url": engine, "weight": 1000 }, { "url": second.url() }]);
            json!({ "qwen": { "backends": backends, "affinity": false } })
        })
        .await;
        world.engine.will(Reply::json(status, &error("no")));
        second.will(Reply::whole(
            200,
            "application/json",
            r#"{"data":[{"embedding":[0.5]}]}"#,
        ));
        assert!(embed(&world).await.unwrap().contains("0.5"), "another one may have it");
        assert_eq!((world.engine.seen().len(), world.state(0)), (1, ("up", 0)));
    }
    let world = World::still(|engine| json!({ "qwen": { "backends": [{ "url": engine }] } })).await;
    for _ in 0..5 {
        world.engine.will(Reply::json(501, &error("no")));
        let failure = world.ask(&chat()).await.err().unwrap();
        assert_eq!(failure.code, Code::InvalidRequest, "{failure}");
    }
    assert_eq!(world.state(0), ("up", 0));
}
