//! Rate limits as clients see them: the headers, and the refusal.
//!
//! `RateLimit` and `RateLimit-Policy` follow draft-ietf-httpapi-ratelimit-headers-10; OpenAI's clients read
//! `x-ratelimit-*`.

use crate::errors::Dialect;
use forebay_domain::{Code, Failure, Principal, seconds_up};
use forebay_runtime::rate::Verdict;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

const WINDOW_SECONDS: u64 = 60;

/// Whose limit a request counts against: the subject within its tenant, whatever key it uses.
pub fn subject(principal: &Principal) -> String {
    format!("{}\u{1f}{}", principal.tenant, principal.subject)
}

pub fn exceeded(verdict: &Verdict, what: &str) -> Failure {
    let after = verdict.retry_after.unwrap_or(Duration::from_secs(1));
    let message = format!("The limit of {} {what} a minute is used up.", verdict.limit);
    Failure::new(Code::RateLimited, message)
        .hint(format!("Try again in {} s.", seconds_up(after)))
        .retry_after(after)
}

pub fn write_headers(headers: &mut HeaderMap, verdict: &Verdict, dialect: Dialect) {
    let Verdict {
        limit,
        remaining,
        reset_after,
        ..
    } = *verdict;
    let reset = seconds_up(reset_after);
    // These, and the one of the trace: a map that grows by itself does so twice for them.
    headers.reserve(6);
    put(
        headers,
        "ratelimit-policy",
        &format!(r#""requests";q={limit};w={WINDOW_SECONDS}"#),
    );
    put(headers, "ratelimit", &format!(r#""requests";r={remaining};t={reset}"#));
    if dialect == Dialect::OpenAi {
        put(headers, "x-ratelimit-limit-requests", &limit.to_string());
        put(headers, "x-ratelimit-remaining-requests", &remaining.to_string());
        put(headers, "x-ratelimit-reset-requests", &format!("{reset}s"));
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).expect("digits and punctuation are a header value");
    headers.insert(HeaderName::from_static(name), value);
}
