//! Models: which there are, and what one of them answers.

use super::{ANSWER_BYTES_MAX, Client, ClientError, WORK_MAX, json_body};
use bytes::Bytes;
use forebay_domain::Code;
use futures_util::{Stream, StreamExt, stream};
use reqwest::{Method, Response, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sse_stream::{Sse, SseStream};

/// A question to a model.
#[derive(Debug, Clone, Serialize)]
pub struct ChatRequest {
    pub model: String,
    pub messages: Vec<ChatMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

impl ChatRequest {
    /// As the API words it.
    pub fn body(&self, stream: bool) -> Map<String, Value> {
        let Ok(Value::Object(mut body)) = serde_json::to_value(self) else {
            unreachable!("a request is a JSON object")
        };
        body.insert("stream".to_owned(), stream.into());
        body
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    pub content: String,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<ModelName>,
}

#[derive(Deserialize)]
struct ModelName {
    id: String,
}

/// A whole answer, or one piece of it; only the text of it.
#[derive(Deserialize)]
struct Piece {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Words,
}

#[derive(Deserialize)]
struct Words {
    content: Option<String>,
}

impl Piece {
    fn text(self) -> String {
        self.choices
            .into_iter()
            .find_map(|choice| choice.message.content)
            .unwrap_or_default()
    }
}

impl Client {
    /// The names of the models that the caller may ask.
    pub async fn models(&self) -> Result<Vec<String>, ClientError> {
        let models: Models = self.json(self.request(Method::GET, "/v1/models")).await?;
        Ok(models.data.into_iter().map(|model| model.id).collect())
    }

    /// The answer as one text.
    pub async fn chat(&self, request: &ChatRequest) -> Result<String, ClientError> {
        let response = self.ask(request, false).await?;
        let status = response.status();
        let body = self.body(response).await?;
        self.parse(status, &body).map(Piece::text)
    }

    /// The answer piece by piece, as the model gives it. Dropping the stream cancels the rest.
    pub async fn chat_streamed(
        &self,
        request: &ChatRequest,
    ) -> Result<impl Stream<Item = Result<String, ClientError>> + use<>, ClientError> {
        let response = self.ask(request, true).await?;
        let base = self.base.clone();
        let mut room = ANSWER_BYTES_MAX;
        let bytes = response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| ClientError::unreached(&base, error))?;
            room = room.checked_sub(chunk.len()).ok_or_else(too_long)?;
            Ok::<Bytes, ClientError>(chunk)
        });
        Ok(texts(SseStream::from_bytes_stream(bytes)))
    }

    async fn ask(&self, request: &ChatRequest, stream: bool) -> Result<Response, ClientError> {
        let http = self
            .request(Method::POST, "/v1/chat/completions")
            .timeout(WORK_MAX)
            .header(header::CONTENT_TYPE, "application/json")
            .body(json_body(&request.body(stream)));
        let response = self.exchange(http).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.body(response).await?;
        Err(self.refused(status, &body))
    }
}

/// The texts of the events up to `[DONE]`. A stream that ends without it broke off.
fn texts(
    events: impl Stream<Item = Result<Sse, sse_stream::Error>> + Unpin,
) -> impl Stream<Item = Result<String, ClientError>> {
    stream::unfold(Some(events), |open| async move {
        let mut events = open?;
        loop {
            let event = match events.next().await {
                None => return Some((Err(broken_off()), None)),
                Some(Err(error)) => return Some((Err(broken_off().caused_by(error)), None)),
                Some(Ok(event)) => event,
            };
            match read(&event) {
                Read::Text(text) => return Some((Ok(text), Some(events))),
                Read::Nothing => {}
                Read::Failed(error) => return Some((Err(error), None)),
                Read::Done => return None,
            }
        }
    })
}

enum Read {
    Text(String),
    Nothing,
    Failed(ClientError),
    Done,
}

fn read(event: &Sse) -> Read {
    let Some(data) = event.data.as_deref() else {
        return Read::Nothing;
    };
    if data.trim() == "[DONE]" {
        return Read::Done;
    }
    if let Ok(piece) = serde_json::from_str::<Piece>(data) {
        let text = piece.text();
        return if text.is_empty() {
            Read::Nothing
        } else {
            Read::Text(text)
        };
    }
    match ClientError::read(data.as_bytes()) {
        Some(error) => Read::Failed(error),
        None => Read::Nothing,
    }
}

fn broken_off() -> ClientError {
    ClientError::new(Code::UpstreamTruncated, "The answer broke off before its end.").hint("Try again.")
}

fn too_long() -> ClientError {
    ClientError::new(
        Code::UpstreamTruncated,
        format!("The answer has more than {ANSWER_BYTES_MAX} bytes."),
    )
}
