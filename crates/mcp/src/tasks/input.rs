//! What a task of the type `tools/call` is given: the params of the call, and beside them what the protocol said of it.
//!
//! Whoever submits such a task by other ways than MCP names a tool and its arguments, and that is all there has to be.

use crate::{
    call::ClientCaps,
    era::Version,
    index::Scope,
    params::{Params, invalid, text},
    raw::Members,
};
use forebay_domain::Failure;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
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
}

/// One call, as its task has it.
pub(crate) struct Input<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) arguments: Cow<'a, str>,
    /// The params without what is not of the call.
    pub(crate) params: Box<RawValue>,
    pub(crate) around: Circumstances,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ours<'a> {
    server: Option<String>,
    version: Option<String>,
    #[serde(borrow)]
    capabilities: Option<&'a RawValue>,
}

/// Writes down a call that a client makes.
pub(crate) fn write(params: &RawValue, around: &Circumstances) -> Box<RawValue> {
    let mut members = Members::of(params).unwrap_or_default();
    members.0.retain(|(key, _)| !NOT_OF_THE_CALL.contains(&&**key));
    let mut ours = json!({});
    if let Scope::Server(name) = &around.scope {
        ours["server"] = json!(**name);
    }
    if let Some(version) = around.version {
        ours["version"] = json!(version.as_str());
    }
    let caps: Option<Value> = serde_json::from_str(around.caps.raw().get()).ok();
    ours["capabilities"] = caps.unwrap_or_default();
    members.set(OURS, ours.to_string());
    members.write()
}

impl<'a> Input<'a> {
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
        }
    }

    fn read(text: &str) -> Result<Self, Failure> {
        let ours: Ours<'_> = serde_json::from_str(text)
            .map_err(|_| invalid(format!("`{OURS}` is for the gateway's own use; leave it out.")))?;
        Ok(Self {
            scope: ours.server.map_or(Scope::Whole, |name| Scope::Server(name.into())),
            version: ours.version.as_deref().and_then(Version::parse),
            caps: ours
                .capabilities
                .map_or_else(Arc::default, |raw| Arc::new(ClientCaps::new(raw))),
        })
    }
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
    }

    #[test]
    fn a_name_and_arguments_are_enough() {
        let read = Input::read(br#"{"name":"a"}"#).unwrap();
        assert_eq!((&*read.name, &*read.arguments, read.around.version), ("a", "{}", None));
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
