//! One exchange with an HTTP upstream: headers, credentials, and what its status says.
//!
//! Redirects are not followed: a credential meant for one host must not travel to another. No header of a caller is
//! known here; only what the operator configured and what the protocol wants is sent.

use super::{
    ClientFault, HttpTarget,
    body::{EVENTS, Form, JSON, form, whole},
    oauth::OAuth,
    settings::Credential,
};
use crate::era;
use bytes::Bytes;
use forebay_runtime::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::Response;
use std::time::Duration;
use url::Url;

/// The most of an error's body that is read.
const ERROR_BYTES_MAX: usize = 1 << 20;
/// A wait that an upstream asks for counts no longer than this.
const RETRY_AFTER_S_MAX: u64 = 3600;

/// Sends requests to one upstream.
pub(super) struct Caller {
    pub(super) url: Url,
    client: reqwest::Client,
    auth: Auth,
    headers: HeaderMap,
}

enum Auth {
    None,
    Fixed(HeaderName, HeaderValue),
    OAuth(OAuth),
}

impl Caller {
    pub(super) fn new(target: HttpTarget) -> Result<Self, ClientFault> {
        let auth = match target.credential {
            Credential::None => Auth::None,
            Credential::Bearer(secret) => Auth::Fixed(header::AUTHORIZATION, sensitive("Bearer ", &secret)?),
            Credential::Header(name, secret) => Auth::Fixed(name, sensitive("", &secret)?),
            Credential::OAuth(oauth) => Auth::OAuth(oauth),
        };
        Ok(Self {
            url: target.url,
            client: target.client,
            auth,
            headers: target.headers,
        })
    }

    /// Sends one request. Where the upstream refuses the token, another one is fetched and the request sent once more:
    /// a refused request has not run.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, ClientFault> {
        let mut headers = self.with_configured(headers);
        let oauth = match &self.auth {
            Auth::None => None,
            Auth::Fixed(name, value) => {
                headers.insert(name.clone(), value.clone());
                None
            }
            Auth::OAuth(oauth) => Some(oauth),
        };
        let Some(oauth) = oauth else {
            return self.send_once(method, url, headers, body).await;
        };
        // Boxed, so that the futures of all other requests need not have room for it.
        let token = Box::pin(oauth.token()).await?;
        if let Some(token) = &token {
            headers.insert(header::AUTHORIZATION, token.header());
        }
        let response = self
            .send_once(method.clone(), url, headers.clone(), body.clone())
            .await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let renewed = Box::pin(oauth.renew(token.as_deref(), response.headers())).await?;
        headers.insert(header::AUTHORIZATION, renewed.header());
        self.send_once(method, url, headers, body).await
    }

    fn with_configured(&self, headers: HeaderMap) -> HeaderMap {
        if self.headers.is_empty() {
            return headers;
        }
        let mut all = self.headers.clone();
        for (name, value) in &headers {
            all.insert(name.clone(), value.clone());
        }
        all
    }

    async fn send_once(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, ClientFault> {
        let request = self.client.request(method, url.clone()).headers(headers);
        let request = if body.is_empty() { request } else { request.body(body) };
        request.send().await.map_err(ClientFault::of_http)
    }
}

fn sensitive(scheme: &str, secret: &Secret) -> Result<HeaderValue, ClientFault> {
    let mut value = HeaderValue::try_from(format!("{scheme}{}", secret.expose()))
        .map_err(|_| ClientFault::Misconfigured("its secret holds characters that no header can carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The headers of every message.
pub(super) fn message_headers() -> HeaderMap {
    const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(header::ACCEPT, BOTH);
    headers
}

/// The headers of a request for a stream of events.
pub(super) fn stream_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::ACCEPT, HeaderValue::from_static(EVENTS));
    headers
}

pub(super) fn version_header(version: era::Version) -> HeaderValue {
    HeaderValue::from_static(version.as_str())
}

/// A refusal of HTTP itself, read in so far as it can be told what it means.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// What came along, where it was JSON.
    pub(super) body: Option<Bytes>,
    retry_after: Option<Duration>,
    location: bool,
}

impl Refusal {
    pub(super) async fn read(response: Response) -> Self {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let location = response.headers().contains_key(header::LOCATION);
        let body = match form(response.headers()) {
            Form::Json => whole(response, ERROR_BYTES_MAX).await.ok(),
            Form::Events | Form::Other => None,
        };
        Self {
            status,
            body,
            retry_after,
            location,
        }
    }

    /// What the status says, where the body says nothing.
    pub(super) fn into_fault(self) -> ClientFault {
        let status = self.status.as_u16();
        match status {
            401 => ClientFault::Unauthorized("it answered with status 401".to_owned()),
            403 => ClientFault::Unauthorized("it answered with status 403".to_owned()),
            429 | 503 => ClientFault::Busy {
                status,
                retry_after: self.retry_after,
            },
            408 | 500..=599 => ClientFault::broken(format!("it answered with status {status}")),
            300..=399 if self.location => {
                ClientFault::Misconfigured(format!("it redirects (status {status}), which is not followed"))
            }
            _ => ClientFault::Protocol(format!("it answered with status {status}")),
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)))
}
