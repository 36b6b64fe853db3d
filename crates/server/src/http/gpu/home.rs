//! What a rented machine asks of its gateway: the gateway's own binary, and to be known. Its token stands for it alone:
//! it is no key, passes no other route, and is good for the report once. A machine that is started again on its own disk
//! reports itself with what it kept there besides.

use crate::{
    app::App,
    door::Arrival,
    http::{ApiError, body},
};
use axum::{
    Extension,
    body::Body,
    extract::{Query, Request, State},
    response::{IntoResponse, Response},
};
use forebay_api::{GpuReport, Problem};
use forebay_domain::{Code, Failure};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use std::sync::Arc;
use tokio_util::io::ReaderStream;

/// A report is a few words.
const REPORT_BYTES_MAX: usize = 4 << 10;

/// For which machine the binary is wanted.
#[derive(Debug, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    arch: Option<String>,
}

/// The gateway's own binary, for a machine that was rented here.
#[utoipa::path(get, path = "/dist/forebay", tag = "machines",
    params(("os" = Option<String>, Query, description = "as `uname` says it"),
        ("arch" = Option<String>, Query, description = "as `uname -m` says it")),
    responses((status = 200, content_type = "application/octet-stream"), (status = 401, body = Problem),
        (status = 404, body = Problem)))]
pub(crate) async fn binary(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Query(platform): Query<Platform>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let handed = async {
        app.rentals.recognise(token(&headers)?).await?;
        check(&platform)?;
        let file = app.binary().await?;
        let length = file.metadata().await.map(|metadata| metadata.len());
        let mut response = Body::from_stream(ReaderStream::new(file)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/octet-stream"),
        );
        if let Ok(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        Ok(response)
    };
    let handed: Result<_, Failure> = handed.await;
    handed.map_err(|failure| ApiError(failure, arrival.trace))
}

/// A machine says that it is there. Its token is good for this once, and again with the `proof` that it brought then.
#[utoipa::path(post, path = "/api/v1/gpu/agent", tag = "machines", request_body = GpuReport,
    responses((status = 204), (status = 401, body = Problem)))]
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let reported = async {
        let (parts, sent) = request.into_parts();
        let token = token(&parts.headers)?.to_owned();
        let report: GpuReport = body::parse(&body::read(sent, REPORT_BYTES_MAX).await?)?;
        let rental = app.rentals.redeem(&token, report.proof.as_deref()).await?;
        let version: String = report.version.chars().filter(char::is_ascii_graphic).take(40).collect();
        tracing::info!(rental.id, agent.version = version, "a machine has reported itself");
        Ok(StatusCode::NO_CONTENT)
    };
    let reported: Result<_, Failure> = reported.await;
    reported.map_err(|failure| ApiError(failure, arrival.trace))
}

fn token(headers: &HeaderMap) -> Result<&str, Failure> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    bearer.and_then(|text| text.strip_prefix("Bearer ")).ok_or_else(|| {
        Failure::new(Code::MissingCredentials, "A machine shows its own token here.")
            .hint("The token stands in FOREBAY_TOKEN of a machine that was rented by this gateway.")
    })
}

/// There is one binary: the one that is running.
fn check(platform: &Platform) -> Result<(), Failure> {
    let arch = match platform.arch.as_deref() {
        Some("amd64") => "x86_64",
        Some("arm64") => "aarch64",
        Some(other) => other,
        None => std::env::consts::ARCH,
    };
    let os = platform.os.as_deref().unwrap_or(std::env::consts::OS);
    if (os, arch) == (std::env::consts::OS, std::env::consts::ARCH) {
        return Ok(());
    }
    let message = format!(
        "This gateway's binary is for {} on {}.",
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    Err(Failure::new(Code::UnknownResource, message)
        .hint("Rent machines of that kind, or run the agent in another way."))
}
