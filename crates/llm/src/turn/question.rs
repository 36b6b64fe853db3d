//! A request that needs a turn, read once: what goes to the model, what the gateway is to do, and how to answer.

use super::wish::Wish;
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
    /// Whether the client wants its answer as events.
    pub(crate) events: bool,
}

impl Question {
    /// `id` names the answer: letters and digits.
    pub(crate) fn read(
        endpoint: Endpoint,
        body: &[u8],
        hints: &Hints,
        id: String,
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
        if endpoint == Endpoint::Responses {
            keep_nothing(&mut request)?;
        }
        let asked = Asked::new(endpoint, &request, id, created_s);
        let chat = dialect::request_to_chat(endpoint, request)?;
        if !chat.get("messages").is_some_and(Value::is_array) {
            return Err(invalid("messages", "must be an array of messages"));
        }
        Ok(Self {
            asked,
            wish,
            chat,
            events,
        })
    }

    /// The messages, as JSON.
    pub(crate) fn messages(&self) -> String {
        self.chat["messages"].to_string()
    }
}

/// Responses are not kept yet: who asks for that is told so, and an answer does not say that it was.
fn keep_nothing(request: &mut Map) -> Result<(), Failure> {
    match request.insert("store".to_owned(), false.into()) {
        Some(Value::Bool(true)) => Err(invalid(
            "store",
            "must be false or left out: this version keeps no responses",
        )),
        _ => Ok(()),
    }
}

fn invalid(field: &str, expected: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}` {expected}."))
        .hint("docs/openai.md describes what a request may say.")
        .details(json!({ "param": field }))
}
