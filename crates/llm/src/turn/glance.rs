//! Whether a request wants something of the gateway itself, seen without taking it apart.
//!
//! Most requests want nothing, and their bytes pass as they are. A request is searched for three keys; only where it
//! has tools are those looked at, and nothing else. A key that is written with escapes is not found: it then goes to
//! the engine like any other unknown field, and nothing is done that the request does not say plainly.

use forebay_domain::{
    Code, Failure,
    model::{Endpoint, ModelRequest},
};
use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use std::borrow::Cow;

const OURS: [&str; 2] = ["\"mcp_context\"", "\"tool_execution\""];

/// Whether a closer look is needed. A response is always made here: engines know no such API.
pub(crate) fn wants_turn(endpoint: Endpoint, body: &[u8], has_header: bool) -> bool {
    match endpoint {
        Endpoint::Responses => true,
        Endpoint::Embeddings => false,
        Endpoint::Chat | Endpoint::Completions | Endpoint::Messages => {
            has_header
                || OURS.iter().any(|key| memmem::find(body, key.as_bytes()).is_some())
                || names_tools_of_ours(body)
        }
    }
}

/// Whether a request is for a response that nobody waits for.
pub(crate) fn wants_background(endpoint: Endpoint, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Wished {
        #[serde(default)]
        background: serde_json::Value,
    }
    if endpoint != Endpoint::Responses || memmem::find(body, b"\"background\"").is_none() {
        return false;
    }
    serde_json::from_slice::<Wished>(body).is_ok_and(|wished| wished.background == true)
}

/// Refuses embeddings that want something of a turn: there is none, and whoever asks for it would wait for it in vain.
pub(crate) fn check_embeddings(request: &ModelRequest) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Wished {
        mcp_context: Option<IgnoredAny>,
        tool_execution: Option<IgnoredAny>,
    }
    if request.endpoint != Endpoint::Embeddings {
        return Ok(());
    }
    let is_found = |key: &&&str| memmem::find(&request.body, key.as_bytes()).is_some();
    let wished: Option<Wished> = OURS
        .iter()
        .find(is_found)
        .and_then(|_| serde_json::from_slice(&request.body).ok());
    let field = match wished {
        _ if request.hints.context.is_some() => "x-forebay-mcp-context",
        Some(Wished {
            mcp_context: Some(_), ..
        }) => "mcp_context",
        Some(Wished {
            tool_execution: Some(_),
            ..
        }) => "tool_execution",
        Some(_) | None => return Ok(()),
    };
    let message = format!("`{field}` has no meaning for embeddings: nothing is looked up or called for them.");
    Err(Failure::new(Code::InvalidRequest, message)
        .hint("Leave it out.")
        .details(json!({ "param": field })))
}

#[derive(Deserialize)]
struct Looked<'a> {
    #[serde(default, borrow)]
    tools: Option<Vec<Tool<'a>>>,
}

/// A tool as OpenAI's or Anthropic's API writes it.
#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(default, borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    function: Option<Function>,
    #[serde(default)]
    input_schema: Option<IgnoredAny>,
    #[serde(default)]
    require_approval: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    parameters: Option<IgnoredAny>,
}

impl Tool<'_> {
    fn may_be_ours(&self) -> bool {
        if self.require_approval.is_some() {
            return true;
        }
        match &self.function {
            Some(function) => function.parameters.is_none(),
            None => self.kind.as_deref().is_none_or(|kind| kind == "custom") && self.input_schema.is_none(),
        }
    }
}

fn names_tools_of_ours(body: &[u8]) -> bool {
    if memmem::find(body, b"\"tools\"").is_none() {
        return false;
    }
    // What cannot be read here is for the engine to refuse.
    let looked = serde_json::from_slice::<Looked<'_>>(body);
    let tools = looked.ok().and_then(|looked| looked.tools).unwrap_or_default();
    tools.iter().any(Tool::may_be_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use forebay_domain::model::Hints;

    #[test]
    fn only_what_wants_something_of_the_gateway_is_looked_at() {
        for (body, wanted) in [
            (r#"{"messages":[]}"#, false),
            (r#"{"messages":[{"content":"\"mcp_context\" and \"tools\""}]}"#, false),
            (r#"{"mcp_context":{}}"#, true),
            (r#"{"tool_execution":"client"}"#, true),
            (r#"{"tools":[{"type":"function","function":{"name":"a"}}]}"#, true),
            (
                r#"{"tools":[{"type":"function","function":{"name":"a","parameters":null}}]}"#,
                true,
            ),
            (
                r#"{"tools":[{"type":"function","function":{"name":"a","parameters":{}}}]}"#,
                false,
            ),
            (
                r#"{"tools":[{"type":"function","function":{"name":"a","parameters":{}},"require_approval":"always"}]}"#,
                true,
            ),
            (r#"{"tools":[{"name":"a","input_schema":{}}]}"#, false),
            (r#"{"tools":[{"name":"a"}]}"#, true),
            (
                r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#,
                false,
            ),
            (r#"{"tools":7}"#, false),
        ] {
            assert_eq!(wants_turn(Endpoint::Chat, body.as_bytes(), false), wanted, "{body}");
        }
        assert!(wants_turn(Endpoint::Messages, b"{}", true));
        assert!(wants_turn(Endpoint::Responses, b"{}", false));
        assert!(!wants_turn(Endpoint::Embeddings, br#"{"mcp_context":1}"#, true));
    }

    #[test]
    fn a_header_that_asks_for_context_means_nothing_to_embeddings() {
        let check = |endpoint, context: Option<&'static [u8]>| {
            let request = ModelRequest {
                endpoint,
                model: "m".to_owned(),
                body: Bytes::from_static(b"{}"),
                hints: Hints {
                    context: context.map(Into::into),
                    ..Hints::default()
                },
            };
            check_embeddings(&request).map_err(|failure| failure.message)
        };
        assert_eq!(check(Endpoint::Embeddings, None), Ok(()));
        assert_eq!(check(Endpoint::Chat, Some(b"{}")), Ok(()));
        let refused = check(Endpoint::Embeddings, Some(b"{}")).unwrap_err();
        assert!(
            refused.starts_with("`x-forebay-mcp-context` has no meaning"),
            "{refused}"
        );
    }
}
