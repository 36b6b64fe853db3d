//! The most that a request can come to, told from its text alone. Pure.
//!
//! **Input.** A token has at least one byte, and no template of a chat writes a request longer than it is as JSON with an
//! indent of four, which is how the wordiest of them write tools; beside that a template has words of its own. So that
//! length is the bound. It is several times what most texts come to, and it is never below: characters divided by four
//! are below for Chinese, for code, and for whoever wants them to be. A picture counts as the most that any known engine
//! makes of one, whatever its size; a recording by its bytes. What lies elsewhere (a file by its id, a film by its
//! address), what an engine fetches by itself and what a template of the client's own may repeat have no bound here:
//! there the length of the model's context is one, where the operator has told it.
//!
//! **Output.** What the request allows, for each of the answers that it wants. Engines have names of their own for that
//! limit, and the largest that any of them may read counts.

use super::{fields, price::Tokens};
use crate::dialect::Map;
use forebay_domain::{Code, Failure, model::Endpoint};
use serde_json::{Value, json};

/// A template's own words: a default prompt for the system, today's date, marks around messages.
const OWN_WORDS: u64 = 512;
/// What templates and vendors say about tools as such.
const WORDS_ON_TOOLS: u64 = 1_024;
/// A tool that the vendor describes by itself.
const WORDS_ON_A_VENDORS_TOOL: u64 = 1_024;
/// The most that a vendor takes for one picture is 48,169: a large one, of which each part counts apart.
const IMAGE_TOKENS: u64 = 49_152;
/// Speech has at least 8 kbit/s where it is compressed the most, and is read with at most 50 tokens a second: base64 has 26
/// characters for one of those.
const AUDIO_CHARACTERS_A_TOKEN: u64 = 16;
const AUDIO_TOKENS: u64 = 1_024;
const INDENT: u64 = 4;

/// The limits of the APIs, and those that some engines know beside them.
const LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
const OTHER_LIMITS: [&str; 2] = ["n_predict", "max_new_tokens"];
/// How many answers are wanted, in the words of the APIs and of llama.cpp.
const ANSWERS: [&str; 3] = ["n", "best_of", "n_cmpl"];

/// Fields of a request that make its size depend on something else.
const OPEN_FIELDS: [&str; 9] = [
    "chat_template",
    "container",
    "mcp_servers",
    "media_io_kwargs",
    "mm_processor_kwargs",
    "plugins",
    "prompt_embeds",
    "search_parameters",
    "web_search_options",
];
/// Members of a message that stand for something that is not in the request, or is packed.
const OPEN_PARTS: [&str; 10] = [
    "audio",
    "audio_embeds",
    "audio_url",
    "file",
    "file_data",
    "file_id",
    "file_url",
    "image_embeds",
    "video",
    "video_url",
];
/// Members that stand for something whose size is known.
const PARTS: [&str; 4] = ["image", "image_url", "input_audio", "source"];
/// What stands below these is data of the client's own, in which nothing is looked for.
const DATA: [&str; 9] = [
    "arguments",
    "function_call",
    "functions",
    "input_schema",
    "metadata",
    "parameters",
    "response_format",
    "tool_calls",
    "tools",
];
/// Tools of a vendor's that the client runs.
const VENDORS_TOOLS: [&str; 4] = ["bash_", "computer_", "memory_", "text_editor_"];

/// The most that one request can come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    input: u64,
    /// What of the input has no bound in the request itself.
    open: Option<String>,
    /// Texts that are read each for itself.
    texts: u64,
    answers: u64,
    /// The limit of each answer that the request sets.
    each: Option<u64>,
    /// A limit that only some engines read.
    other: u64,
    /// What an answer is expected to say, which is paid for where it does not.
    predicted: u64,
    has_output: bool,
    is_plain: bool,
}

impl Bound {
    /// Reads a request, in the API of its endpoint or in the canonical form. Refuses what could be read in two ways.
    pub(crate) fn of(endpoint: Endpoint, request: &Map) -> Result<Self, Failure> {
        fields::check(request, &[&LIMITS, &OTHER_LIMITS, &ANSWERS, &OPEN_FIELDS])?;
        let mut reader = Reader::default();
        reader.request(request);
        let answers = largest(request, &ANSWERS)?.unwrap_or(1);
        let texts = match endpoint {
            Endpoint::Completions => several(request.get("prompt")),
            Endpoint::Embeddings => several(request.get("input")),
            Endpoint::Chat | Endpoint::Responses | Endpoint::Messages => 1,
        };
        let prediction = request.get("prediction").filter(|prediction| !prediction.is_null());
        Ok(Self {
            input: reader.tokens(),
            open: reader.open,
            texts,
            answers: answers.max(1).saturating_mul(texts),
            each: largest(request, &LIMITS)?,
            other: largest(request, &OTHER_LIMITS)?.unwrap_or(0),
            predicted: prediction.map_or(0, length),
            has_output: endpoint != Endpoint::Embeddings,
            is_plain: fields::is_plain(request),
        })
    }

    /// Whether nothing in the request makes an engine work without a word.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// A bound for what nobody limits: good enough for an estimate.
    pub(crate) fn of_bytes(bytes: usize) -> Tokens {
        Tokens::new(bytes as u64, 0)
    }

    /// The limit of each answer, where the request would have `unless_said` set for it otherwise.
    pub(crate) fn each(&self, unless_said: u64) -> u64 {
        self.each.unwrap_or(unless_said)
    }

    /// All of it, for a model with such a context. Fails with what has no bound.
    pub(crate) fn tokens(&self, each: u64, context: Option<u64>) -> Result<Tokens, &str> {
        let input = match (&self.open, context) {
            (None, None) => self.input,
            (None, Some(context)) => self.input.min(context.saturating_mul(self.texts)),
            (Some(_), Some(context)) => context.saturating_mul(self.texts),
            (Some(what), None) => return Err(what),
        };
        let each = each.max(self.other).saturating_add(self.predicted);
        let each = each.min(context.unwrap_or(u64::MAX));
        let output = if self.has_output {
            each.saturating_mul(self.answers)
        } else {
            0
        };
        Ok(Tokens::new(input, output))
    }
}

fn largest(request: &Map, fields: &[&str]) -> Result<Option<u64>, Failure> {
    let mut largest = None;
    for field in fields {
        largest = largest.max(count(request, field)?);
    }
    Ok(largest)
}

/// A count, which engines may read where it is written as `-1` or `1e3`, and each as it likes.
fn count(request: &Map, field: &str) -> Result<Option<u64>, Failure> {
    match request.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            let message = format!("`{field}` must be a whole number, since a budget counts for this request.");
            Failure::new(Code::InvalidRequest, message)
                .hint("Write it as digits alone, or leave it out.")
                .details(json!({ "param": field }))
        }),
    }
}

/// How many texts there are: one, or a list of texts or of lists of tokens.
fn several(texts: Option<&Value>) -> u64 {
    match texts {
        Some(Value::Array(several)) if several.iter().any(|one| !one.is_number()) => several.len() as u64,
        _ => 1,
    }
}

fn length(value: &Value) -> u64 {
    let mut reader = Reader::default();
    reader.value(value, 0, Place::Data);
    reader.length
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// What somebody says: there may be pictures in it.
    Said,
    /// Anything else.
    Data,
}

#[derive(Default)]
struct Reader {
    /// Bytes of the request as JSON with an indent.
    length: u64,
    /// Tokens beside those.
    beside: u64,
    open: Option<String>,
}

impl Reader {
    fn tokens(&self) -> u64 {
        OWN_WORDS.saturating_add(self.length).saturating_add(self.beside)
    }

    fn request(&mut self, request: &Map) {
        self.fields(request);
        // What only Anthropic's API can say stands apart in the canonical form.
        if let Some(Value::Object(apart)) = request.get("anthropic") {
            self.fields(apart);
        }
        if let Some(Value::Array(tools)) = request.get("tools") {
            self.beside += if tools.is_empty() { 0 } else { WORDS_ON_TOOLS };
            for tool in tools {
                self.tool(tool);
            }
        }
        if request.get("functions").is_some_and(Value::is_array) {
            self.beside += WORDS_ON_TOOLS;
        }
        self.members(request, 0, |key, _| place(key));
    }

    fn fields(&mut self, request: &Map) {
        let is_there = |field: &&&str| request.get(**field).is_some_and(|value| !value.is_null());
        if let Some(field) = OPEN_FIELDS.iter().find(is_there) {
            self.open(field);
        }
    }

    /// What a vendor offers of its own it describes by itself; what it also runs by itself reads as much as it likes.
    fn tool(&mut self, tool: &Value) {
        let own = tool.get("anthropic").unwrap_or(tool);
        match own["type"].as_str() {
            None | Some("function" | "custom" | "mcp") => {}
            Some(kind) if VENDORS_TOOLS.iter().any(|known| kind.starts_with(known)) => {
                self.beside += WORDS_ON_A_VENDORS_TOOL;
            }
            Some(kind) => self.open(kind),
        }
    }

    fn open(&mut self, what: &str) {
        self.open.get_or_insert_with(|| what.to_owned());
    }

    fn value(&mut self, value: &Value, depth: u64, place: Place) {
        match value {
            Value::Null | Value::Bool(_) => self.length += 5,
            Value::Number(number) => self.length += number.to_string().len() as u64,
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                for item in items {
                    self.line(depth + 1);
                    self.value(item, depth + 1, place);
                }
                self.line(depth);
            }
            Value::Object(members) => {
                let skipped = if place == Place::Said { self.part(members) } else { None };
                let within = |key: &str, value: &Value| {
                    (Some(key) != skipped).then(|| match place {
                        Place::Said if DATA.contains(&key) || (key == "input" && value.is_object()) => Place::Data,
                        other => other,
                    })
                };
                self.members(members, depth, within);
            }
        }
    }

    /// The members of an object; `within` says what each of them is, and `None` where it counts otherwise.
    fn members(&mut self, members: &Map, depth: u64, within: impl Fn(&str, &Value) -> Option<Place>) {
        for (key, value) in members {
            self.line(depth + 1);
            self.text(key);
            self.length += 2;
            if let Some(place) = within(key, value) {
                self.value(value, depth + 1, place);
            }
        }
        self.line(depth);
    }

    /// A line's end, its indent, and a bracket or comma.
    fn line(&mut self, depth: u64) {
        self.length += 2 + INDENT * depth;
    }

    fn text(&mut self, text: &str) {
        let written = |byte: u8| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
            0..0x20 => 6,
            _ => 1,
        };
        self.length += 2 + text.bytes().map(written).sum::<u64>();
    }

    /// Looks for what is no text in a part of what somebody says, and gives the member that holds its bytes.
    fn part(&mut self, part: &Map) -> Option<&'static str> {
        for key in ["image_url", "image"] {
            if let Some(address) = part.get(key).and_then(address) {
                self.beside += IMAGE_TOKENS;
                return address.starts_with("data:").then_some(key);
            }
        }
        if let Some(data) = part.get("input_audio").and_then(|audio| audio["data"].as_str()) {
            self.beside += AUDIO_TOKENS + data.len() as u64 / AUDIO_CHARACTERS_A_TOKEN;
            return Some("input_audio");
        }
        if let Some(source) = part.get("source").filter(|source| source.is_object()) {
            let is_image = part.get("type").is_some_and(|kind| kind == "image");
            match source["type"].as_str() {
                Some("text" | "content") => {}
                _ if is_image => {
                    self.beside += IMAGE_TOKENS;
                    return Some("source");
                }
                _ => self.open("source"),
            }
        }
        let is_there = |key: &&&str| {
            part.get(**key)
                .is_some_and(|value| value.is_string() || value.is_object())
        };
        if let Some(key) = OPEN_PARTS.iter().find(is_there) {
            self.open(key);
        }
        let known = || OPEN_PARTS.into_iter().chain(PARTS);
        if let Some(key) = part.keys().find(|key| fields::alike(key, known()).is_some()) {
            self.open(key);
        }
        None
    }
}

#[expect(clippy::unnecessary_wraps, reason = "nothing of a request itself counts otherwise")]
fn place(key: &str) -> Option<Place> {
    Some(if DATA.contains(&key) { Place::Data } else { Place::Said })
}

/// Where a picture is: as text, or as an object with it.
fn address(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("url")?.as_str())
}

#[cfg(test)]
mod tests;
