//! Tools with prices, over a real ledger.

use super::{Bench, context, got, raw};
use crate::support::principal;
use forebay_domain::{
    Code, Role,
    ledger::{BudgetRule, Enforcement, Payer, Scope, TxnKind, Window},
    money::Usd,
    port::CallTool,
    tool::{CallCost, ToolCall},
};
use forebay_mcp::{CallContext, Outcome, PricesConfig};
use forebay_store::ledger::{Transaction, TransactionQuery};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

async fn priced(limit: Option<&str>) -> Bench {
    let bench = Bench::open().await;
    let prices = json!({ "tools": { "lab__echo": 0.005, "lab__fail": 0.01, "lab__wait": 0.02, "lab__ask": 1,
        "lab__input": 1, "lab__refuse": 0.5, "calculator": 0.001 } });
    let prices: PricesConfig = serde_json::from_value(prices).unwrap();
    bench.gate.catalogue.set_prices(&prices).unwrap();
    if let Some(limit) = limit {
        bench.gate.store.ledger().configure(vec![BudgetRule {
            scope: Scope::Key,
            of: None,
            window: Window::new(60, limit.parse().unwrap(), Enforcement::Hard).unwrap(),
        }]);
    }
    bench
}

#[tokio::test]
async fn a_price_for_what_is_not_there_is_told() {
    let bench = Bench::open().await;
    let prices = json!({ "tools": { "abacus": 0.1, "calculator": 0.1, "elsewhere__look": 1, "lab__echo": 1,
        "lab__ecko": 1 } });
    let prices: PricesConfig = serde_json::from_value(prices).unwrap();
    assert_eq!(bench.gate.catalogue.priced_in_vain(&prices), ["abacus", "lab__ecko"]);
}

/// Waits for so many movements, and gives them, oldest first.
async fn movements(bench: &Bench, count: usize) -> Vec<Transaction> {
    let query = TransactionQuery::of(bench.user.tenant.clone());
    let ledger = bench.gate.store.ledger();
    let wait = async {
        loop {
            let page = ledger.transactions(&query).await.unwrap();
            if page.transactions.len() >= count {
                return page.transactions;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut found = tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it is written down in time");
    found.reverse();
    found
}

fn told(movements: &[Transaction]) -> Vec<(TxnKind, String, i64)> {
    let told = |one: &Transaction| (one.kind, one.purpose.to_string(), one.posted.micros());
    movements.iter().map(told).collect()
}

async fn posted(bench: &Bench) -> Usd {
    let payer = Payer::from(&bench.user);
    let wait = async {
        loop {
            let standing = bench.gate.store.ledger().standings(&payer).await.unwrap().remove(0);
            if standing.held == Usd::ZERO {
                return standing.posted;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("every hold ends in time")
}

#[tokio::test]
async fn a_priced_call_holds_and_settles_and_one_too_many_does_not_run() {
    let bench = priced(Some("0.012")).await;
    let arguments = json!({ "a": 1 });
    for _ in 0..2 {
        bench
            .call_in(&bench.user, "lab__echo", &arguments, context())
            .await
            .unwrap();
    }
    let refused = bench.refusal("lab__echo", &arguments).await;
    assert_eq!(refused.code, Code::SpendingLimitExceeded, "{refused}");
    assert_eq!(posted(&bench).await, "0.01".parse().unwrap());
    let echo = || "tool lab__echo".to_owned();
    let mut expected = vec![(TxnKind::Hold, echo(), 0), (TxnKind::Settle, echo(), 5_000)];
    expected.extend(expected.clone());
    let mut found = told(&movements(&bench, 4).await);
    found.sort_by_key(|(_, _, posted)| *posted);
    expected.sort_by_key(|(_, _, posted)| *posted);
    assert_eq!(found, expected);
    bench
        .call_in(&bench.user, "lab__text", &json!({}), context())
        .await
        .expect("what has no price is free");
}

#[tokio::test]
async fn without_a_budget_a_priced_call_is_posted() {
    let bench = priced(None).await;
    let arguments = json!({ "expression": "6*7" });
    let called = bench.call_in(&bench.user, "calculator", &arguments, context());
    called.await.unwrap();
    let expected = (TxnKind::Post, "tool calculator".to_owned(), 1_000);
    assert_eq!(told(&movements(&bench, 1).await), [expected]);
}

#[tokio::test]
async fn what_fails_by_itself_has_run_and_what_is_refused_has_not() {
    let bench = priced(Some("100")).await;
    for (tool, arguments, expected) in [
        ("lab__fail", json!({}), 10_000),
        ("lab__refuse", json!({}), 510_000),
        ("calculator", json!({ "expression": 7 }), 510_000),
        ("calculator", json!({ "expression": "6*" }), 511_000),
        ("lab__ask", json!({}), 511_000),
        ("lab__input", json!({}), 511_000),
    ] {
        let _ = bench.call_in(&bench.user, tool, &arguments, context()).await;
        assert_eq!(posted(&bench).await.micros(), expected, "{tool} {arguments}");
    }
    let viewer = principal(Role::Viewer);
    assert_eq!(
        bench
            .call_in(&viewer, "lab__echo", &json!({}), context())
            .await
            .unwrap_err()
            .code,
        Code::Forbidden
    );
    assert_eq!(posted(&bench).await.micros(), 511_000);
}

#[tokio::test]
async fn a_call_that_is_dropped_or_taken_back_is_paid() {
    let bench = priced(Some("100")).await;
    let nothing = json!({});
    let mut dropped = Box::pin(bench.call_in(&bench.user, "lab__wait", &nothing, context()));
    let mut waiting = bench.lab.waiting.subscribe();
    tokio::select! {
        _ = &mut dropped => panic!("it waits"),
        there = waiting.wait_for(|waiting| waiting.now == 1) => drop(there.unwrap()),
    }
    drop(dropped);
    assert_eq!(posted(&bench).await.micros(), 20_000);
    let cancel = CancellationToken::new();
    let taken_back = CallContext {
        cancel: cancel.clone(),
        ..context()
    };
    cancel.cancel();
    let outcome = bench.call_in(&bench.user, "lab__wait", &nothing, taken_back).await;
    assert!(matches!(outcome, Ok(Outcome::Cancelled)));
    assert_eq!(posted(&bench).await.micros(), 40_000, "it may have begun");
}

#[tokio::test]
async fn each_call_of_a_batch_and_of_a_chain_pays_for_itself() {
    let bench = priced(Some("0.012")).await;
    let call = json!({ "tool": "lab__echo" });
    let batch = json!({ "calls": [call, call, call], "concurrency": 1 });
    let answer = bench.call("call_batch", &batch).await;
    assert_eq!(
        (&answer.told["succeeded"], &answer.told["failed"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(answer.told["results"][2]["error"]["code"], "SPENDING_LIMIT_EXCEEDED");
    assert_eq!(posted(&bench).await.micros(), 10_000);
    let chain = json!({ "steps": [{ "tool": "calculator", "arguments": { "expression": "1" } },
        { "tool": "calculator", "arguments": { "expression": "2" } }] });
    let outcome = bench.call_in(&bench.user, "call_chain", &chain, context()).await;
    assert!(!got(outcome).is_error);
    assert_eq!(posted(&bench).await.micros(), 12_000);
}

#[tokio::test]
async fn fifty_at_once_get_three_where_there_is_room_for_three() {
    let bench = priced(Some("0.06")).await;
    let nothing = json!({});
    let calls = (0..50).map(|_| bench.call_in(&bench.user, "lab__wait", &nothing, context()));
    let mut waiting = bench.lab.waiting.subscribe();
    let let_go = async {
        waiting.wait_for(|waiting| waiting.now == 3).await.unwrap();
        bench.lab.go.add_permits(50);
    };
    let all = async { tokio::join!(futures_util::future::join_all(calls), let_go).0 };
    let all = tokio::time::timeout(PATIENCE, all).await.unwrap();
    let codes: Vec<Code> = all
        .into_iter()
        .filter_map(Result::err)
        .map(|failure| failure.code)
        .collect();
    // Whoever came after one had ended found its price posted.
    assert_eq!(codes, vec![Code::SpendingLimitExceeded; 47]);
    assert_eq!(posted(&bench).await.micros(), 60_000);
    assert_eq!(bench.lab.waiting.borrow().peak, 3);
}

/// The way by which turns call tools.
#[tokio::test]
async fn whoever_calls_for_a_turn_is_told_what_it_cost() {
    let bench = priced(None).await;
    let port: &dyn CallTool = &bench.gate.catalogue;
    let cost_of = async |tool: &str, arguments: Value| {
        let (cost, arguments) = (Arc::new(CallCost::default()), raw(&arguments.to_string()));
        let call = ToolCall {
            tool,
            arguments: &arguments,
            patience: Some(Duration::from_millis(50)),
            cost: Some(&cost),
        };
        let _ = port.call(&bench.user, call, context().via).await;
        cost.usd().micros()
    };
    assert_eq!(cost_of("lab__echo", json!({})).await, 5_000);
    assert_eq!(cost_of("lab__fail", json!({})).await, 10_000);
    assert_eq!(cost_of("lab__wait", json!({})).await, 20_000, "its time was over");
    assert_eq!(cost_of("lab__text", json!({})).await, 0);
    assert_eq!(cost_of("calculator", json!({})).await, 0, "refused before it ran");
}
