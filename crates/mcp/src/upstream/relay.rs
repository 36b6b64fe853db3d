//! One request through to an upstream and its answer back, with everything in it that nobody here knows.
//!
//! Names become the upstream's own, what each hop says for itself in `_meta` is the connection's affair, and everything else stays as the client sent it.

use crate::{
    call::{CallContext, Capability, ClientCaps, Complete, Outcome},
    client::{ClientFault, Hooks},
    raw::Members,
    source::Wanted,
};
use forebay_domain::Failure;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use std::{borrow::Cow, time::Duration};

/// A request as the upstream gets it.
pub(super) struct Outgoing {
    pub(super) method: &'static str,
    pub(super) params: Box<RawValue>,
}

pub(super) fn outgoing(wanted: Wanted<'_>, context: &CallContext) -> Outgoing {
    let (method, params, own): (_, Option<&RawValue>, Option<(&str, &str)>) = match wanted {
        Wanted::Tool { name, params, .. } => ("tools/call", params, Some(("name", name))),
        Wanted::Resource { uri, params } => ("resources/read", params, Some(("uri", uri))),
        Wanted::Prompt { name, params } => ("prompts/get", Some(params), Some(("name", name))),
        Wanted::Completion { params } => ("completion/complete", Some(params), None),
    };
    let mut members = params.and_then(Members::of).unwrap_or_default();
    if let Some((member, value)) = own {
        members.set(member, Value::from(value).to_string());
    }
    if let Wanted::Tool { arguments, .. } = wanted {
        members.set("arguments", arguments.get());
    }
    members.remove("inputResponses");
    members.remove("requestState");
    if let Some(retry) = &context.retry {
        if let Some(responses) = &retry.input_responses {
            members.set("inputResponses", responses.get());
        }
        if let Some(state) = &retry.request_state {
            members.set("requestState", Value::from(state.as_str()).to_string());
        }
    }
    Outgoing {
        method,
        params: members.write(),
    }
}

pub(super) fn hooks(context: &CallContext, timeout: Duration, traceparent: String) -> Hooks {
    Hooks {
        cancel: context.cancel.clone(),
        emissions: context.client.emissions(),
        trace: Some(traceparent),
        log_level: context.client.log_level,
        caps: Some(context.client.caps.for_upstreams()),
        ..Hooks::within(timeout)
    }
}

/// What the answer of an upstream means here.
pub(super) fn outcome(
    answer: Result<Box<RawValue>, ClientFault>,
    failure: impl FnOnce(ClientFault) -> Failure,
) -> Result<Outcome, Failure> {
    match answer {
        Ok(raw) => sort(raw).map_err(failure),
        Err(ClientFault::Refused(error)) => Ok(Outcome::Refused(error)),
        Err(ClientFault::Cancelled) => Ok(Outcome::Cancelled),
        Err(fault) => Err(failure(fault)),
    }
}

#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow, default, rename = "resultType")]
    result_type: Option<Cow<'a, str>>,
    #[serde(default, rename = "isError")]
    is_error: bool,
}

fn sort(raw: Box<RawValue>) -> Result<Outcome, ClientFault> {
    let glance: Option<Glance<'_>> = serde_json::from_str(raw.get()).ok();
    let is_error = glance.as_ref().is_some_and(|glance| glance.is_error);
    match glance.and_then(|glance| glance.result_type).as_deref() {
        Some("input_required") => Ok(Outcome::InputRequired(raw)),
        // What may become a task is asked for elsewhere; here nobody could follow it.
        Some("task") => Err(ClientFault::Protocol("it made a task of what may be none".to_owned())),
        _ => Ok(Outcome::Complete(Complete {
            raw,
            is_error,
            failed: None,
        })),
    }
}

/// Of each capability, the parts that can be carried through.
const PARTS: [(Capability, &[&str]); 3] = [
    (Capability::Sampling, &["context", "tools"]),
    (Capability::Elicitation, &["form", "url"]),
    (Capability::Roots, &[]),
];

impl ClientCaps {
    /// What an upstream is told that it may ask for: what can be carried through, in one form, so that a client cannot
    /// make itself any number of connections by writing it in many.
    pub(crate) fn for_upstreams(&self) -> Box<RawValue> {
        let declared: Value = serde_json::from_str(self.raw().get()).unwrap_or_default();
        let mut told = Map::new();
        for (capability, parts) in PARTS {
            let Some(had) = declared[capability.as_str()].as_object() else {
                continue;
            };
            let kept = parts
                .iter()
                .filter(|part| had.get(**part).is_some_and(Value::is_object));
            let kept: Map<String, Value> = kept
                .map(|part| ((*part).to_owned(), Value::Object(Map::new())))
                .collect();
            told.insert(capability.as_str().to_owned(), Value::Object(kept));
        }
        crate::call::raw(&Value::Object(told))
    }
}
