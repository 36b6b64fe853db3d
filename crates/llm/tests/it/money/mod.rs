//! What asking models costs, over a real ledger: held before anything is sent, settled at what the engine says.

mod cuts;
mod dialects;
mod turns;

use crate::world::{PATIENCE, World, chat, drain, principal, streamed, user};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure, Role,
    ledger::{BudgetRule, Enforcement, Payer, Scope, TxnKind, Window},
    model::{Answer, Endpoint, Hints, ModelRequest},
    money::Usd,
};
use forebay_store::ledger::{Transaction, TransactionQuery};
use forebay_testkit::openai::{COMPLETION_TOKENS, PROMPT_TOKENS, Reply, absent_url};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};

/// A tenth of a cent a token of input, two tenths a token of output.
fn price() -> Value {
    json!({ "input": 1_000, "output": 2_000 })
}

/// What the polite engine's answer comes to at that price.
const POLITE: Usd = Usd::from_micros(((PROMPT_TOKENS + 2 * COMPLETION_TOKENS) * 1_000).cast_signed());

async fn priced() -> World {
    World::with(|engine| json!({ "qwen": { "backends": [{ "url": engine }], "price": price() } })).await
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn payer() -> Payer {
    Payer::from(&user())
}

fn limit(world: &World, amount: &str) {
    world.ledger.configure(vec![BudgetRule {
        scope: Scope::Tenant,
        of: None,
        window: Window::new(60, usd(amount), Enforcement::Hard).unwrap(),
    }]);
}

/// What is held and what is posted.
async fn stands(world: &World) -> (Usd, Usd) {
    let standings = world.ledger.standings(&payer()).await.unwrap();
    (standings[0].held, standings[0].posted)
}

/// Waits until nothing is held, and gives what is posted.
async fn settled(world: &World) -> Usd {
    let wait = async {
        loop {
            let (held, posted) = stands(world).await;
            if held == Usd::ZERO {
                return posted;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("every hold ends in time")
}

/// Waits for so many movements, and gives them, oldest first.
async fn movements(world: &World, count: usize) -> Vec<Transaction> {
    let query = TransactionQuery::of(user().tenant);
    let wait = async {
        loop {
            let page = world.ledger.transactions(&query).await.unwrap();
            if page.transactions.len() >= count {
                return page.transactions;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, wait).await;
    let mut found = found.expect("what moves is written down in time");
    found.reverse();
    found
}

fn kinds(movements: &[Transaction]) -> Vec<TxnKind> {
    movements.iter().map(|movement| movement.kind).collect()
}

fn short(mut body: Value) -> Value {
    body["max_tokens"] = 10.into();
    body
}

async fn ask(world: &World, endpoint: Endpoint, body: &Value) -> Result<Answer, Failure> {
    let request = ModelRequest {
        endpoint,
        model: "qwen".to_owned(),
        body: Bytes::from(body.to_string()),
        hints: Hints::default(),
    };
    world.send(&user(), request).await
}

#[tokio::test]
async fn what_is_too_much_is_refused_before_anything_is_sent() {
    let world = priced().await;
    limit(&world, "0.10");
    for body in [short(chat()), short(streamed())] {
        let refused = world.ask(&body).await.err().unwrap();
        assert_eq!(refused.code, Code::SpendingLimitExceeded, "{refused}");
        let details = refused.details.unwrap();
        assert_eq!(details["window_minutes"], 60, "{details}");
    }
    assert!(world.engine.seen().is_empty());
    assert_eq!(stands(&world).await, (Usd::ZERO, Usd::ZERO));
    assert_eq!(world.events(2).await[0].action, "model:qwen");
}

#[tokio::test]
async fn an_answer_costs_what_its_engine_says() {
    let world = priced().await;
    limit(&world, "100");
    for (body, count) in [(short(chat()), 1), (short(streamed()), 2)] {
        let (text, code) = world.read(&body).await;
        assert_eq!(code, None, "{text}");
        let total: Usd = std::iter::repeat_n(POLITE, count).sum();
        assert_eq!(settled(&world).await, total);
    }
    let movements = movements(&world, 4).await;
    let (hold, settle) = (&movements[0], &movements[1]);
    assert_eq!(
        kinds(&movements),
        [TxnKind::Hold, TxnKind::Settle, TxnKind::Hold, TxnKind::Settle]
    );
    assert!(hold.held > POLITE, "an upper bound: {hold:?}");
    assert_eq!(
        (settle.posted, settle.estimated, settle.above_hold),
        (POLITE, false, false)
    );
    assert_eq!(
        (settle.purpose.to_string(), settle.trace),
        ("model qwen".to_owned(), crate::world::trace())
    );
}

#[tokio::test]
async fn the_hold_is_there_before_the_first_byte_goes_out() {
    let world = priced().await;
    limit(&world, "100");
    world.engine.will(Reply::polite(&chat()).hold_head());
    let body = short(chat());
    let mut answer = Box::pin(world.ask(&body));
    tokio::select! {
        _ = &mut answer => panic!("the engine waits"),
        () = world.engine.asked(1) => {}
    }
    let (held, posted) = stands(&world).await;
    assert!(held > POLITE && posted == Usd::ZERO, "{held}");
    world.engine.open_gate();
    drain(answer.await.unwrap()).await;
    assert_eq!(settled(&world).await, POLITE);
}

#[tokio::test]
async fn a_hundred_at_once_get_ten_where_there_is_room_for_ten() {
    let price = json!({ "input": 0, "output": 0, "per_request": 1 });
    let world = World::with(|engine| json!({ "qwen": { "backends": [{ "url": engine }], "price": price } })).await;
    limit(&world, "10");
    for _ in 0..10 {
        world.engine.will(Reply::polite(&chat()).hold_head());
    }
    let body = chat();
    let mut asking: FuturesUnordered<_> = (0..100).map(|_| world.ask(&body)).collect();
    let mut refused = 0;
    while refused < 90 {
        let failure = asking
            .next()
            .await
            .unwrap()
            .err()
            .expect("whoever is let in waits for the engine");
        assert_eq!(failure.code, Code::SpendingLimitExceeded);
        refused += 1;
    }
    assert!(asking.next().now_or_never().is_none(), "ten are at the engine");
    tokio::select! {
        _ = asking.next() => panic!("they wait for the engine"),
        () = world.engine.asked(10) => {}
    }
    assert_eq!((stands(&world).await.0, world.engine.seen().len()), (usd("10"), 10));
    for _ in 0..10 {
        world.engine.open_gate();
    }
    let mut answered = 0;
    while let Some(answer) = asking.next().await {
        drain(answer.unwrap()).await;
        answered += 1;
    }
    assert_eq!((answered, settled(&world).await), (10, usd("10")));
    assert_eq!(world.ask(&body).await.err().unwrap().code, Code::SpendingLimitExceeded);
    assert_eq!(world.engine.seen().len(), 10);
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_only_where_a_budget_counts() {
    let world = World::new().await;
    let (_, code) = world.read(&chat()).await;
    assert_eq!(code, None);
    limit(&world, "100");
    let refused = world.ask(&chat()).await.err().unwrap();
    assert_eq!(refused.code, Code::UnpricedModel);
    assert!(refused.hint.unwrap().contains("models.qwen.price"));
    assert_eq!((world.engine.seen().len(), settled(&world).await), (1, Usd::ZERO));
    // A budget of others counts for nobody else.
    let mut other = principal(Role::User, "");
    other.tenant = "other".parse().unwrap();
    world.ledger.configure(vec![BudgetRule {
        scope: Scope::Tenant,
        of: Some(forebay_domain::ledger::PurseName {
            tenant: "acme".parse().unwrap(),
            id: None,
        }),
        window: Window::new(60, usd("1"), Enforcement::Hard).unwrap(),
    }]);
    assert!(world.ask_as(&other, "qwen", &chat().to_string()).await.is_ok());
}

#[tokio::test]
async fn what_is_declared_free_passes_an_empty_budget() {
    let free = json!({ "input": 0, "output": 0 });
    let world = World::with(|engine| json!({ "qwen": { "backends": [{ "url": engine }], "price": free } })).await;
    limit(&world, "0");
    let (_, code) = world.read(&chat()).await;
    assert_eq!(code, None);
    assert!(
        world.engine.seen()[0].json().get("max_tokens").is_none(),
        "nothing needs a bound"
    );
    assert_eq!(movements(&world, 0).await.len(), 0);
}

#[tokio::test]
async fn without_any_budget_it_is_served_and_posted() {
    let world = priced().await;
    for body in [chat(), streamed()] {
        assert_eq!(world.read(&body).await.1, None);
    }
    let movements = movements(&world, 2).await;
    assert_eq!(kinds(&movements), [TxnKind::Post, TxnKind::Post]);
    assert!(
        movements
            .iter()
            .all(|movement| movement.posted == POLITE && !movement.estimated)
    );
    assert!(
        world.engine.seen()[0].json().get("max_tokens").is_none(),
        "no budget, no limit"
    );
}

#[tokio::test]
async fn what_was_refused_for_certain_costs_nothing() {
    let absent = absent_url().await;
    let gone = World::with(|_| json!({ "qwen": { "backends": [{ "url": absent }], "price": price() } })).await;
    limit(&gone, "100");
    assert_eq!(gone.ask(&short(chat())).await.err().unwrap().code, Code::UpstreamFailed);
    assert_eq!(settled(&gone).await, Usd::ZERO);
    assert_eq!(kinds(&movements(&gone, 2).await), [TxnKind::Hold, TxnKind::Void]);

    let world = priced().await;
    limit(&world, "100");
    for status in [400, 401, 429, 501, 503, 529] {
        world
            .engine
            .will(Reply::json(status, &json!({ "error": { "message": "no" } })));
        assert!(world.ask(&short(chat())).await.is_err());
    }
    assert_eq!(settled(&world).await, Usd::ZERO);
}

/// llama.cpp writes a whole answer, and then says 500 where it cannot read the calls in it.
#[tokio::test]
async fn an_error_after_which_work_may_have_been_done_costs_what_was_held() {
    for status in [200, 408, 500, 502, 504] {
        for body in [short(chat()), short(streamed())] {
            let world = priced().await;
            limit(&world, "100");
            world
                .engine
                .will(Reply::json(status, &json!({ "error": { "message": "no" } })));
            assert!(world.ask(&body).await.is_err());
            let posted = settled(&world).await;
            let movements = movements(&world, 2).await;
            assert_eq!((posted, movements[1].estimated), (movements[0].held, true), "{status}");
        }
    }
}

fn at_two(world: &World) {
    let url = world.engine.url();
    let config = json!({ "qwen": { "backends": [{ "url": url }, { "url": url }], "price": price() } });
    world.router.reconfigure(crate::world::settings(config));
}

#[tokio::test]
async fn an_attempt_that_was_lost_is_posted_beside_the_answer() {
    for (status, is_lost) in [(500, true), (503, false)] {
        let world = priced().await;
        at_two(&world);
        limit(&world, "100");
        world
            .engine
            .will(Reply::json(status, &json!({ "error": { "message": "no" } })));
        assert_eq!(world.read(&short(chat())).await.1, None);
        let posted = settled(&world).await;
        let movements = movements(&world, 2).await;
        let lost = if is_lost { movements[0].held } else { Usd::ZERO };
        assert_eq!(posted, lost.saturating_add(POLITE));
        assert_eq!((movements[1].estimated, movements[1].above_hold), (is_lost, is_lost));
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_asked_for_once() {
    let world = priced().await;
    at_two(&world);
    limit(&world, "100");
    world
        .engine
        .will(Reply::whole(200, "application/json", " ".repeat((16 << 20) + 1)));
    let failure = world.ask(&short(chat())).await.err().unwrap();
    assert_eq!((failure.code, world.engine.seen().len()), (Code::UpstreamTruncated, 1));
    let posted = settled(&world).await;
    assert_eq!(posted, movements(&world, 2).await[0].held);
}

#[tokio::test]
async fn a_limit_in_another_case_is_refused_where_a_budget_counts() {
    let world = priced().await;
    let mut body = short(chat());
    body["MAX_TOKENS"] = 100_000.into();
    assert_eq!(
        world.read(&body).await.1,
        None,
        "without a budget it is for the engine to say"
    );
    limit(&world, "100");
    let refused = world.ask(&body).await.err().unwrap();
    assert_eq!(refused.code, Code::InvalidRequest, "{refused}");
    assert_eq!(refused.details.unwrap()["param"], "MAX_TOKENS");
    let twice = r#"{"model":"qwen","messages":[],"max_tokens":9,"n":100,"n":1}"#;
    let refused = world.ask_as(&user(), "qwen", twice).await.err().unwrap();
    assert_eq!(refused.code, Code::InvalidRequest, "{refused}");
    assert_eq!(world.engine.seen().len(), 1);
}

#[tokio::test]
async fn the_dearest_that_may_answer_is_held_and_who_answers_is_paid() {
    let absent = absent_url().await;
    let world = World::with(|engine| {
        let dear = json!({ "input": 10_000, "output": 20_000 });
        json!({
            "qwen": { "backends": [{ "url": absent }], "fallbacks": ["unknown", "dear"], "price": price() },
            "dear": { "backends": [{ "url": engine, "model": "dear" }], "price": dear },
            "unknown": { "backends": [{ "url": engine, "model": "unknown" }] },
        })
    })
    .await;
    limit(&world, "100");
    assert_eq!(world.read(&short(chat())).await.1, None);
    let ten_times: Usd = std::iter::repeat_n(POLITE, 10).sum();
    assert_eq!(settled(&world).await, ten_times);
    let seen = world.engine.seen();
    assert_eq!(
        (seen.len(), &seen[0].json()["model"]),
        (1, &json!("dear")),
        "who has no price is not asked"
    );
    assert!(!movements(&world, 2).await[1].above_hold);
}

#[tokio::test]
async fn explained_are_the_price_and_whether_a_budget_counts() {
    let world = priced().await;
    let outcome = |world: &World| {
        let told = world.router.explain_route(&user(), "qwen", None).unwrap();
        told.steps[0].outcome.clone()
    };
    let costs = "backend 0 takes it; it costs $1000.00 in and $2000.00 out for a million tokens";
    assert_eq!(outcome(&world), format!("{costs}, and no budget counts"));
    limit(&world, "1");
    let held = "and a budget counts: what it may cost is held first";
    assert_eq!(outcome(&world), format!("{costs}, {held}"));
    let unpriced = World::new().await;
    assert_eq!(outcome(&unpriced), "backend 0 takes it");
    limit(&unpriced, "1");
    let refused = "backend 0 takes it; it has no price, and a budget counts, so that it is not asked";
    assert_eq!(outcome(&unpriced), refused);
}

#[tokio::test]
async fn more_than_was_held_is_posted_in_full_and_blocks_at_once() {
    let world = priced().await;
    limit(&world, "20");
    let usage = json!({ "prompt_tokens": 11, "completion_tokens": 9_995 });
    let choice = json!({ "index": 0, "message": { "role": "assistant", "content": "So." }, "finish_reason": "stop" });
    world
        .engine
        .will(Reply::json(200, &json!({ "choices": [choice], "usage": usage })));
    assert_eq!(world.read(&short(chat())).await.1, None);
    assert_eq!(settled(&world).await, usd("20.001"));
    assert!(movements(&world, 2).await[1].above_hold);
    assert_eq!(
        world.ask(&short(chat())).await.err().unwrap().code,
        Code::SpendingLimitExceeded
    );
}
