//! `Mcp-Param-*` (2026-07-28): over HTTP some arguments of some tools are repeated in headers, of which a client on
//! standard input knows nothing. The bridge looks up which ones, once a call was refused for want of them.

use super::{
    glance::{body, is_stream},
    link::Link,
};
use crate::{
    envelope::{Id, Request},
    era::Version,
    params::{Params, text},
    source::ParamHeader,
    upstream::judge::param_headers,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

/// Tools whose marks are remembered.
const TOOLS_MAX: usize = 1_000;
/// Pages of the list of tools that are looked through.
const PAGES_MAX: usize = 100;

/// What is known of marked arguments, by tool.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<String, Vec<ParamHeader>>>);

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    result: Page<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

impl Marks {
    /// The headers that a call is to carry, as far as is known.
    pub(super) fn headers(&self, request: &Request) -> Vec<(HeaderName, HeaderValue)> {
        let read = || {
            let params = Params::read(request.params.as_ref()).ok()?;
            let marks = self.lock().get(&tool_of(request, &params)?)?.clone();
            let arguments: Value = serde_json::from_str(params.arguments?.get()).ok()?;
            Some(marks.iter().filter_map(|mark| mark.of(&arguments)).collect())
        };
        read().unwrap_or_default()
    }

    /// Remembers the marks of a tool. True where that is news.
    fn learn(&self, tool: String, marks: Vec<ParamHeader>) -> bool {
        let mut known = self.lock();
        let has_room = known.len() < TOOLS_MAX || known.contains_key(&tool);
        let is_news = has_room && known.get(&tool) != Some(&marks);
        if is_news {
            known.insert(tool, marks);
        }
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<ParamHeader>>> {
        self.0.lock().expect("nobody panics while holding the marks")
    }
}

fn tool_of(request: &Request, params: &Params<'_>) -> Option<String> {
    let name = text("name", params.name).ok()?;
    (request.method == "tools/call").then(|| name.into_owned())
}

impl Link {
    /// Looks up which arguments the tool of a call wants repeated. True where something was found that was not known.
    pub(super) async fn look_up(&self, request: &Request) -> bool {
        let tool = Params::read(request.params.as_ref())
            .ok()
            .and_then(|params| tool_of(request, &params));
        let Some(tool) = tool else { return false };
        match self.find(&tool).await {
            Some(marks) => self.marks.learn(tool, marks),
            None => false,
        }
    }

    async fn find(&self, tool: &str) -> Option<Vec<ParamHeader>> {
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let (request, line) = list(cursor.as_deref());
            let response = self.post(&line, Some(&request)).await.ok()?;
            if is_stream(&response) {
                return None;
            }
            let body = body(response).await.ok()?;
            let page = serde_json::from_slice::<Listed<'_>>(&body).ok()?.result;
            let is_it = |raw: &&&RawValue| serde_json::from_str(raw.get()).is_ok_and(|Name { name }| name == tool);
            if let Some(found) = page.tools.iter().find(is_it) {
                return param_headers(found).ok();
            }
            cursor = Some(page.next_cursor?);
        }
        None
    }
}

/// A request of our own for a page of the list.
fn list(cursor: Option<&str>) -> (Request, Bytes) {
    let mut params = json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": Version::V2026_07_28.as_str(),
        "io.modelcontextprotocol/clientCapabilities": {},
    }});
    if let Some(cursor) = cursor {
        params["cursor"] = json!(cursor);
    }
    let params = serde_json::value::to_raw_value(&params).expect("it is JSON");
    let line = format!(r#"{{"jsonrpc":"2.0","id":"forebay-look-up","method":"tools/list","params":{params}}}"#);
    let request = Request {
        id: Id::parse(r#""forebay-look-up""#).expect("a string is an id"),
        method: "tools/list".to_owned(),
        params: Some(Bytes::from(params.get().to_owned())),
    };
    (request, line.into())
}
