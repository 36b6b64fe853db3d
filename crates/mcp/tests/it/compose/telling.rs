//! What the client of the whole is told and asked on the way.

use super::{Bench, context, got, raw};
use forebay_domain::Failure;
use forebay_mcp::{
    CallContext, Client, Outcome,
    call::{ClientCaps, Emission, LogLevel, RpcError},
    era::Version,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

fn listening() -> (CallContext, mpsc::Receiver<Emission>) {
    let caps = Arc::new(ClientCaps::new(&raw(r#"{"elicitation":{}}"#)));
    let (mut client, said) = Client::listening(Version::V2025_11_25, caps);
    client.wants_progress = true;
    client.log_level = Some(LogLevel::Debug);
    (CallContext { client, ..context() }, said)
}

/// Calls, answers each question with its number, and returns what was said beside.
async fn call(bench: &Bench, tool: &str, arguments: &Value) -> (Result<Outcome, Failure>, Vec<Emission>) {
    let (context, mut emissions) = listening();
    let listen = async {
        let (mut said, mut asked) = (Vec::new(), 0);
        while let Some(emission) = emissions.recv().await {
            match emission {
                Emission::Question(question) => {
                    assert_eq!(question.method, "elicitation/create");
                    asked += 1;
                    question
                        .reply
                        .send(Ok(raw(&json!({"answer": asked}).to_string())))
                        .unwrap();
                }
                other => said.push(other),
            }
        }
        said
    };
    tokio::join!(bench.call_in(&bench.user, tool, arguments, context), listen)
}

#[tokio::test]
async fn progress_only_grows_and_each_call_counts_once() {
    let bench = Bench::open().await;
    let calls = json!([{"tool": "lab__slow"}, {"tool": "lab__fail"}, {"tool": "lab__slow"}]);
    for (tool, arguments, ended) in [
        ("call_batch", json!({"calls": calls, "concurrency": 1}), 3),
        ("call_batch", json!({"calls": calls}), 3),
        ("call_chain", json!({"steps": calls}), 2),
    ] {
        let (outcome, said) = call(&bench, tool, &arguments).await;
        got(outcome);
        let reports: Vec<Value> = said
            .iter()
            .filter_map(|emission| match emission {
                Emission::Progress(params) => Some(serde_json::from_str(params.get()).unwrap()),
                _ => None,
            })
            .collect();
        let values: Vec<f64> = reports
            .iter()
            .map(|report| report["progress"].as_f64().unwrap())
            .collect();
        assert!(values.is_sorted_by(|a, b| a < b), "{values:?}");
        assert!(reports.iter().all(|report| report["total"] == 3.0), "{reports:?}");
        let ends: Vec<_> = reports
            .iter()
            .filter(|report| !report["message"].as_str().unwrap().contains("part"))
            .collect();
        let counted: Vec<_> = ends.iter().map(|report| report["progress"].as_f64().unwrap()).collect();
        assert_eq!(counted, [1.0, 2.0, 3.0][..ended]);
        assert!(
            ends.iter().any(|report| report["message"] == "lab__slow: ok"),
            "{ends:?}"
        );
        assert!(
            ends.iter().any(|report| report["message"] == "lab__fail: failed"),
            "{ends:?}"
        );
        assert!(
            reports.iter().any(|report| report["message"] == "lab__slow: part 1"),
            "{reports:?}"
        );
    }
}

#[tokio::test]
async fn the_progress_of_the_only_call_is_the_progress() {
    let bench = Bench::open().await;
    let (_, said) = call(&bench, "call_chain", &json!({"steps": [{"tool": "lab__slow"}]})).await;
    let values: Vec<Value> = said
        .iter()
        .filter_map(|emission| match emission {
            Emission::Progress(params) => serde_json::from_str::<Value>(params.get()).ok(),
            _ => None,
        })
        .map(|report| report["progress"].clone())
        .collect();
    assert_eq!(values, [json!(0.25), json!(0.5), json!(1.0)]);
}

#[tokio::test]
async fn log_messages_arrive_as_they_are() {
    let bench = Bench::open().await;
    let (_, said) = call(&bench, "call_batch", &json!({"calls": [{"tool": "lab__slow"}]})).await;
    let logged = said.iter().any(|emission| match emission {
        Emission::Log(params) => params.get().contains("hello"),
        _ => false,
    });
    assert!(logged, "{said:?}");
}

#[tokio::test]
async fn questions_reach_the_client_and_answers_the_tool() {
    let bench = Bench::open().await;
    let calls = json!({"calls": [{"tool": "lab__ask"}, {"tool": "lab__ask"}]});
    let (outcome, _) = call(&bench, "call_batch", &calls).await;
    let got = got(outcome);
    let mut answers: Vec<_> = (0..2)
        .map(|index| got.told["results"][index]["result"]["structuredContent"]["answer"].as_u64())
        .collect();
    answers.sort();
    assert_eq!(answers, [Some(1), Some(2)], "{got:?}");
}

#[tokio::test]
async fn a_question_that_nobody_answers_is_the_failure_of_its_call() {
    let bench = Bench::open().await;
    for answer in [None, Some(Err::<_, RpcError>(refusal()))] {
        let (context, mut emissions) = listening();
        let calls = json!({"calls": [{"tool": "lab__ask"}, {"tool": "lab__echo"}]});
        let listen = async {
            let mut answer = answer;
            while let Some(emission) = emissions.recv().await {
                if let (Emission::Question(question), Some(answer)) = (emission, answer.take()) {
                    question.reply.send(answer).unwrap();
                }
            }
        };
        let (outcome, ()) = tokio::join!(bench.call_in(&bench.user, "call_batch", &calls, context), listen);
        let got = got(outcome);
        assert_eq!(got.told["results"][0]["error"]["code"], "CLIENT_SILENT");
        assert_eq!(got.told["results"][1]["ok"], true);
    }
}

fn refusal() -> RpcError {
    RpcError {
        code: -1,
        message: "no".to_owned(),
        data: None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_a_person_thinks_is_nobodys() {
    tokio::time::resume();
    let bench = Bench::open().await;
    tokio::time::pause();
    let (context, mut emissions) = listening();
    let front = context.client.clone();
    // Longer than the whole may take, and than the tool may.
    let think = async {
        let Some(Emission::Question(question)) = emissions.recv().await else {
            return;
        };
        let _thinking = front.thinking();
        tokio::time::sleep(Duration::from_hours(3)).await;
        question.reply.send(Ok(raw(r#"{"answer":1}"#))).unwrap();
    };
    let calls = json!({"calls": [{"tool": "lab__ask"}]});
    let (outcome, ()) = tokio::join!(bench.call_in(&bench.user, "call_batch", &calls, context), think);
    assert_eq!(got(outcome).told["succeeded"], 1);
}
