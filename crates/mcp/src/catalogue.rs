//! The catalogue: the one way to call a tool and to read a resource, whichever surface asks.
//!
//! In order: is there such a tool, may this caller use it, not too often, do the arguments fit, run it within its time,
//! is the result within its bound, write it down. Nothing runs before all of the first four have said yes.

use crate::{
    call::{CallContext, Complete, Outcome},
    ledger::{Counted, Ledger, Metrics},
    offer::{Offer, Offered},
    resource::{self, Resource, Target},
    rpc,
    tools::{self, Job},
};
use arc_swap::ArcSwap;
use forebay_domain::{
    Action, Code, ErrorKind, Failure, Principal,
    event::Outcome as Ending,
    port::{AskModel, Via},
};
use forebay_runtime::{Clock, rate::RateLimiter, telemetry::names};
use forebay_store::EventLog;
use serde_json::{Map, Value, value::RawValue};
use std::sync::Arc;
use tracing::{Instrument, field};

/// The largest result of a tool or a resource.
pub const RESULT_BYTES_MAX: usize = 4 << 20;

/// The method whose spans are opened here.
const CALL: &str = "tools/call";

/// Tells how the gateway is doing, as a JSON object. The server knows; the catalogue only shows it.
pub type StatusSource = Arc<dyn Fn() -> Map<String, Value> + Send + Sync>;

/// What a catalogue stands on.
pub struct CatalogueParts {
    pub clock: Clock,
    pub events: EventLog,
    pub metrics: Metrics,
    /// Calls per subject and tool.
    pub limits: Arc<RateLimiter>,
    pub models: Arc<dyn AskModel>,
    pub status: StatusSource,
    pub tools: tools::Config,
}

/// The one catalogue of a process.
#[derive(Clone)]
pub struct Catalogue(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    limits: Arc<RateLimiter>,
    models: Arc<dyn AskModel>,
    status: StatusSource,
    offer: ArcSwap<Offer>,
}

impl Catalogue {
    pub fn new(parts: CatalogueParts) -> Result<Self, Failure> {
        let ledger = Ledger {
            clock: parts.clock,
            events: parts.events,
            metrics: parts.metrics,
        };
        let offer = Offer::new(parts.tools, &ledger.clock, &parts.models, &parts.status)?;
        Ok(Self(Arc::new(Inner {
            ledger,
            limits: parts.limits,
            models: parts.models,
            status: parts.status,
            offer: ArcSwap::from_pointee(offer),
        })))
    }

    /// Puts another configuration in force, or leaves the old one where the new one cannot be used. True where
    /// something changed. Calls under way end under the configuration with which they began.
    pub fn reconfigure(&self, config: tools::Config) -> Result<bool, Failure> {
        if self.0.offer.load().config == config {
            return Ok(false);
        }
        let offer = Offer::new(config, &self.0.ledger.clock, &self.0.models, &self.0.status)?;
        self.0.offer.store(Arc::new(offer));
        Ok(true)
    }

    /// Calls a tool.
    pub async fn call(
        &self,
        principal: &Principal,
        tool: &str,
        arguments: &RawValue,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let span = tracing::info_span!(
            names::SPAN_TOOL,
            { names::OTEL_NAME } = CALL,
            { names::MCP_METHOD_NAME } = CALL,
            { names::GEN_AI_OPERATION_NAME } = names::SPAN_TOOL,
            { names::GEN_AI_TOOL_NAME } = field::Empty,
            { names::ERROR_TYPE } = field::Empty,
        );
        self.call_recorded(principal, tool, arguments, context)
            .instrument(span)
            .await
    }

    async fn call_recorded(
        &self,
        principal: &Principal,
        tool: &str,
        arguments: &RawValue,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let found = self.0.offer.load().tools.get(tool).cloned();
        let found = found.filter(|entry| entry.tool.is_offered_to(principal));
        let counted = found.as_ref().map_or(Counted::No, |entry| Counted::Tool(entry.name));
        // A name of no tool may be anything, a key in the wrong place for one: it is written nowhere.
        let action = Action::tool(found.as_ref().map_or("?", |entry| entry.name));
        let mut entry = self.0.ledger.open(principal, context.via, action.to_string(), counted);
        entry.bytes_in = arguments.get().len();
        let span = tracing::Span::current();
        let Some(found) = found else {
            entry.close(Ending::Failed(Code::UnknownTool), 0);
            return Err(unknown_tool());
        };
        span.record(names::GEN_AI_TOOL_NAME, found.name);
        span.record(names::OTEL_NAME, format_args!("{CALL} {}", found.name));
        entry.reason = Some(principal.decide(&Action::tool(found.name)).to_string());
        let result = match self.admit(principal, &found, arguments) {
            Ok(arguments) => run(principal, &found, arguments, context).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(failure) = &result {
            span.record(names::ERROR_TYPE, failure.code.as_str());
        }
        let (ending, bytes_out) = ending(&result);
        entry.close(ending, bytes_out);
        result.map(|ran| ran.outcome)
    }

    /// Everything that has to say yes before a tool runs.
    fn admit(&self, principal: &Principal, tool: &Offered, arguments: &RawValue) -> Result<Value, Failure> {
        principal.require(&Action::tool(tool.name))?;
        let key = format!("{}/{}/{}", principal.tenant, principal.subject, tool.name);
        let verdict = self.0.limits.check(&key);
        if !verdict.is_allowed() {
            let after = verdict.retry_after.unwrap_or(verdict.reset_after);
            let message = format!(
                "`{}` may be called {} times in its window, and that is used up.",
                tool.name, verdict.limit
            );
            return Err(Failure::new(Code::RateLimited, message)
                .hint("Wait, then call again.")
                .retry_after(after));
        }
        tool.validate(arguments)
    }

    /// The definitions that this caller may use, as the protocol writes them, in the order of their names.
    pub fn list_tools(&self, principal: &Principal) -> Result<Vec<Box<RawValue>>, Failure> {
        principal.require(&Action::TOOLS_LIST)?;
        let offer = self.0.offer.load();
        let usable = offer.tools.values().filter(|entry| {
            principal.decide(&Action::tool(entry.name)).is_allowed() && entry.tool.is_offered_to(principal)
        });
        Ok(usable.map(|entry| entry.raw.clone()).collect())
    }

    /// The resources that this caller may read, as the protocol writes them.
    pub fn list_resources(&self, principal: &Principal) -> Result<Vec<Value>, Failure> {
        principal.require(&Action::RESOURCES_READ)?;
        let readable = Resource::ALL
            .into_iter()
            .filter(|own| principal.decide(&own.action()).is_allowed());
        Ok(readable.map(Resource::definition).collect())
    }

    /// The templates of resources that this caller may read.
    pub fn list_templates(&self, principal: &Principal) -> Result<Vec<Value>, Failure> {
        principal.require(&Action::RESOURCES_READ)?;
        let files = self.0.offer.load().files.is_some() && principal.decide(&file_action()).is_allowed();
        Ok(if files {
            vec![resource::file_template()]
        } else {
            Vec::new()
        })
    }

    /// Reads a resource: one element of the protocol's `contents`.
    pub async fn read(&self, principal: &Principal, uri: &str, via: Via) -> Result<Value, Failure> {
        let action = Action::RESOURCES_READ;
        let entry = self.0.ledger.open(principal, via, action.to_string(), Counted::No);
        let result = self.read_unrecorded(principal, uri).await;
        match &result {
            Ok((_, size)) => entry.close(Ending::Ok, *size),
            Err(failure) => entry.close(Ending::Failed(failure.code), 0),
        }
        result.map(|(content, _)| content)
    }

    async fn read_unrecorded(&self, principal: &Principal, uri: &str) -> Result<(Value, usize), Failure> {
        principal.require(&Action::RESOURCES_READ)?;
        let content = match Target::parse(uri)? {
            Target::Own(own) => {
                principal.require(&own.action())?;
                own.content(principal, self.0.models.as_ref(), &self.0.status)
            }
            Target::File(path) => {
                let files = self
                    .0
                    .offer
                    .load()
                    .files
                    .clone()
                    .ok_or_else(|| resource::unknown(uri))?;
                principal.require(&file_action())?;
                resource::file_content(&files, uri, path).await.map_err(|failure| {
                    let hidden = [Code::ToolRefused, Code::UnknownResource].contains(&failure.code);
                    if hidden { resource::unknown(uri) } else { failure }
                })?
            }
        };
        let size = content
            .get("text")
            .or(content.get("blob"))
            .and_then(Value::as_str)
            .map_or(0, str::len);
        Ok((content, size))
    }
}

/// A file as a resource is read by whoever may read it with the tool.
fn file_action() -> Action {
    Action::tool("file_reader")
}

fn unknown_tool() -> Failure {
    Failure::new(Code::UnknownTool, "There is no tool of that name.").hint("`tools/list` shows what there is.")
}

/// A run that came to an end, and what the event says of it.
struct Ran {
    outcome: Outcome,
    ending: Ending,
}

async fn run(principal: &Principal, tool: &Offered, arguments: Value, context: CallContext) -> Result<Ran, Failure> {
    let limit = context.deadline.unwrap_or_else(|| tool.tool.time_limit());
    let job = Job {
        principal,
        arguments,
        via: context.via,
        progress: context.progress,
    };
    let answer = tokio::select! {
        biased;
        () = context.cancel.cancelled() => {
            return Ok(Ran { outcome: Outcome::Cancelled, ending: Ending::Cancelled });
        }
        answer = tokio::time::timeout(limit, tool.tool.run(job)) => answer.map_err(|_| {
            let message = format!("`{}` did not end within {} s.", tool.name, limit.as_secs());
            Failure::new(Code::ToolTimedOut, message).hint("Ask for less, or try again later.")
        })?,
    };
    match answer {
        Ok(answer) => bounded(tool, answer.into_raw()),
        Err(failure) if failure.kind() == ErrorKind::Bug => Err(failure),
        Err(failure) => Ok(told(&failure)),
    }
}

fn bounded(tool: &Offered, raw: Box<RawValue>) -> Result<Ran, Failure> {
    let size = raw.get().len();
    if size > RESULT_BYTES_MAX {
        let message = format!(
            "The result of `{}` has {size} bytes; at most {RESULT_BYTES_MAX} are passed on.",
            tool.name
        );
        return Err(Failure::new(Code::ResultTooLarge, message).hint("Ask for less."));
    }
    Ok(Ran {
        outcome: Outcome::Complete(Complete { raw, is_error: false }),
        ending: Ending::Ok,
    })
}

/// A failure within a tool is its result: the model that called it can act on it.
fn told(failure: &Failure) -> Ran {
    if failure.source.is_some() {
        tracing::warn!(error.code = %failure.code, error.chain = %failure.chain(), "tool failed");
    }
    let ending = match failure.kind() {
        ErrorKind::Invalid | ErrorKind::Forbidden | ErrorKind::NotFound | ErrorKind::Conflict => Ending::ToolError,
        ErrorKind::Unauthenticated
        | ErrorKind::OverBudget
        | ErrorKind::RateLimited
        | ErrorKind::UpstreamFailed
        | ErrorKind::UpstreamTimedOut
        | ErrorKind::Unavailable
        | ErrorKind::Bug => Ending::Failed(failure.code),
    };
    Ran {
        outcome: Outcome::Complete(Complete {
            raw: rpc::tool_error(failure),
            is_error: true,
        }),
        ending,
    }
}

fn ending(result: &Result<Ran, Failure>) -> (Ending, usize) {
    match result {
        Ok(Ran {
            outcome: Outcome::Complete(complete),
            ending,
        }) => (*ending, complete.raw.get().len()),
        Ok(ran) => (ran.ending, 0),
        Err(failure) => (Ending::Failed(failure.code), 0),
    }
}
