//! A server behind the gateway whose tools do what a test of the front needs to see.

use crate::support::Gate;
use forebay_domain::{Code, Failure, Principal, port::BoxFuture};
use forebay_mcp::{
    CallContext, Outcome,
    call::{Complete, LogLevel, RpcError, Step},
    source::{Hints, Naming, Offer, ParamHeader, Prompt, Source, Template, Tool, Wanted, Watched},
};
use serde_json::{Value, json, value::RawValue};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

pub(crate) const NAME: &str = "actor";

/// A server of the name `actor`, whose tools are bare.
pub(crate) struct Actor {
    offer: Arc<Offer>,
    /// Who watches what, in the order in which it was asked.
    pub(crate) watched: Mutex<Vec<(String, Watched)>>,
    /// The calls of `wait` end once each has a permit.
    pub(crate) release: Arc<Semaphore>,
    /// How often `write` was begun.
    pub(crate) written: AtomicUsize,
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn complete(result: &Value) -> Outcome {
    Outcome::Complete(Complete {
        raw: raw(result),
        is_error: false,
        failed: None,
    })
}

fn text(text: &str) -> Outcome {
    complete(&json!({"content": [{"type": "text", "text": text}]}))
}

fn form(message: &str) -> Value {
    json!({"message": message, "requestedSchema": {"type": "object", "properties": {}}})
}

const TOOLS: [&str; 12] = [
    "ask",
    "ask_two",
    "ask_wait",
    "input",
    "input_first",
    "loud",
    "marked",
    "polling",
    "refuse",
    "routed",
    "wait",
    "write",
];

impl Actor {
    pub(crate) fn new() -> Arc<Self> {
        let tool = |name: &&str| {
            let headers = vec![ParamHeader {
                header: "Region".to_owned(),
                pointer: "/region".to_owned(),
            }];
            Arc::new(Tool {
                name: (*name).to_owned(),
                raw: raw(&match *name {
                    "routed" => json!({"name": name, "inputSchema": {"type": "object", "properties": {
                        "region": {"type": "string", "x-mcp-header": "Region"}}}}),
                    "input_first" => json!({"name": name, "inputSchema": {"type": "object"},
                        "execution": {"taskSupport": "optional"}, "_meta": {"io.forebay/asks-first": true}}),
                    _ => json!({"name": name, "inputSchema": {"type": "object"}}),
                }),
                hints: Hints {
                    read_only: *name != "write",
                    destructive: false,
                    idempotent: *name != "write",
                    open_world: false,
                },
                headers: if *name == "routed" { headers } else { Vec::new() },
                time_limit: Duration::from_secs(30),
            })
        };
        let prompt = Prompt {
            name: "greet".to_owned(),
            raw: raw(&json!({"name": "greet"})),
        };
        let template = Template {
            template: "actor://{id}".to_owned(),
            raw: raw(&json!({"uriTemplate": "actor://{id}", "name": "things"})),
        };
        Arc::new(Self {
            offer: Arc::new(Offer {
                tools: TOOLS.iter().map(tool).collect(),
                prompts: vec![Arc::new(prompt)],
                templates: vec![Arc::new(template)],
                completes: true,
                watches: true,
                instructions: Some("Act.".to_owned()),
                ..Offer::default()
            }),
            watched: Mutex::default(),
            release: Arc::new(Semaphore::new(0)),
            written: AtomicUsize::new(0),
        })
    }

    /// Joins the catalogue of a gate.
    pub(crate) fn join(gate: &Gate) -> Arc<Self> {
        let actor = Self::new();
        gate.catalogue.join(actor.clone());
        actor
    }

    /// The same, and lets the news of it reach those who listen by now, so that nobody hears of it later.
    pub(crate) async fn settle(gate: &Gate) -> Arc<Self> {
        let actor = Self::join(gate);
        // There is one thread, and whoever is ready runs before this goes on.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        actor
    }

    async fn call(&self, name: &str, params: Option<&RawValue>, context: CallContext) -> Result<Outcome, Failure> {
        let client = &context.client;
        match name {
            "ask" => {
                let answer = client.ask("elicitation/create", Some(raw(&form("Name?")))).await?;
                Ok(text(answer.get()))
            }
            "ask_two" => {
                let (first, second) = tokio::join!(
                    client.ask("elicitation/create", Some(raw(&form("One?")))),
                    client.ask("roots/list", None)
                );
                Ok(text(&format!("{} {}", first?.get(), second?.get())))
            }
            "ask_wait" => {
                client.ask("elicitation/create", Some(raw(&form("Go on?")))).await?;
                self.released().await;
                Ok(text("waited"))
            }
            "input" | "input_first" => Ok(input(&context)),
            "loud" => {
                for level in [LogLevel::Debug, LogLevel::Info, LogLevel::Error] {
                    client.log(level, "actor", &json!(level.as_str()));
                }
                client.report(Step {
                    progress: 1.0,
                    total: Some(2.0),
                    message: None,
                });
                Ok(text("said"))
            }
            "marked" => Ok(complete(&json!({
                "content": [], "resultType": "complete", "x-more": {"kept": 1.0}, "_meta": {"own": true}
            }))),
            "polling" => {
                client.hang_up();
                self.released().await;
                Ok(text("later"))
            }
            "refuse" => Ok(Outcome::Refused(RpcError {
                code: -31999,
                message: "Mine.".to_owned(),
                data: Some(raw(&json!({"x": [1.0]}))),
            })),
            "routed" => Ok(text(params.map_or("", RawValue::get))),
            "wait" => {
                self.released().await;
                Ok(text("waited"))
            }
            "write" => {
                self.written.fetch_add(1, Ordering::SeqCst);
                self.released().await;
                Ok(text("written"))
            }
            _ => Err(Failure::new(Code::UnknownTool, "No.")),
        }
    }

    async fn released(&self) {
        self.release.acquire().await.unwrap().forget();
    }
}

/// Asks for a name by way of its result, twice, and keeps what it knows in its state.
fn input(context: &CallContext) -> Outcome {
    let retry = context.retry.clone().unwrap_or_default();
    let answers = retry.input_responses.map(|answers| answers.get().to_owned());
    let round = |key: &str, state: &str| {
        let requests = json!({key: {"method": "elicitation/create", "params": form(key)}});
        let result =
            json!({"resultType": "input_required", "inputRequests": requests, "requestState": state, "x-own": 1.0});
        Outcome::InputRequired(raw(&result))
    };
    match (retry.request_state.as_deref(), answers) {
        (None, _) => round("first", "after first"),
        (Some("after first"), Some(answers)) => round("second", &answers),
        (Some(state), answers) => text(&format!("{state} {}", answers.unwrap_or_default())),
    }
}

impl Source for Actor {
    fn name(&self) -> &str {
        NAME
    }

    fn naming(&self) -> Naming {
        Naming::Bare
    }

    fn offer(&self) -> Arc<Offer> {
        self.offer.clone()
    }

    fn serve<'a>(
        &'a self,
        _principal: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            match wanted {
                Wanted::Tool { name, params, .. } => self.call(name, params, context).await,
                Wanted::Resource { uri, .. } => Ok(complete(&json!({"contents": [{"uri": uri, "text": "t"}]}))),
                Wanted::Prompt { name, params } => Ok(complete(&json!({
                    "messages": [], "description": name, "params": serde_json::from_str::<Value>(params.get()).unwrap()
                }))),
                Wanted::Completion { .. } => Ok(complete(&json!({"completion": {"values": ["a"]}}))),
            }
        })
    }

    fn watch<'a>(&'a self, uri: &'a str, watched: Watched) -> BoxFuture<'a, Result<(), Failure>> {
        self.watched.lock().unwrap().push((uri.to_owned(), watched));
        Box::pin(std::future::ready(Ok(())))
    }
}
