//! A typed client of a gateway: its own API, its models and its tools.
//!
//! Every answer is bounded in time and size, and every failure is a [`ClientError`] in the gateway's own terms.

mod chat;
mod declared;
mod error;
mod gpu;
mod money;
mod tasks;
mod tools;
mod turn;
mod upstreams;

pub use chat::{ChatMessage, ChatRequest};
pub use error::ClientError;
pub use tools::{ToolInfo, ToolResult};
pub use turn::{TurnAnswer, TurnFailure, TurnItem, TurnProvider, TurnReport, TurnRequest, TurnTool};

use crate::wire::{
    AuditReport, EventList, EventQuery, ExplainQuery, Explanation, Health, KeyCreate, KeyCreated, KeyInfo, KeyList,
    KeyQuery, RouteExplanation, RouteQuery, Status, TraceExplanation,
};
use bytes::{Bytes, BytesMut};
use forebay_domain::Code;
use futures_util::StreamExt;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;
use url::{Url, form_urlencoded::byte_serialize};

/// How long an answer of Forebay's own API may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a tool or a model may take; the gateway has limits of its own below this.
const WORK_MAX: Duration = Duration::from_hours(1);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One gateway as one caller sees it.
#[derive(Clone)]
pub struct Client {
    /// Without a slash at its end.
    base: String,
    bearer: Option<HeaderValue>,
    http: reqwest::Client,
}

impl Client {
    /// A gateway at `base`. Without a key only the anonymous routes answer.
    pub fn new(base: &Url, key: Option<&str>, http: reqwest::Client) -> Result<Self, ClientError> {
        let bearer = key.map(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| {
                let detail = "The key cannot be sent: it has characters that no key has.";
                ClientError::new(Code::InvalidKey, detail).hint("Copy the key again, without line breaks.")
            })?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            base: base.as_str().trim_end_matches('/').to_owned(),
            bearer: bearer.transpose()?,
            http,
        })
    }

    pub async fn health(&self) -> Result<Health, ClientError> {
        let response = self.exchange(self.request(Method::GET, "/health")).await?;
        // An ailing gateway answers 503 with the same body.
        let status = response.status();
        let body = self.body(response).await?;
        if status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE {
            self.parse(status, &body)
        } else {
            Err(self.refused(status, &body))
        }
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        self.json(self.request(Method::GET, "/api/v1/status")).await
    }

    pub async fn create_key(&self, wanted: &KeyCreate) -> Result<KeyCreated, ClientError> {
        self.json(self.request(Method::POST, "/api/v1/keys").json(wanted)).await
    }

    pub async fn keys(&self, query: &KeyQuery) -> Result<KeyList, ClientError> {
        self.json(self.request(Method::GET, "/api/v1/keys").query(query)).await
    }

    pub async fn revoke_key(&self, id: &str) -> Result<KeyInfo, ClientError> {
        let path = format!("/api/v1/keys/{}", byte_serialize(id.as_bytes()).collect::<String>());
        self.json(self.request(Method::DELETE, &path)).await
    }

    pub async fn events(&self, query: &EventQuery) -> Result<EventList, ClientError> {
        self.json(self.request(Method::GET, "/api/v1/events").query(query))
            .await
    }

    pub async fn audit(&self, query: &EventQuery) -> Result<EventList, ClientError> {
        self.json(self.request(Method::GET, "/api/v1/audit").query(query)).await
    }

    pub async fn verify_audit(&self) -> Result<AuditReport, ClientError> {
        // The whole trail is read, which may take a while.
        self.json(self.request(Method::GET, "/api/v1/audit/verify").timeout(WORK_MAX))
            .await
    }

    /// Why an action is allowed or not; for the caller's own key, or for another.
    pub async fn explain(&self, action: &str, key: Option<&str>) -> Result<Explanation, ClientError> {
        let query = ExplainQuery {
            action: Some(action.to_owned()),
            key: key.map(str::to_owned),
            trace: None,
        };
        self.json(self.request(Method::GET, "/api/v1/explain").query(&query))
            .await
    }

    pub async fn explain_trace(&self, trace: &str) -> Result<TraceExplanation, ClientError> {
        let query = ExplainQuery {
            trace: Some(trace.to_owned()),
            ..ExplainQuery::default()
        };
        self.json(self.request(Method::GET, "/api/v1/explain").query(&query))
            .await
    }

    /// Where a request to a model would go now, and why.
    pub async fn explain_route(&self, model: &str) -> Result<RouteExplanation, ClientError> {
        let query = RouteQuery {
            model: model.to_owned(),
        };
        let path = "/api/v1/explain/route";
        self.json(self.request(Method::GET, path).query(&query)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .timeout(ANSWER_MAX);
        let mut headers = HeaderMap::new();
        if let Some(bearer) = &self.bearer {
            headers.insert("authorization", bearer.clone());
        }
        request.headers(headers)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.exchange(request).await?;
        let status = response.status();
        let body = self.body(response).await?;
        if status.is_success() {
            self.parse(status, &body)
        } else {
            Err(self.refused(status, &body))
        }
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request
            .send()
            .await
            .map_err(|error| ClientError::unreached(&self.base, error))
    }

    async fn body(&self, response: Response) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| ClientError::unreached(&self.base, error))?;
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let detail = format!("The answer of {} has more than {ANSWER_BYTES_MAX} bytes.", self.base);
                return Err(ClientError::new(Code::UpstreamTruncated, detail));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn parse<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| ClientError::stranger(&self.base, status).caused_by(error))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        ClientError::read(body).unwrap_or_else(|| ClientError::stranger(&self.base, status))
    }
}

/// Serializes what the API takes as a body, for callers that build their own request.
fn json_body(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with text keys is JSON")
}
