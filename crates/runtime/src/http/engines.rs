//! The client for engines: every chat passes here, so it does what asking an engine takes and nothing else.
//!
//! It is as trusting and as careful as [`trusted`](super::trusted()): it follows no redirects, repeats nothing that was sent,
//! and ignores proxy variables. What it has not is what nobody needs here and every request would pay for: addresses that
//! are parsed again, layers for redirects and cookies.

use super::trusted::{CONNECT_MAX, IDLE_CONNECTIONS_PER_HOST_MAX, IDLE_MAX, KEEPALIVE};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tower_service::Service;
use tracing::warn;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Asks engines. Make one and clone it: its clones share their connections.
#[derive(Clone)]
pub struct Engines(Client<InTime, Full<Bytes>>);

/// An engine's answer whose body is still to be read.
pub struct Answer(http::Response<Incoming>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SendFault(#[from] hyper_util::client::legacy::Error);

impl Engines {
    pub fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
            .build(InTime(tls().https_or_http().enable_all_versions().wrap_connector(tcp)));
        Self(client)
    }

    /// Sends a request to an absolute address, and waits until the answer begins: for ever, if nobody ends it.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, SendFault> {
        Ok(Answer(self.0.request(request).await?))
    }
}

impl Default for Engines {
    fn default() -> Self {
        Self::new()
    }
}

impl SendFault {
    /// Whether no connection came about, so that nothing was sent.
    pub fn is_connect(&self) -> bool {
        self.0.is_connect()
    }

    /// Whether the connection itself was given up for its silence.
    pub fn is_timeout(&self) -> bool {
        let mut cause = self.0.source();
        while let Some(error) = cause {
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
            {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl Answer {
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The length of the body, where it was announced.
    pub fn content_length(&self) -> Option<u64> {
        self.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The next piece of the body as the network cut it; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        while let Some(frame) = self.0.body_mut().frame().await {
            // What is no data is trailers, which say nothing here.
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// An address as this client wants it, read once for many requests.
pub fn address(url: &url::Url) -> Result<Uri, http::uri::InvalidUri> {
    url.as_str().parse()
}

/// A machine without root certificates (a bare container) still reaches its engines over plain HTTP.
fn tls() -> HttpsConnectorBuilder<hyper_rustls::builderstates::WantsSchemes> {
    let provider = aws_lc_rs::default_provider();
    HttpsConnectorBuilder::new()
        .with_provider_and_platform_verifier(provider)
        .unwrap_or_else(|error| {
            warn!(
                ?error,
                "no root certificates could be loaded: every https request to an engine will fail"
            );
            HttpsConnectorBuilder::new().with_tls_config(
                ClientConfig::builder()
                    .with_root_certificates(RootCertStore::empty())
                    .with_no_client_auth(),
            )
        })
}

/// Connects within [`CONNECT_MAX`]: the name, the connection and TLS together.
#[derive(Clone)]
struct InTime(HttpsConnector<HttpConnector>);

impl Service<Uri> for InTime {
    type Response = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT_MAX, self.0.call(to));
        Box::pin(async move {
            connecting.await.unwrap_or_else(|_| {
                let within = format!("no connection within {} s", CONNECT_MAX.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, within).into())
            })
        })
    }
}
