//! A request that needs a turn, read once: what goes to the model, what the gateway is to do, and how to answer.

use super::{
    kept::{Ground, Thread},
    wish::Wish,
};
use crate::dialect::{self, Asked, Map};
use forebay_domain::{
    Code, Failure,
    model::{Endpoint, Hints},
};
use serde_json::{Value, json};

/// A request in the canonical form.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) asked: Asked,
    pub(crate) wish: Wish,
    pub(crate) chat: Map,
    /// What a response has that a chat has not.
    pub(crate) thread: Option<Thread>,
    /// Whether the client wants its answer as events.
    pub(crate) events: bool,
}

impl Question {
    /// `ground` is what it stands on, where it asks for a response; `created_s` is now.
    pub(crate) fn read(
        endpoint: Endpoint,
        body: &[u8],
        hints: &Hints,
        mut ground: Ground,
        created_s: u64,
    ) -> Result<Self, Failure> {
        let mut request: Map = serde_json::from_slice(body)
            .map_err(|error| invalid("body", "must be a JSON object with each key once").caused_by(error))?;
        let wish = Wish::take(&mut request, hints.context.as_deref())?;
        let events = match request.get("stream") {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Bool(true)) => true,
            Some(_) => return Err(invalid("stream", "must be true or false")),
        };
        let mut thread = None;
        if endpoint == Endpoint::Responses {
            let base_url = hints.base_url.clone();
            let read = Thread::take(&mut request, &mut ground)?;
            thread = Some(Thread { base_url, ..read });
        }
        let asked = Asked::new(endpoint, &request, ground.id, created_s);
        let chat = match endpoint {
            Endpoint::Responses => {
                request.remove("previous_response_id");
                request.remove("background");
                dialect::response_to_chat(ground.before.items, request)?
            }
            _ => dialect::request_to_chat(endpoint, request)?,
        };
        if !chat.get("messages").is_some_and(Value::is_array) {
            return Err(invalid("messages", "must be an array of messages"));
        }
        Ok(Self {
            asked,
            wish,
            chat,
            thread,
            events,
        })
    }

    /// The messages, as JSON.
    pub(crate) fn messages(&self) -> String {
        self.chat["messages"].to_string()
    }
}

fn invalid(field: &str, expected: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}` {expected}."))
        .hint("docs/openai.md describes what a request may say.")
        .details(json!({ "param": field }))
}
