//! What a request for a response is beside a question: a conversation that goes on, calls that were agreed to, and an
//! answer that is kept.
//!
//! A response that goes on from another one has that one's conversation before its own input: all that was asked and
//! answered, without the instructions. It refuses to go on with a part of it, and with somebody else's.
//!
//! What tools answered is marked as data each time that the model reads it, and with the same mark each time, that of the
//! response in which they ran: an engine finds the beginning of a conversation as it has read it before.

mod approval;
mod config;
mod items;
mod shelf;

pub(crate) use approval::{Approved, is_issued};
pub use config::ResponsesConfig;
pub(crate) use items::input_items;
pub(crate) use shelf::{Before, Shelf};

use super::block::Mark;
use crate::dialect::{self, Deed, Map};
use forebay_domain::{Code, Failure};
use items::Draft;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a request may name in OpenAI's API, and not here.
const LATER: [(&str, &str); 2] = [
    (
        "conversation",
        "must be left out: this version keeps responses, and goes on from one by `previous_response_id`",
    ),
    ("prompt", "must be left out: this version keeps no templates of prompts"),
];

/// Notes of a client about a response, and how long they may be.
const NOTES_MAX: usize = 16;
const NOTE_KEY_CHARS_MAX: usize = 64;
const NOTE_CHARS_MAX: usize = 512;

/// The part of a request for a response that no chat has, and what the gateway does for it.
#[derive(Debug, Default)]
pub(crate) struct Thread {
    /// What is kept of the request, if the response is to be kept.
    pub(super) draft: Option<Draft>,
    pub(super) approved: Vec<Approved>,
    /// Those of them that run now.
    pub(super) agreed: BTreeSet<String>,
    /// Whether the conversation before says that words of others were read in it.
    pub(super) is_tainted: bool,
    /// The tools of the gateway whose results are in the conversation.
    pub(super) ran: BTreeSet<String>,
    /// The servers whose tools were listed in it.
    pub(super) listed: BTreeSet<String>,
    /// How many calls the request allows.
    pub(super) calls_max: Option<usize>,
    /// When the last response of the conversation before expires.
    pub(super) kept_until: Option<Timestamp>,
    /// Where the client reaches the gateway.
    pub(super) base_url: Option<String>,
    /// What the gateway did since the client was last told.
    pub(super) deeds: Vec<Deed>,
}

/// The response that a request goes on from.
pub(crate) fn previous(body: &[u8]) -> Result<Option<String>, Failure> {
    #[derive(Deserialize)]
    struct Looked {
        #[serde(default)]
        previous_response_id: Value,
    }
    // What cannot be read is refused where all of it is read.
    match serde_json::from_slice(body) {
        Ok(Looked {
            previous_response_id: Value::String(id),
        }) => Ok(Some(id)),
        Ok(Looked {
            previous_response_id: Value::Null,
        })
        | Err(_) => Ok(None),
        Ok(_) => Err(invalid("previous_response_id", "must be the id of a response")),
    }
}

/// What a request is read against.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Names the answer: letters and digits.
    pub(crate) id: String,
    pub(crate) before: Before,
    /// Whether responses are kept.
    pub(crate) is_open: bool,
    /// Whether this is a task, or is about to be one: only then nobody needs to wait for it.
    pub(crate) is_later: bool,
}

impl Thread {
    /// Reads a request for a response, and puts into it what its answer is to repeat.
    pub(crate) fn take(request: &mut Map, ground: &mut Ground) -> Result<Self, Failure> {
        let Ground {
            id,
            before,
            is_open,
            is_later,
        } = ground;
        for (key, problem) in LATER {
            match request.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(_) => return Err(invalid(key, problem)),
            }
        }
        check_metadata(request)?;
        let keeps = keeps(request, *is_open)?;
        check_background(request, *is_later, keeps)?;
        request.insert("store".to_owned(), keeps.into());
        let previous_id = request
            .get("previous_response_id")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let mut thread = Self {
            draft: keeps.then(|| Draft::of(request.get("input"), previous_id, id)),
            is_tainted: before.is_tainted,
            kept_until: before.kept_until,
            calls_max: calls_max(request)?,
            ..Self::default()
        };
        let mut none = Vec::new();
        let items = match request.get_mut("input") {
            Some(Value::Array(items)) if items.iter().all(Value::is_object) => items,
            // What is neither this nor text is refused where all of it is read.
            _ => &mut none,
        };
        let mut input: Vec<Map> = maps(std::mem::take(items)).collect();
        thread.read(&mut before.items, &mut input)?;
        *items = input.into_iter().map(Value::Object).collect();
        Ok(thread)
    }

    /// Reads what the gateway did before, and makes it fit for the model.
    fn read(&mut self, before: &mut [Map], input: &mut [Map]) -> Result<(), Failure> {
        for item in before.iter_mut().chain(input.iter_mut()) {
            let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            match text("type").as_str() {
                "mcp_list_tools" => {
                    self.listed.insert(text("server_label"));
                }
                "mcp_call" => {
                    self.ran.insert(text("name"));
                    mark(item);
                }
                _ => {}
            }
        }
        self.approved = approval::settle(before, input)?;
        Ok(())
    }
}

/// The objects among these.
fn maps(values: Vec<Value>) -> impl Iterator<Item = Map> {
    values.into_iter().filter_map(|value| match value {
        Value::Object(map) => Some(map),
        _ => None,
    })
}

/// Marks the result of a call as data.
fn mark(call: &mut Map) {
    let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
    let said = ["output", "error"]
        .into_iter()
        .find_map(|key| call.get(key).filter(|value| !value.is_null()));
    if let Some(said) = said {
        let marked = mark_of(id).answer(&dialect::words_of(said));
        call.insert("output".to_owned(), marked.into());
    }
}

/// The mark of what is read for one response, or for an item of it: a number that was drawn when it began, so that
/// nobody who wrote what was found could know it.
pub(super) fn mark_of(id: &str) -> Mark {
    let drawn = id.split('_').find(|part| part.len() == 16);
    let number = drawn.and_then(|part| u64::from_str_radix(part, 16).ok());
    // An id that is not one of ours still gets the same mark each time.
    let folded = || {
        id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    };
    Mark::new(number.unwrap_or_else(folded).to_le_bytes())
}

/// Whether the response is to be kept: it is unless the request or the operator says otherwise.
fn keeps(request: &Map, is_open: bool) -> Result<bool, Failure> {
    match request.get("store") {
        None | Some(Value::Null) => Ok(is_open),
        Some(Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) if is_open => Ok(true),
        Some(Value::Bool(true)) => Err(invalid(
            "store",
            "must be false or left out: this gateway keeps no responses",
        )),
        Some(_) => Err(invalid("store", "must be true or false")),
    }
}

/// A response that nobody waits for has to be there when its client comes back, and in one piece.
fn check_background(request: &Map, is_later: bool, keeps: bool) -> Result<(), Failure> {
    match request.get("background") {
        None | Some(Value::Null | Value::Bool(false)) => return Ok(()),
        Some(Value::Bool(true)) if is_later => {}
        Some(Value::Bool(true)) => {
            let problem = "must be false or left out: this gateway runs no tasks";
            return Err(invalid("background", problem));
        }
        Some(_) => return Err(invalid("background", "must be true or false")),
    }
    if request.get("stream") == Some(&Value::Bool(true)) {
        let problem = "must be false or left out beside `background`: ask for the response by its id until it is there";
        return Err(invalid("stream", problem));
    }
    if !keeps {
        let problem = "must not be false beside `background`: only what is kept can be fetched later";
        return Err(invalid("store", problem));
    }
    Ok(())
}

/// What a client notes about a response is held to the bounds that it has at OpenAI.
fn check_metadata(request: &Map) -> Result<(), Failure> {
    let notes = match request.get("metadata") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(notes)) => notes,
        Some(_) => return Err(invalid("metadata", "must be an object of texts")),
    };
    if notes.len() > NOTES_MAX {
        return Err(invalid(
            "metadata",
            &format!("must not have more than {NOTES_MAX} keys"),
        ));
    }
    for (key, value) in notes {
        if key.chars().count() > NOTE_KEY_CHARS_MAX {
            let problem = format!("must have keys of at most {NOTE_KEY_CHARS_MAX} characters");
            return Err(invalid("metadata", &problem));
        }
        let length = value.as_str().map(|text| text.chars().count());
        if length.is_none_or(|length| length > NOTE_CHARS_MAX) {
            let problem = format!("must be text of at most {NOTE_CHARS_MAX} characters");
            return Err(invalid(&format!("metadata.{}", key.escape_debug()), &problem));
        }
    }
    Ok(())
}

fn calls_max(request: &Map) -> Result<Option<usize>, Failure> {
    match request.get("max_tool_calls") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|count| *count > 0) {
            Some(count) => Ok(usize::try_from(count).ok()),
            None => Err(invalid("max_tool_calls", "must be a whole number from 1")),
        },
    }
}

pub(super) fn invalid(field: &str, expected: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}` {expected}."))
        .hint("docs/openai.md describes what a request for a response may say.")
        .details(json!({ "param": field }))
}
