//! A server with tools that do what a test needs to see.

use forebay_domain::{Code, Failure, Principal, port::BoxFuture};
use forebay_mcp::{
    CallContext, Outcome,
    call::{Complete, RpcError, Step},
    source::{Hints, Naming, Offer, Source, Tool, Wanted},
};
use serde_json::{Value, json, value::RawValue};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, watch};

pub(super) struct Lab {
    name: &'static str,
    offer: Arc<Offer>,
    /// How many calls of `wait` are there now, and how many there ever were at once.
    pub(super) waiting: watch::Sender<Waiting>,
    /// Each permit lets one `wait` go.
    pub(super) go: Semaphore,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) now: usize,
    pub(super) peak: usize,
}

/// A call of `wait` that is there.
struct Present<'a>(&'a watch::Sender<Waiting>);

impl<'a> Present<'a> {
    fn enter(waiting: &'a watch::Sender<Waiting>) -> Self {
        waiting.send_modify(|waiting| {
            waiting.now += 1;
            waiting.peak = waiting.peak.max(waiting.now);
        });
        Self(waiting)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| waiting.now -= 1);
    }
}

/// What every tool of the lab is by default: it reads.
pub(super) const READS: Hints = Hints {
    read_only: true,
    destructive: false,
    idempotent: true,
    open_world: false,
};

pub(super) fn tool(definition: &Value, hints: Hints) -> Arc<Tool> {
    Arc::new(Tool {
        name: definition["name"].as_str().unwrap().to_owned(),
        raw: serde_json::value::to_raw_value(definition).unwrap(),
        hints,
        headers: Vec::new(),
        time_limit: Duration::from_hours(1),
    })
}

impl Lab {
    pub(super) fn new(name: &'static str) -> Self {
        let plain = [
            "echo", "odd", "wait", "fail", "refuse", "input", "ask", "big", "slow", "text",
        ];
        let mut tools: Vec<_> = plain
            .iter()
            .map(|name| tool(&json!({"name": name, "inputSchema": {"type": "object"}}), READS))
            .collect();
        let destructive = Hints {
            read_only: false,
            destructive: true,
            ..READS
        };
        tools.push(tool(
            &json!({"name": "erase", "inputSchema": {"type": "object"}}),
            destructive,
        ));
        Self::with(name, tools)
    }

    pub(super) fn with(name: &'static str, tools: Vec<Arc<Tool>>) -> Self {
        Self {
            name,
            offer: Arc::new(Offer {
                tools,
                ..Offer::default()
            }),
            waiting: watch::Sender::default(),
            go: Semaphore::new(0),
        }
    }

    async fn run(&self, name: &str, arguments: &RawValue, context: CallContext) -> Result<Outcome, Failure> {
        let wanted: Value = serde_json::from_str(arguments.get()).unwrap();
        let result = match name {
            "echo" | "erase" => {
                return Ok(done(format!(
                    r#"{{"content":[],"structuredContent":{{"got":{}}}}}"#,
                    arguments.get()
                )));
            }
            // Written as no serializer would, with a member that nobody knows.
            "odd" => {
                return Ok(done(
                    r#"{ "content":[], "x-odd" : 1.50 , "structuredContent":{"n": 1e2}}"#.to_owned(),
                ));
            }
            "wait" => {
                let _present = Present::enter(&self.waiting);
                self.go.acquire().await.unwrap().forget();
                json!({"content": []})
            }
            "fail" => {
                return Ok(Outcome::Complete(Complete {
                    raw: crate::compose::raw(r#"{"content":[{"type":"text","text":"no luck"}],"isError":true}"#),
                    is_error: true,
                    failed: None,
                }));
            }
            "refuse" => {
                return Ok(Outcome::Refused(RpcError {
                    code: -32042,
                    message: "not today".to_owned(),
                    data: Some(crate::compose::raw(r#"{"until":"tomorrow"}"#)),
                }));
            }
            "input" => return Ok(Outcome::InputRequired(crate::compose::raw("{}"))),
            "ask" => {
                let params = crate::compose::raw(r#"{"message":"Which?"}"#);
                let answer = context.client.ask("elicitation/create", Some(params)).await?;
                return Ok(done(format!(r#"{{"content":[],"structuredContent":{answer}}}"#)));
            }
            "big" => {
                let bytes = usize::try_from(wanted["bytes"].as_u64().unwrap()).unwrap();
                json!({"content": [{"type": "text", "text": "x".repeat(bytes)}]})
            }
            "slow" => {
                for done in [1.0, 2.0] {
                    context.client.report(Step {
                        progress: done,
                        total: Some(4.0),
                        message: Some(format!("part {done}")),
                    });
                }
                context
                    .client
                    .log(forebay_mcp::call::LogLevel::Info, "lab", &json!("hello"));
                json!({"content": []})
            }
            _ => json!({"content": [{"type": "text", "text": "one"}, {"type": "text", "text": "\"two\""}]}),
        };
        Ok(done(result.to_string()))
    }
}

fn done(raw: String) -> Outcome {
    Outcome::Complete(Complete {
        raw: RawValue::from_string(raw).unwrap(),
        is_error: false,
        failed: None,
    })
}

impl Source for Lab {
    fn name(&self) -> &str {
        self.name
    }

    fn naming(&self) -> Naming {
        Naming::Prefixed
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
                Wanted::Tool { name, arguments, .. } => self.run(name, arguments, context).await,
                other => Err(Failure::new(
                    Code::UnknownMethod,
                    format!("only tools are here, no {other:?}"),
                )),
            }
        })
    }
}
