//! Which forms of an answer a client takes, by its headers.

use crate::front::stream::Accepts;
use forebay_domain::{Code, Failure};
use http::{HeaderMap, header};

pub(crate) fn not_acceptable(hint: &str) -> Failure {
    Failure::new(
        Code::NotAcceptable,
        "The header Accept leaves no form in which to answer.",
    )
    .hint(hint)
}

/// Checks Content-Type and Accept. The specification wants both forms accepted; a client that takes JSON alone is
/// served all the same, without streams.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Accepts, Failure> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !essence(content_type).eq_ignore_ascii_case("application/json") {
        return Err(Failure::new(
            Code::UnsupportedMediaType,
            "The header Content-Type must be application/json.",
        ));
    }
    let (mut json, mut events) = (false, false);
    for kind in accepted(headers) {
        json |= matches!(kind, "application/json" | "application/*" | "*/*");
        events |= matches!(kind, "text/event-stream" | "text/*" | "*/*");
    }
    match (json, events) {
        (true, true) => Ok(Accepts::JsonAndEvents),
        (true, false) => Ok(Accepts::Json),
        (false, _) => Err(not_acceptable("Send `Accept: application/json, text/event-stream`.")),
    }
}

pub(crate) fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(essence)
}

fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}
