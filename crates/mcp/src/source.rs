//! Where tools, resources and prompts come from: built-in servers, upstreams, and whatever else joins the catalogue.
//!
//! A source offers snapshots and serves by its own bare names. What a caller may see, under which names, how often and
//! for how long is the catalogue's to decide; a source never asks who may do what.

use crate::call::{CallContext, Outcome};
pub use forebay_domain::quarantine::Hints;
use forebay_domain::{Action, Failure, Principal, port::BoxFuture};
use http::{HeaderName, HeaderValue};
use serde_json::{Value, value::RawValue};
use std::{sync::Arc, time::Duration};

/// One named server behind the gateway.
pub trait Source: Send + Sync {
    /// Its name: the prefix of its tools, and its place under `/servers/{name}/mcp`.
    fn name(&self) -> &str;

    /// How its tools and prompts are called in the whole catalogue.
    fn naming(&self) -> Naming;

    /// What it offers now.
    fn offer(&self) -> Arc<Offer>;

    /// Whether this tool of the offer is nothing to this caller, because there is nothing behind it for them.
    fn hides(&self, _tool: &str, _principal: &Principal) -> bool {
        false
    }

    /// Whether the results of this tool were written by the gateway and its operator, and by nobody else: all others are
    /// data, whatever they say.
    fn is_trusted(&self, _tool: &str) -> bool {
        false
    }

    /// Whether what this tool's definition says of its effects is the word of the gateway or of its operator. That of
    /// all others can make a turn more careful, and never less.
    fn vouches(&self, _tool: &str) -> bool {
        false
    }

    /// What the reader of a resource of this server has to be allowed, where the server is the gateway's own.
    fn needs(&self, _uri: &str) -> Option<Action> {
        None
    }

    /// Why a tool of this name, which the server does have, is not offered.
    fn withheld(&self, _tool: &str) -> Option<Failure> {
        None
    }

    /// Serves one request. Dropping the future cancels it.
    fn serve<'a>(
        &'a self,
        principal: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>>;

    /// Whether this caller may hear of changes of this resource, where that is not everybody's who may read resources of
    /// this server.
    fn admits<'a>(&'a self, _principal: &'a Principal, _uri: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Somebody wants to hear of changes of this resource, or nobody does any more.
    fn watch<'a>(&'a self, _uri: &'a str, _watched: Watched) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Completes once every change of a watched resource is told from then on, or it is no use to wait for that.
    fn in_force<'a>(&'a self, _uri: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Names stand alone: built-in servers.
    Bare,
    /// `<server>__<name>`: upstreams.
    Prefixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    Yes,
    No,
}

/// What is wanted of a source, by the source's own names. Where a client sent params, they are there whole, so that
/// what nobody here knows reaches the source as well.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    Tool {
        name: &'a str,
        arguments: &'a RawValue,
        params: Option<&'a RawValue>,
    },
    Resource {
        uri: &'a str,
        params: Option<&'a RawValue>,
    },
    Prompt {
        name: &'a str,
        params: &'a RawValue,
    },
    /// The params of `completion/complete`, whose `ref` bears the source's own name already.
    Completion {
        params: &'a RawValue,
    },
}

/// Everything that a source offers at one moment.
#[derive(Debug, Default)]
pub struct Offer {
    pub tools: Vec<Arc<Tool>>,
    pub resources: Vec<Arc<Resource>>,
    pub templates: Vec<Arc<Template>>,
    pub prompts: Vec<Arc<Prompt>>,
    pub completes: bool,
    pub watches: bool,
    /// For the model that uses the server.
    pub instructions: Option<String>,
}

/// A tool by the name that its source gave it, with its definition as the protocol writes it.
#[derive(Debug)]
pub struct Tool {
    pub name: String,
    pub raw: Box<RawValue>,
    pub hints: Hints,
    /// The arguments that a client of 2026-07-28 repeats in headers.
    pub headers: Vec<ParamHeader>,
    /// How long a call may take where the caller sets no limit.
    pub time_limit: Duration,
}

/// The effects of a tool that a policy may deny, whatever the tool is called: a grant `!effect:destructive` keeps its key
/// off every tool that may destroy something.
pub fn effects(hints: Hints) -> impl Iterator<Item = Action> {
    [
        (!hints.read_only, Action::EFFECT_WRITE),
        (hints.may_destroy(), Action::EFFECT_DESTRUCTIVE),
        (hints.open_world, Action::EFFECT_OPEN_WORLD),
    ]
    .into_iter()
    .filter_map(|(has, effect)| has.then_some(effect))
}

/// `x-mcp-header` of one property of an input schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamHeader {
    /// The part of the header's name behind `Mcp-Param-`.
    pub header: String,
    /// The JSON pointer of the argument.
    pub pointer: String,
}

impl ParamHeader {
    /// The header that repeats this argument of a call, where the call has it.
    pub(crate) fn of(&self, arguments: &Value) -> Option<(HeaderName, HeaderValue)> {
        let text = match arguments.pointer(&self.pointer)? {
            Value::String(text) => text.clone(),
            other @ (Value::Number(_) | Value::Bool(_)) => other.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        let name = HeaderName::try_from(format!("mcp-param-{}", self.header)).ok()?;
        let value = HeaderValue::from_str(&crate::header_value::encode(&text)).ok()?;
        Some((name, value))
    }
}

#[derive(Debug)]
pub struct Resource {
    pub uri: String,
    pub raw: Box<RawValue>,
}

#[derive(Debug)]
pub struct Template {
    /// An RFC 6570 template.
    pub template: String,
    pub raw: Box<RawValue>,
}

#[derive(Debug)]
pub struct Prompt {
    pub name: String,
    pub raw: Box<RawValue>,
}

/// What has changed in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Tools,
    Prompts,
    Resources,
    /// The content of one resource.
    Resource {
        uri: String,
    },
}

impl Change {
    /// All lists that a source has.
    pub const LISTS: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];
}
