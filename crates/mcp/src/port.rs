//! Calling tools and reading resources for the other capabilities: the catalogue as a port.
//!
//! It adds nothing to [`Catalogue::call`] but plain words. Whoever comes this way is no MCP client: it can be told nothing
//! on the way and asked nothing, so a tool that cannot go on without asking fails here.

use crate::{
    call::{CallContext, Client, Complete, Outcome},
    catalogue::{Call, Catalogue},
    compose,
    index::{Index, Listed, Scope},
    reading::Usable,
    source::{Hints, Naming, Tool, effects},
};
use forebay_domain::{
    Action, Code, Failure, Principal,
    port::{BoxFuture, CallTool, Via},
    quarantine::NAME_SEPARATOR,
    tool::{ToolAnswer, ToolCall, ToolHints, ToolInfo},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

impl CallTool for Catalogue {
    fn find(&self, principal: &Principal, name: &str) -> Option<ToolInfo> {
        let index = self.index();
        let listed = index.view(&Scope::Whole)?.tools.get(name)?;
        let may_come = !calls_others(listed) && Usable::by(principal).tool(listed);
        may_come.then(|| info(listed))
    }

    fn withheld(&self, principal: &Principal, name: &str) -> Option<Failure> {
        let index = self.index();
        if let Some(listed) = index.view(&Scope::Whole)?.tools.get(name) {
            let denied = principal.require(&Action::tool(&listed.exposed));
            let denied =
                denied.and_then(|()| effects(listed.item.hints).try_for_each(|effect| principal.require(&effect)));
            return match denied {
                Err(denied) => Some(denied),
                Ok(()) if calls_others(listed) => Some(roundabout(name)),
                Ok(()) => (!Usable::by(principal).tool(listed)).then(|| not_offered(name)),
            };
        }
        let (exposed, why) = match Self::withheld(self, &Scope::Whole, name) {
            Some(held) => held,
            None if is_of_upstream(&index, name) => (name.to_owned(), not_offered(name)),
            None => return None,
        };
        // How it stands with a tool is for those who may use it.
        Some(principal.require(&Action::tool(&exposed)).err().unwrap_or(why))
    }

    fn of_server(&self, principal: &Principal, server: &str) -> Vec<ToolInfo> {
        let index = self.index();
        let (Some(whole), Some(own)) = (index.view(&Scope::Whole), index.view(&Scope::Server(Arc::from(server))))
        else {
            return Vec::new();
        };
        let usable = Usable::by(principal);
        // Calls go by the name in the whole catalogue, where a name that two servers claim is not offered.
        let callable = |listed: &&Arc<Listed<Tool>>| {
            let whole = whole.tools.get(&listed.exposed);
            let is_same = whole.is_some_and(|whole| whole.source.name() == listed.source.name());
            is_same && !calls_others(listed) && usable.tool(listed)
        };
        own.tools.values().filter(callable).map(|listed| info(listed)).collect()
    }

    fn call<'a>(
        &'a self,
        principal: &'a Principal,
        call: ToolCall<'a>,
        via: Via,
    ) -> BoxFuture<'a, Result<ToolAnswer, Failure>> {
        Box::pin(async move {
            let found = Self::find(self, principal, &Scope::Whole, call.tool);
            if found.as_deref().is_some_and(calls_others) {
                return Err(roundabout(call.tool));
            }
            let own = found.map(|listed| listed.item.time_limit);
            let deadline = call
                .patience
                .map(|patience| own.map_or(patience, |own| own.min(patience)));
            let cancel = CancellationToken::new();
            // Whatever drops this future takes the call back, that part of it too that somebody else finishes for us.
            let _ended = cancel.clone().drop_guard();
            let context = CallContext {
                cost: call.cost.cloned(),
                ..silent(via, cancel, deadline)
            };
            let outcome = Self::call(self, principal, Call::of(call.tool, call.arguments), context).await?;
            let complete = complete(call.tool, outcome)?;
            Ok(ToolAnswer {
                text: text_of(&complete.raw),
                is_error: complete.is_error,
                raw: complete.raw,
            })
        })
    }

    fn read<'a>(&'a self, principal: &'a Principal, uri: &'a str, via: Via) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            let cancel = CancellationToken::new();
            let _ended = cancel.clone().drop_guard();
            let context = silent(via, cancel, None);
            let outcome = Self::read(self, principal, &Scope::Whole, uri, None, context).await?;
            Ok(texts_of(&complete("the resource", outcome)?.raw))
        })
    }
}

/// Whether it would call other tools, which whoever comes this way never named: their approval, their number and what a
/// turn has read are judged by the name of the call, so a call within a call would be judged by nobody.
fn calls_others(listed: &Listed<Tool>) -> bool {
    listed.source.name() == compose::NAME && compose::calls_others(&listed.item.name)
}

fn roundabout(name: &str) -> Failure {
    let message = format!(
        "`{}` calls other tools, which only an MCP client can have it do.",
        name.escape_debug()
    );
    Failure::new(Code::InvalidRequest, message)
        .hint("Name those tools themselves: a turn calls several at once, and one after another.")
}

/// Whether it is a name as the tools of an upstream have, be there such a tool or not.
fn is_of_upstream(index: &Index, name: &str) -> bool {
    let server = name
        .split_once(NAME_SEPARATOR)
        .map(|(server, _)| Scope::Server(Arc::from(server)));
    let view = server.and_then(|server| index.view(&server));
    view.is_some_and(|view| {
        view.sources
            .iter()
            .any(|(source, _)| source.naming() == Naming::Prefixed)
    })
}

fn not_offered(name: &str) -> Failure {
    Failure::new(
        Code::UnknownTool,
        format!("`{}` is not offered now.", name.escape_debug()),
    )
    .hint("`tools/list` shows what there is, and `forebay upstream list` how the upstreams are.")
}

/// A call whose client hears nothing and cannot be asked.
fn silent(via: Via, cancel: CancellationToken, deadline: Option<Duration>) -> CallContext {
    CallContext {
        via,
        cancel,
        deadline,
        client: Client::nobody(),
        retry: None,
        cost: None,
    }
}

fn complete(what: &str, outcome: Outcome) -> Result<Complete, Failure> {
    match outcome {
        Outcome::Complete(complete) => Ok(complete),
        Outcome::InputRequired(_) => {
            let message = format!("`{what}` wants to ask its client something before it goes on, and here it cannot.");
            Err(Failure::new(Code::ClientSilent, message).hint("Call it from an MCP client."))
        }
        Outcome::Refused(error) => Err(error.into()),
        Outcome::Cancelled => Err(Failure::new(Code::Cancelled, "The call was taken back.")),
    }
}

/// The members of a definition that whoever offers a tool to a model needs.
#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default, rename = "inputSchema")]
    input_schema: Option<&'a RawValue>,
}

fn info(listed: &Listed<Tool>) -> ToolInfo {
    let definition: Option<Definition<'_>> = serde_json::from_str(listed.raw.get()).ok();
    let (description, input) = definition.map_or((None, None), |read| (read.description, read.input_schema));
    // What somebody else says of a tool can make nobody less careful here.
    let hints = if listed.source.vouches(&listed.item.name) {
        listed.item.hints
    } else {
        Hints::default()
    };
    ToolInfo {
        name: listed.exposed.clone(),
        server: listed.source.name().to_owned(),
        description,
        input_schema: input.map_or_else(any_object, ToOwned::to_owned),
        is_trusted: listed.source.is_trusted(&listed.item.name),
        hints: ToolHints {
            read_only: hints.read_only,
            destructive: hints.may_destroy(),
            open_world: hints.open_world,
        },
    }
}

/// The schema of a tool that has none to show.
fn any_object() -> Box<RawValue> {
    RawValue::from_string(r#"{"type":"object"}"#.to_owned()).expect("this is JSON")
}

/// `CallToolResult`, as far as it can be put into words.
#[derive(Deserialize)]
struct ToolResult<'a> {
    #[serde(default)]
    content: Vec<Block>,
    #[serde(borrow, default, rename = "structuredContent")]
    structured: Option<&'a RawValue>,
}

/// One block of content. What has no text is named by its type.
#[derive(Deserialize)]
struct Block {
    #[serde(default, rename = "type")]
    kind: String,
    text: Option<String>,
    #[serde(rename = "mimeType")]
    mime: Option<String>,
    uri: Option<String>,
    resource: Option<Embedded>,
}

/// A resource within a result.
#[derive(Deserialize)]
struct Embedded {
    uri: Option<String>,
    #[serde(rename = "mimeType")]
    mime: Option<String>,
    text: Option<String>,
}

impl Block {
    fn into_text(self) -> Result<String, String> {
        if let (Some(text), "text") = (self.text, self.kind.as_str()) {
            return Ok(text);
        }
        let (mime, uri) = match self.resource {
            Some(Embedded { text: Some(text), .. }) => return Ok(text),
            Some(resource) => (resource.mime, resource.uri),
            None => (self.mime, self.uri),
        };
        let said: Vec<String> = [Some(self.kind), mime, uri].into_iter().flatten().collect();
        Err(format!("[{}]", said.join(" ")))
    }
}

fn text_of(result: &RawValue) -> String {
    let Ok(result) = serde_json::from_str::<ToolResult<'_>>(result.get()) else {
        return result.get().to_owned();
    };
    let mut has_text = false;
    let mut lines = Vec::with_capacity(result.content.len() + 1);
    for block in result.content {
        match block.into_text() {
            Ok(text) => {
                has_text = true;
                lines.push(text);
            }
            Err(named) => lines.push(named),
        }
    }
    if let (false, Some(structured)) = (has_text, result.structured) {
        lines.insert(0, structured.get().to_owned());
    }
    lines.join("\n")
}

#[derive(Deserialize)]
struct ReadResult {
    #[serde(default)]
    contents: Vec<Embedded>,
}

fn texts_of(result: &RawValue) -> String {
    let read: Option<ReadResult> = serde_json::from_str(result.get()).ok();
    let contents = read.map(|read| read.contents).unwrap_or_default();
    let texts: Vec<String> = contents.into_iter().filter_map(|content| content.text).collect();
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn raw(value: &Value) -> Box<RawValue> {
        crate::call::raw(value)
    }

    #[test]
    fn a_result_in_words() {
        let check = |result: Value, expected: &str| assert_eq!(text_of(&raw(&result)), expected, "{result}");
        let text = |text: &str| json!({"type": "text", "text": text});
        check(json!({"content": [text("a"), text("b")]}), "a\nb");
        check(json!({"content": [text("a")], "structuredContent": {"b": 1}}), "a");
        check(json!({"content": [], "structuredContent": {"b": 1}}), r#"{"b":1}"#);
        check(json!({"structuredContent": {"b": 1}}), r#"{"b":1}"#);
        check(
            json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}, text("a")]}),
            "[image image/png]\na",
        );
        check(
            json!({"content": [{"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}], "structuredContent": [1]}),
            "[1]\n[audio audio/wav]",
        );
        check(
            json!({"content": [
                {"type": "resource", "resource": {"uri": "x://1", "text": "inside"}},
                {"type": "resource", "resource": {"uri": "x://2", "blob": "AAAA", "mimeType": "a/b"}},
                {"type": "resource_link", "uri": "x://3", "name": "three"},
                {"type": "hologram"}
            ]}),
            "inside\n[resource a/b x://2]\n[resource_link x://3]\n[hologram]",
        );
        check(json!({}), "");
        check(json!({"content": "nonsense"}), r#"{"content":"nonsense"}"#);
    }

    #[test]
    fn a_resource_in_words() {
        let contents = json!({"contents": [{"uri": "a", "text": "one"}, {"uri": "b", "blob": "AAAA"}, {"uri": "c", "text": "two"}]});
        assert_eq!(texts_of(&raw(&contents)), "one\ntwo");
        assert_eq!(texts_of(&raw(&json!({"contents": 7}))), "");
    }
}
