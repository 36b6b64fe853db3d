//! One model, five ways to ask it: conversion between the APIs of clients and of upstreams. Pure: bytes and JSON in,
//! bytes and JSON out.
//!
//! Everything goes by way of one canonical form, OpenAI's chat completion as plain JSON. Fields that this module does
//! not know survive wherever the other side has a place for them. It refuses to guess: what has no place and would
//! change the answer is refused by name, never dropped. Where client and upstream speak the same API ([`native`]),
//! nothing needs converting and nothing should be: raw bytes keep what JSON values do not (the order of keys, the way
//! numbers are written).
//!
//! What only Anthropic's API can say stands under the key `anthropic` of the canonical object it belongs to, goes back
//! to its place for an Anthropic upstream, and stays out of what an OpenAI upstream gets.
//!
//! | from | has no place | what becomes of it |
//! |---|---|---|
//! | Completions | `suffix`, `echo`, `best_of` > `n`, token numbers, several prompts | refused |
//! | Completions | no `max_tokens` | 16, as that API says |
//! | Responses | `previous_response_id`, `conversation`, `prompt`, `background`, `item_reference` | refused: to be settled before |
//! | Responses | `store`, `metadata`, `include`, `truncation`, `max_tool_calls` | the gateway's own; not sent upstream |
//! | Responses | `reasoning.summary`, `mcp_list_tools`, `mcp_approval_*`, `web_search_call` | dropped |
//! | Responses | `mcp_call` of an earlier answer | a tool call and its result |
//! | Responses | `file_id`, items of OpenAI's own tools | refused |
//! | Responses | tools of other types than `function` and `custom` | stay as they are; refused if they reach an upstream |
//! | Messages → OpenAI | `container`, `mcp_servers`, `inference_geo`, tools and blocks of Anthropic's own | refused |
//! | Messages → OpenAI | `thinking`, signatures, `cache_control`, `is_error`, `service_tier`, `speed`, … | dropped |
//! | Messages → OpenAI | pictures in a tool's result | in a message of the user right after it |
//! | Messages → OpenAI | a last message of the assistant | `continue_final_message`, as engines call it |
//! | chat → Anthropic | `n` > 1, `logprobs`, penalties, `logit_bias`, audio, `functions`, `response_format` `json_object` | refused |
//! | chat → Anthropic | `seed`, `store`, `metadata`, `verbosity`, `service_tier`, `prediction`, cache hints, a message's `name`, unsigned `reasoning_content` | dropped |
//! | chat → Anthropic | `response_format` `json_schema`, `reasoning_effort` | `output_config` |
//! | chat → Anthropic | system messages anywhere | `system`, in their order |
//! | chat → Anthropic | no limit of tokens | 4096 |
//! | chat → Anthropic | characters in ids of calls other than letters, digits, `_`, `-` | `_` |
//! | Anthropic's answer | citations, blocks of its own tools | dropped |
//! | anything → OpenAI | `parallel_tool_calls`, a free `tool_choice`, where there are no tools | dropped: engines refuse them |
//! | chat's answer | further choices | dropped, but for Completions |

#[cfg(test)]
mod clients;
mod completions;
mod delta;
mod field;
mod frame;
mod gather;
#[cfg(test)]
mod golden;
mod messages;
mod openai;
mod part;
#[cfg(test)]
mod properties;
mod responses;
mod stream;
mod usage;

pub(crate) use field::Map;
pub(crate) use gather::Gathered;
pub(crate) use responses::{Deed, Errand, unfinished, words_of};
pub(crate) use stream::{FromUpstream, ToClient};

use crate::answer;
use field::refused;
use forebay_domain::{Failure, model::Endpoint};
use serde_json::Value;

/// Where the canonical form keeps what only Anthropic's API can say.
const ANTHROPIC: &str = "anthropic";

/// The APIs that upstreams speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Upstream {
    OpenAi,
    Anthropic,
}

impl Upstream {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 2] = [Self::OpenAi, Self::Anthropic];

    /// The endpoint that is asked with a canonical request.
    pub(crate) fn endpoint(self) -> Endpoint {
        match self {
            Self::OpenAi => Endpoint::Chat,
            Self::Anthropic => Endpoint::Messages,
        }
    }
}

/// Why what an upstream said is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The upstream failed, and perhaps said why.
    Reported(Option<String>),
    /// Not what its API looks like.
    Nonsense,
    /// It ended before the model had finished.
    Unfinished,
    /// The model called a tool with arguments that are no JSON object, which this client's API cannot even say.
    Arguments,
}

/// What an answer has to know of its request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) endpoint: Endpoint,
    /// Names this one answer: letters and digits. The API's prefix goes in front.
    pub(crate) id: String,
    pub(crate) created_s: u64,
    /// The model as the client calls it.
    pub(crate) model: String,
    /// Whether a stream of one of OpenAI's older APIs tells the usage.
    pub(crate) include_usage: bool,
    /// Whether nobody waits for the response: its client comes back for it.
    pub(crate) background: bool,
    /// The fields of a request for a response that the response repeats.
    pub(crate) echo: Map,
}

impl Asked {
    /// Reads the request as the client sent it.
    pub(crate) fn new(endpoint: Endpoint, request: &Map, id: String, created_s: u64) -> Self {
        let options = request.get("stream_options");
        Self {
            endpoint,
            id,
            created_s,
            model: field::text_at(request, "model").unwrap_or_default().to_owned(),
            include_usage: options.is_some_and(|options| options["include_usage"] == true),
            background: endpoint == Endpoint::Responses && request.get("background") == Some(&Value::Bool(true)),
            echo: match endpoint {
                Endpoint::Responses => responses::echo(request),
                Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings | Endpoint::Messages => Map::new(),
            },
        }
    }

    /// The answer's id as the client sees it.
    pub(crate) fn answer_id(&self) -> String {
        let prefix = match self.endpoint {
            Endpoint::Chat => "chatcmpl-",
            Endpoint::Completions => "cmpl-",
            Endpoint::Embeddings => "embd-",
            Endpoint::Responses => "resp_",
            Endpoint::Messages => "msg_",
        };
        format!("{prefix}{}", self.id)
    }
}

/// Whether an upstream understands this endpoint's requests, and answers in its form, as they are.
pub(crate) fn native(endpoint: Endpoint, upstream: Upstream) -> bool {
    match endpoint {
        Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings => upstream == Upstream::OpenAi,
        Endpoint::Responses => false,
        Endpoint::Messages => upstream == Upstream::Anthropic,
    }
}

/// A client's request in the canonical form.
pub(crate) fn request_to_chat(endpoint: Endpoint, request: Map) -> Result<Map, Failure> {
    match endpoint {
        Endpoint::Chat => Ok(request),
        Endpoint::Completions => completions::request_to_chat(request),
        Endpoint::Embeddings => Err(refused("input", "cannot be embedded by a model that can only chat")),
        Endpoint::Responses => response_to_chat(Vec::new(), request),
        Endpoint::Messages => messages::request_to_chat(request),
    }
}

/// A request for a response that goes on with the conversation before it, in the canonical form.
pub(crate) fn response_to_chat(before: Vec<Map>, request: Map) -> Result<Map, Failure> {
    responses::to_chat(before, request)
}

/// A canonical request as an upstream takes it, at [`Upstream::endpoint`].
pub(crate) fn chat_to_upstream(upstream: Upstream, chat: Map) -> Result<Map, Failure> {
    match upstream {
        Upstream::OpenAi => openai::from_chat(chat),
        Upstream::Anthropic => messages::from_chat(chat),
    }
}

/// An upstream's whole answer in the canonical form. `created_s` is now, for an upstream that does not tell it.
pub(crate) fn upstream_to_chat(upstream: Upstream, answer: Map, created_s: u64) -> Result<Map, Broken> {
    match upstream {
        Upstream::OpenAi if is_error(&answer) => Err(reported(&answer.into())),
        Upstream::OpenAi => match answer.get("choices").and_then(Value::as_array) {
            Some(choices) if choices.first().is_some_and(Value::is_object) => Ok(answer),
            _ => Err(Broken::Nonsense),
        },
        Upstream::Anthropic => messages::from_upstream(answer, created_s),
    }
}

/// A whole canonical answer as the client asked for it.
pub(crate) fn chat_to_answer(mut chat: Map, asked: &Asked) -> Result<Map, Broken> {
    match asked.endpoint {
        Endpoint::Chat | Endpoint::Embeddings => {
            chat.insert("id".to_owned(), asked.answer_id().into());
            chat.insert("model".to_owned(), asked.model.as_str().into());
            Ok(chat)
        }
        Endpoint::Completions => Ok(completions::chat_to_answer(chat, asked)),
        Endpoint::Responses => responses::whole(chat, asked),
        Endpoint::Messages => messages::whole(chat, asked),
    }
}

/// Whether a document or an event is an error, in any of the forms that engines use.
fn is_error(document: &Map) -> bool {
    document.get("error").is_some_and(|error| !error.is_null())
        || ["object", "type"]
            .iter()
            .any(|key| document.get(*key).is_some_and(|value| value == "error"))
}

fn reported(document: &Value) -> Broken {
    Broken::Reported(answer::engine_message(&document.to_string()))
}
