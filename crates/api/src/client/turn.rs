//! A question with what the gateway is to do about it: look up context, run tools.

use super::{Client, ClientError, WORK_MAX, chat::ChatMessage};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A question to a model, with providers of context and tools of the gateway by their names.
#[derive(Debug, Clone)]
pub struct TurnRequest {
    pub model: String,
    pub messages: Vec<ChatMessage>,
    pub providers: Vec<String>,
    pub tools: Vec<String>,
    pub max_tokens: Option<u32>,
}

impl TurnRequest {
    /// As the API words it.
    pub fn body(&self) -> Map<String, Value> {
        let mut body = Map::from_iter([
            ("model".to_owned(), json!(self.model)),
            ("messages".to_owned(), json!(self.messages)),
        ]);
        if !self.providers.is_empty() {
            body.insert("mcp_context".to_owned(), json!({ "providers": self.providers }));
        }
        if !self.tools.is_empty() {
            let tool = |name: &String| json!({ "type": "function", "function": { "name": name } });
            body.insert("tools".to_owned(), self.tools.iter().map(tool).collect());
        }
        if let Some(tokens) = self.max_tokens {
            body.insert("max_tokens".to_owned(), tokens.into());
        }
        body
    }
}

/// What the model said, and what went into it.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnAnswer {
    pub content: Option<String>,
    pub finish_reason: Option<String>,
    /// The tools whose calls came back instead of running here.
    pub calls: Vec<String>,
    pub report: TurnReport,
}

/// The object `forebay` of an answer. A gateway that had nothing to do leaves it out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TurnReport {
    pub context: Vec<TurnItem>,
    pub providers: Vec<TurnProvider>,
    pub tools: Vec<TurnTool>,
    pub usage: Option<Value>,
    pub trace_id: Option<String>,
    /// Which bound ended the turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// A piece of context that the model was shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnItem {
    pub provider: String,
    pub id: String,
    pub source: String,
    #[serde(default)]
    pub title: Option<String>,
    pub score: f64,
}

/// How one provider did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnProvider {
    pub provider: String,
    pub ms: u64,
    pub items: usize,
    pub from_cache: bool,
    pub strategy: String,
    #[serde(default)]
    pub failure: Option<TurnFailure>,
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnTool {
    pub name: String,
    #[serde(default)]
    pub server: Option<String>,
    /// `success`, `error`, `refused`, `approval_required` or `put_off`.
    pub status: String,
    pub ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnFailure>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnFailure {
    pub code: String,
    pub message: String,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    #[serde(default)]
    forebay: TurnReport,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
}

impl Client {
    /// Asks, and waits for the whole answer.
    pub async fn turn(&self, wanted: &TurnRequest) -> Result<TurnAnswer, ClientError> {
        let request = self.request(Method::POST, "/v1/chat/completions").timeout(WORK_MAX);
        let answer: Answer = self.json(request.json(&wanted.body())).await?;
        let report = answer.forebay;
        let Some(Choice { message, finish_reason }) = answer.choices.into_iter().next() else {
            return Ok(TurnAnswer {
                content: None,
                finish_reason: None,
                calls: Vec::new(),
                report,
            });
        };
        let calls = message.tool_calls.into_iter().flatten();
        Ok(TurnAnswer {
            content: message.content,
            finish_reason,
            calls: calls.map(|call| call.function.name).collect(),
            report,
        })
    }
}
