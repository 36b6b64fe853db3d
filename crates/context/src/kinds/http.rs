//! One exchange over HTTP, with whichever client the origin of the address asks for.

use super::Ground;
use crate::secret::Origin;
use bytes::{Bytes, BytesMut};
use forebay_domain::{Code, Failure};
use forebay_runtime::http::Guarded;
use http::{StatusCode, header::CONTENT_TYPE};
use reqwest::{Client, Request};
use serde_json::Value;
use url::Url;

/// Bytes of an answer at most.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;

/// The client for addresses of the operator's file, or the one for those that somebody else chose.
pub(super) enum Http {
    Trusted(Client),
    Guarded(Guarded),
}

impl Http {
    pub(super) fn of(origin: Origin, ground: &Ground) -> Self {
        match origin {
            Origin::File => Self::Trusted(ground.client.clone()),
            Origin::Api => Self::Guarded(ground.guarded.clone()),
        }
    }

    /// Neither client follows redirects.
    pub(super) async fn send(&self, request: Request) -> Result<(StatusCode, Bytes), Failure> {
        match self {
            Self::Guarded(guarded) => {
                let answer = guarded.send(request).await?;
                Ok((answer.status(), answer.into_body()))
            }
            Self::Trusted(client) => trusted(client, request).await,
        }
    }

    /// The JSON of an answer that says that all went well.
    pub(super) async fn json(&self, request: Request) -> Result<Value, Failure> {
        let host = host(request.url());
        let (status, body) = self.send(request).await?;
        if !status.is_success() {
            return Err(refused(&host, status));
        }
        serde_json::from_slice(&body).map_err(|fault| {
            Failure::new(
                Code::UpstreamFailed,
                format!("{host} answered something that is no JSON."),
            )
            .caused_by(fault)
        })
    }
}

/// What an answer with such a status means. Its body is nobody's to show: it may be anything.
pub(super) fn refused(host: &str, status: StatusCode) -> Failure {
    let what = if status.is_redirection() {
        "a redirect, which is not followed"
    } else {
        status.canonical_reason().unwrap_or("an odd status")
    };
    Failure::new(
        Code::UpstreamFailed,
        format!("{host} answered {} ({what}).", status.as_u16()),
    )
}

pub(super) fn host(url: &Url) -> String {
    url.host_str().unwrap_or("the server").to_owned()
}

/// A POST of JSON.
pub(super) fn post(url: Url, body: &Value) -> Request {
    let mut request = Request::new(http::Method::POST, url);
    request
        .headers_mut()
        .insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(body.to_string().into());
    request
}

async fn trusted(client: &Client, request: Request) -> Result<(StatusCode, Bytes), Failure> {
    let host = host(request.url());
    let failed = |error: reqwest::Error| {
        let what = if error.is_connect() {
            "cannot be reached"
        } else {
            "broke off its answer"
        };
        Failure::new(Code::UpstreamFailed, format!("{host} {what}.")).caused_by(error.without_url())
    };
    let mut answer = client.execute(request).await.map_err(failed)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            let message = format!("The answer of {host} has more than {ANSWER_BYTES_MAX} bytes.");
            return Err(Failure::new(Code::UpstreamTruncated, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), body.freeze()))
}
