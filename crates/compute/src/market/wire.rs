//! How one asks a provider over HTTP: once, bounded in time and size, with the key in a header and nowhere else.
//!
//! Nothing here repeats anything. Whether a request reached the provider at all is kept, since only what certainly did
//! not may be taken for not done.

mod pace;
mod read;

pub use pace::{Limit, Pace};
pub use read::{number, rate_per_second, text, timestamp, unsigned, usd};

use super::{CALL_TIME_MAX, MarketFault};
use bytes::{Bytes, BytesMut};
use forebay_runtime::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::Client;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// No answer of a provider is longer than this.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Whoever wants to be asked again later than this is asked when he is asked the next time.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// How a provider wants its key.
#[derive(Debug, Clone)]
pub enum Key {
    /// `Authorization: Bearer …`
    Bearer(Secret),
    /// Alone, in a header of this name.
    Header(HeaderName, Secret),
}

/// One provider's API.
#[derive(Debug, Clone)]
pub struct Api {
    http: Client,
    base: String,
    key: Key,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// From the base address, beginning with a slash, to the last slash.
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    /// Sent as JSON.
    pub body: Option<Value>,
    /// For the whole exchange.
    pub time_max: Duration,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            time_max: CALL_TIME_MAX,
        }
    }

    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub fn within(mut self, time_max: Duration) -> Self {
        self.time_max = time_max;
        self
    }
}

/// What came back, whole, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body, if it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The beginning of the body, for a message.
    pub fn words(&self) -> String {
        let start = &self.body[..self.body.len().min(4_096)];
        MarketFault::words(&String::from_utf8_lossy(start))
    }

    /// What it says of when to ask again: `Retry-After` in seconds, or `retry_after` in the body.
    pub fn retry_after(&self) -> Option<Duration> {
        let header = self.headers.get(header::RETRY_AFTER);
        let header = header.and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok());
        let body = || self.json()?.get("retry_after")?.as_f64();
        let seconds = header.or_else(body).filter(|seconds| *seconds >= 0.0)?;
        let after = Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX);
        Some(after.min(RETRY_AFTER_MAX))
    }
}

/// There was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub why: MarketFault,
    /// Whether the provider may have got the request, and so may have done it.
    pub may_have_arrived: bool,
}

impl Lost {
    fn before(why: MarketFault) -> Self {
        Self {
            why,
            may_have_arrived: false,
        }
    }

    fn after(why: MarketFault) -> Self {
        Self {
            why,
            may_have_arrived: true,
        }
    }
}

impl From<Lost> for MarketFault {
    fn from(lost: Lost) -> Self {
        lost.why
    }
}

impl Api {
    /// `base` is the operator's; a path in it is kept, which a proxy in front of a provider may need.
    pub fn new(http: Client, base: &Url, key: Key) -> Self {
        Self {
            http,
            base: base.as_str().trim_end_matches('/').to_owned(),
            key,
        }
    }

    /// Asks once, with the key, and reads the whole answer.
    pub async fn send(&self, call: Call) -> Result<Answer, Lost> {
        let request = self.request(&call)?;
        let exchange = async { read_whole(self.http.execute(request).await.map_err(lost)?).await };
        timeout(call.time_max, exchange)
            .await
            .unwrap_or_else(|_| Err(too_late(&call)))
    }

    /// Asks once, with the key; whoever asked reads the answer, and bounds that.
    pub async fn open(&self, call: Call) -> Result<reqwest::Response, Lost> {
        let request = self.request(&call)?;
        let answer = timeout(call.time_max, self.http.execute(request)).await;
        match answer {
            Ok(answer) => answer.map_err(lost),
            Err(_) => Err(too_late(&call)),
        }
    }

    fn request(&self, call: &Call) -> Result<reqwest::Request, Lost> {
        let (name, value) = self.credential()?;
        let mut request = self
            .http
            .request(call.method.clone(), format!("{}{}", self.base, call.path))
            .header(header::ACCEPT, "application/json")
            .header(name, value);
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        request.build().map_err(|error| {
            let why = format!("its address cannot be used: {}", error.without_url());
            Lost::before(MarketFault::Unreachable(why))
        })
    }

    fn credential(&self) -> Result<(HeaderName, HeaderValue), Lost> {
        let (name, text) = match &self.key {
            Key::Bearer(secret) => (header::AUTHORIZATION, format!("Bearer {}", secret.expose())),
            Key::Header(name, secret) => (name.clone(), secret.expose().to_owned()),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| {
            let why = "the configured key has characters that no header can carry";
            Lost::before(MarketFault::LockedOut(why.to_owned()))
        })?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

fn too_late(call: &Call) -> Lost {
    let seconds = call.time_max.as_secs();
    Lost::after(MarketFault::Unreachable(format!(
        "it did not answer within {seconds} s"
    )))
}

/// The cause goes without its URL, whose query may hold what is nobody's business.
fn lost(error: reqwest::Error) -> Lost {
    if error.is_connect() {
        // No connection, no request.
        return Lost::before(MarketFault::Unreachable("no connection could be made".to_owned()));
    }
    let error = error.without_url();
    let why = if error.is_timeout() {
        "it did not answer in time".to_owned()
    } else {
        MarketFault::words(&format!("the connection ended without an answer ({error})"))
    };
    Lost::after(MarketFault::Unreachable(why))
}

async fn read_whole(mut answer: reqwest::Response) -> Result<Answer, Lost> {
    let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
    let mut body = BytesMut::new();
    loop {
        let chunk = answer.chunk().await.map_err(|_| {
            let why = "it broke off in the middle of its answer";
            Lost::after(MarketFault::Unreachable(why.to_owned()))
        })?;
        let Some(chunk) = chunk else { break };
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            let why = format!("its answer has more than {ANSWER_BYTES_MAX} bytes");
            return Err(Lost::after(MarketFault::Broken(why)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status,
        headers,
        body: body.freeze(),
    })
}
