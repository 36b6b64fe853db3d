//! What a task of the type `tools/call` is given: the params of the call, and beside them what the protocol said of it.
//!
//! Whoever submits such a task by other ways than MCP names a tool and its arguments, and that is all there has to be.

use crate::{
    call::{ClientCaps, Retry},
    era::Version,
    index::Scope,
    params::{Params, invalid, text},
    raw::Members,
};
use forebay_domain::Failure;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{borrow::Cow, sync::Arc};

/// The member that holds what the client's connection said and its params did not.
const OURS: &str = "forebay";
/// What belongs to the exchange with the client, and is no part of the call.
const NOT_OF_THE_CALL: [&str; 4] = ["task", "inputResponses", "requestState", OURS];

/// What the protocol said of a call.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) scope: Scope,
    /// The version that its client speaks; none where it did not come over MCP.
    pub(crate) version: Option<Version>,
    pub(crate) caps: Arc<ClientCaps>,
    /// What the client answered before the call became a task.
    pub(crate) again: Option<Retry>,
    /// The desk at which the client can be asked; nowhere where there is none.
    pub(crate) desk: Option<String>,
}

/// One call, as its task has it.
pub(crate) struct Input<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) arguments: Cow<'a, str>,
    /// The params without what is not of the call.
    pub(crate) params: Box<RawValue>,
    pub(crate) around: Circumstances,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Ours<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(borrow)]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    responses: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    desk: Option<String>,
}

/// Writes down a call that a client makes.
pub(crate) fn write(params: &RawValue, around: &Circumstances) -> Box<RawValue> {
    let mut members = Members::of(params).unwrap_or_default();
    members.0.retain(|(key, _)| !NOT_OF_THE_CALL.contains(&&**key));
    let again = around.again.as_ref();
    let ours = Ours {
        server: match &around.scope {
            Scope::Server(name) => Some(name.to_string()),
            Scope::Whole => None,
        },
        version: around.version.map(|version| version.as_str().to_owned()),
        capabilities: Some(around.caps.raw()),
        responses: again.and_then(|again| again.input_responses.as_deref()),
        state: again.and_then(|again| again.request_state.clone()),
        desk: around.desk.clone(),
    };
    let ours = serde_json::to_string(&ours).expect("texts and raw JSON are JSON");
    members.set(OURS, ours);
    members.write()
}

impl<'a> Input<'a> {
    /// Reads what somebody submits by another way than MCP, who cannot know what the protocol says of a call.
    pub(crate) fn from_outside(bytes: &'a [u8]) -> Result<Self, Failure> {
        let whole: Option<&RawValue> = serde_json::from_slice(bytes).ok();
        let members = whole.and_then(Members::of);
        if members.is_some_and(|members| members.get(OURS).is_some()) {
            return Err(own_use());
        }
        Self::read(bytes)
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Failure> {
        let whole: &RawValue =
            serde_json::from_slice(bytes).map_err(|_| invalid("The input must be a JSON object.".to_owned()))?;
        let params: Params<'a> = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("The input has the wrong shape: {error}.")))?;
        let name = text("name", params.name)?;
        let arguments = match params.arguments {
            None => Cow::Borrowed("{}"),
            Some(raw) if raw.get().starts_with('{') => Cow::Borrowed(raw.get()),
            Some(_) => return Err(invalid("`arguments` must be a JSON object.".to_owned())),
        };
        let mut members = Members::of(whole).ok_or_else(|| invalid("The input must be a JSON object.".to_owned()))?;
        let ours = members.get(OURS).map(str::to_owned);
        let around = ours
            .as_deref()
            .map_or_else(|| Ok(Circumstances::none()), Circumstances::read)?;
        members.0.retain(|(key, _)| !NOT_OF_THE_CALL.contains(&&**key));
        Ok(Self {
            name,
            arguments,
            params: members.write(),
            around,
        })
    }
}

impl Circumstances {
    fn none() -> Self {
        Self {
            scope: Scope::Whole,
            version: None,
            caps: Arc::default(),
            again: None,
            desk: None,
        }
    }

    fn read(text: &str) -> Result<Self, Failure> {
        let ours: Ours<'_> = serde_json::from_str(text).map_err(|_| own_use())?;
        let again = (ours.responses.is_some() || ours.state.is_some()).then(|| Retry {
            input_responses: ours.responses.map(ToOwned::to_owned),
            request_state: ours.state,
        });
        Ok(Self {
            again,
            desk: ours.desk,
            scope: ours.server.map_or(Scope::Whole, |name| Scope::Server(name.into())),
            version: ours.version.as_deref().and_then(Version::parse),
            caps: ours
                .capabilities
                .map_or_else(Arc::default, |raw| Arc::new(ClientCaps::new(raw))),
        })
    }
}

fn own_use() -> Failure {
    invalid(format!("`{OURS}` is for the gateway's own use; leave it out."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_written_down_and_read_again() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let caps = raw(r#"{"elicitation":{}}"#);
        let around = Circumstances {
            scope: Scope::Server("docs".into()),
            version: Some(Version::V2025_11_25),
            caps: Arc::new(ClientCaps::new(&caps)),
            again: Some(Retry {
                input_responses: Some(raw(r#"{"who":{"action":"accept"}}"#)),
                request_state: Some("mine".to_owned()),
            }),
            desk: Some("d".to_owned()),
        };
        let params = raw(r#"{"name":"a","task":{"ttl":1},"arguments":{"b":1.0},"requestState":"x","_meta":{"c":2}}"#);
        let written = write(&params, &around);
        let read = Input::read(written.get().as_bytes()).unwrap();
        assert_eq!((&*read.name, &*read.arguments), ("a", r#"{"b":1.0}"#));
        assert_eq!(
            read.params.get(),
            r#"{"name":"a","arguments":{"b":1.0},"_meta":{"c":2}}"#
        );
        assert_eq!(read.around.scope, around.scope);
        assert_eq!(read.around.version, around.version);
        assert!(read.around.caps.has(crate::call::Capability::Elicitation));
        assert_eq!(read.around.desk.as_deref(), Some("d"));
        let again = read.around.again.unwrap();
        assert_eq!(again.input_responses.unwrap().get(), r#"{"who":{"action":"accept"}}"#);
        assert_eq!(again.request_state.as_deref(), Some("mine"));
        let outside = Input::from_outside(written.get().as_bytes()).err().unwrap();
        assert!(outside.message.contains("own use"), "{outside:?}");
    }

    #[test]
    fn a_name_and_arguments_are_enough() {
        let read = Input::read(br#"{"name":"a"}"#).unwrap();
        assert_eq!((&*read.name, &*read.arguments, read.around.version), ("a", "{}", None));
        assert!(read.around.again.is_none() && read.around.desk.is_none());
        for bad in [
            "[]",
            "{}",
            r#"{"name":1}"#,
            r#"{"name":"a","arguments":[]}"#,
            r#"{"name":"a","forebay":7}"#,
        ] {
            assert!(Input::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
