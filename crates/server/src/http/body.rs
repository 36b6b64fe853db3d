//! Reading request bodies: bounded in size and time, strict JSON, and every fault in plain words.

use crate::{app::App, door::Caller, http::ApiError};
use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use forebay_domain::{Code, Failure, json};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};

/// A client that sends slower than this is not sending.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// The whole body, if it is not too large and does not take too long.
pub(crate) async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Failure> {
    let too_large = || {
        Failure::new(
            Code::BodyTooLarge,
            format!("The body is larger than {bytes_max} bytes."),
        )
        .hint("Send less, or raise `server.body_bytes_max`.")
    };
    if http_body::Body::size_hint(&body).lower() > bytes_max as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(error)) => Err(Failure::new(Code::InvalidRequest, "The body broke off.").caused_by(error)),
        Err(_) => Err(Failure::new(
            Code::InvalidRequest,
            "The body did not arrive within 60 s.",
        )),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Refuses a body that does not say it is JSON.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Failure> {
    let stated = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = stated.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = match stated {
        "" => "The request does not say what its body is.".to_owned(),
        other => format!("The body is {other:?}, not JSON."),
    };
    Err(Failure::new(Code::UnsupportedMediaType, message).hint("Send JSON, with `Content-Type: application/json`."))
}

/// A JSON body of Forebay's own API, read into its wire type.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = request
            .extensions()
            .get::<Caller>()
            .expect("only routes behind a gate read bodies")
            .clone();
        let (parts, body) = request.into_parts();
        let parsed = async {
            require_json(&parts.headers)?;
            parse(&read(body, app.body_bytes_max).await?)
        };
        parsed.await.map(Self).map_err(|failure| caller.problem(failure))
    }
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    json::check_strict(bytes)?;
    let does_not_fit = |why: &str| {
        Failure::new(Code::InvalidRequest, format!("The body does not fit: {why}."))
            .hint("`GET /openapi.json` has the schema of every body.")
    };
    // A list would be read as the members of an object in their order, which are nobody's to count on.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(does_not_fit("it has to be a JSON object"));
    }
    let reader = &mut serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(reader).map_err(|error| match error.path().to_string().as_str() {
        "." => does_not_fit(&error.inner().to_string()),
        path => does_not_fit(&format!("`{path}`: {}", error.inner())),
    })
}
