//! Turns: each hop holds for itself, and the answer tells what all of it came to.

use super::*;
use crate::shed::{Shed, answer, calls, named, streamed_calls};
use forebay_domain::port::CallTool;
use std::sync::Arc;

async fn turning(turns: Value) -> (World, Arc<Shed>) {
    let world = priced().await;
    let config = json!({ "qwen": { "backends": [{ "url": world.engine.url() }], "price": price() } });
    world.router.reconfigure(crate::world::settings_of(config, turns));
    let shed = Arc::<Shed>::default();
    world.router.introduce(shed.clone(), shed.clone());
    (world, shed)
}

fn times(count: usize) -> Usd {
    std::iter::repeat_n(POLITE, count).sum()
}

#[tokio::test]
async fn a_turn_of_three_hops_holds_three_times() {
    for stream in [false, true] {
        let (world, _) = turning(json!({})).await;
        limit(&world, "100");
        let mut body = short(named(&["look"]));
        body["stream"] = stream.into();
        for _ in 0..2 {
            let reply = if stream {
                streamed_calls("look")
            } else {
                calls(&[("look", "{}")])
            };
            world.engine.will(reply);
        }
        let (text, code) = world.read(&body).await;
        assert_eq!(code, None, "{text}");
        assert_eq!(settled(&world).await, times(3));
        let movements = movements(&world, 6).await;
        let count = |kind| movements.iter().filter(|movement| movement.kind == kind).count();
        assert_eq!((count(TxnKind::Hold), count(TxnKind::Settle)), (3, 3));
        assert!(
            text.contains(r#""cost":{"#) && text.contains(r#""usd":0.075"#),
            "{text}"
        );
        if !stream {
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["forebay"]["cost"], json!({ "usd": 0.075, "estimated": false }));
            assert_eq!(answer["forebay"]["tools"][0]["cost_usd"], 0.0);
        }
    }
}

#[tokio::test]
async fn a_hop_that_is_too_much_ends_the_turn_with_what_it_would_have_cost() {
    let (world, shed) = turning(json!({})).await;
    // Room for one hop, and not for the next one with the tool's result.
    limit(&world, "100");
    world.engine.will(Reply::json(200, &json!({
        "choices": [{ "index": 0, "finish_reason": "tool_calls", "message": { "role": "assistant", "content": null,
            "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "look", "arguments": "{}" } }] } }],
        "usage": { "prompt_tokens": 99_000, "completion_tokens": 400 },
    })));
    let (_, code) = world.read(&short(named(&["look"]))).await;
    assert_eq!(code, Some(Code::SpendingLimitExceeded));
    assert_eq!((shed.called().len(), world.engine.seen().len()), (1, 1));
    assert_eq!(settled(&world).await, usd("99.8"), "what was spent stays spent");
}

#[tokio::test]
async fn a_turn_ends_once_it_has_cost_enough() {
    let (world, shed) = turning(json!({ "cost_max_usd": 0.05 })).await;
    for _ in 0..5 {
        world.engine.will(calls(&[("look", "{}")]));
    }
    let answer = answer(&world, &named(&["look"])).await;
    assert_eq!(answer["forebay"]["ended"], "cost");
    // The second hop reached it: its call did not run, and the third was asked without tools.
    assert_eq!((shed.called().len(), world.engine.seen().len()), (1, 3));
    assert!(world.engine.seen()[2].json().get("tools").is_none());
    assert_eq!(answer["forebay"]["tools"][1]["status"], "refused");
    assert_eq!(answer["forebay"]["cost"]["usd"], 0.075);
}

#[tokio::test]
async fn a_cost_is_null_only_where_a_price_is_unknown() {
    let (world, _) = turning(json!({})).await;
    let told = answer(&world, &named(&["look"])).await;
    assert_eq!(
        told["forebay"]["cost"],
        json!({ "usd": 0.025, "estimated": false }),
        "without any budget too"
    );
    let config = |price: Value| {
        let mut config = json!({ "qwen": { "backends": [{ "url": world.engine.url() }] } });
        if !price.is_null() {
            config["qwen"]["price"] = price;
        }
        crate::world::settings(config)
    };
    world.router.reconfigure(config(Value::Null));
    assert_eq!(answer(&world, &named(&["look"])).await["forebay"]["cost"], Value::Null);
    world.router.reconfigure(config(json!({ "input": 0, "output": 0 })));
    let told = answer(&world, &named(&["look"])).await;
    assert_eq!(told["forebay"]["cost"], json!({ "usd": 0.0, "estimated": false }));
}

/// The trait is how a turn reaches priced tools; what they cost is tried with the catalogue itself.
#[tokio::test]
async fn what_a_tool_costs_is_in_the_answer_and_in_the_bound() {
    let (world, shed) = turning(json!({ "cost_max_usd": 0.5 })).await;
    assert!(shed.find(&user(), "dear").is_some());
    for _ in 0..5 {
        world.engine.will(calls(&[("dear", "{}")]));
    }
    let answer = answer(&world, &named(&["dear"])).await;
    assert_eq!(answer["forebay"]["tools"][0]["cost_usd"], 0.5);
    assert_eq!(answer["forebay"]["ended"], "cost");
    assert_eq!((shed.called().len(), world.engine.seen().len()), (1, 2));
    assert_eq!(answer["forebay"]["cost"]["usd"], 0.55);
}
