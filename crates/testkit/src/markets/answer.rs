//! What comes to a fake provider, and what goes back.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

/// One request that a provider understands.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// By which scripts and logs know it.
    pub name: &'static str,
    pub method: &'static str,
    /// To the last slash; `{}` is one segment, whatever it says.
    pub path: &'static str,
}

impl Route {
    pub const fn new(name: &'static str, method: &'static str, path: &'static str) -> Self {
        Self { name, method, path }
    }

    /// The segments that stand for `{}`, if the path fits.
    pub(super) fn parameters(&self, path: &str) -> Option<Vec<String>> {
        let (mut wanted, mut given) = (self.path.split('/'), path.split('/'));
        let mut parameters = Vec::new();
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return Some(parameters),
                (Some("{}"), Some(segment)) if !segment.is_empty() => parameters.push(segment.to_owned()),
                (Some(wanted), Some(given)) if wanted == given => {}
                _ => return None,
            }
        }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The name of its route; empty where nobody knows it.
    pub route: &'static str,
    pub method: String,
    /// Without its query.
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// By the test's clock.
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The body; null where it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let pair = pairs.iter().find(|(known, _)| known == name)?;
    Some(&pair.1)
}

/// A request for a vendor to answer.
pub struct Ask<'a> {
    pub seen: &'a Seen,
    /// What stands for `{}` in the route's path.
    pub parameters: &'a [String],
    pub now: Timestamp,
    /// The vendor's own fault that the script has for it.
    pub special: Option<&'static str>,
}

/// What goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Answer {
    pub fn of(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
        }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json", body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Self {
        Self::of(status, "text/plain; charset=utf-8", body.to_owned())
    }

    /// As a proxy in front of a provider answers.
    pub fn html(status: u16) -> Self {
        let body = format!("<html><head><title>{status}</title></head><body><center>nginx</center></body></html>");
        Self::of(status, "text/html", body)
    }

    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}
