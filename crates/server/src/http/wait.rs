//! How long somebody waits for a task: `?wait=30s`, and what the header `Prefer` says (RFC 7240).

use forebay_domain::{Code, Failure};
use http::HeaderMap;
use jiff::SignedDuration;
use serde_json::json;
use std::time::Duration;

/// Nobody holds a request open for longer.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(5);

const PREFER: &str = "prefer";

/// Reads `30s`, `2m`, or a number of seconds. Whoever asks for more than the most gets the most.
pub(crate) fn span(text: &str) -> Result<Duration, Failure> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let written = || {
        text.parse::<SignedDuration>()
            .ok()
            .and_then(|span| span.try_into().ok())
    };
    let span: Duration = seconds.or_else(written).ok_or_else(|| {
        Failure::new(Code::InvalidRequest, "`wait` is no length of time.")
            .hint("Write `30s`, `2m`, or a number of seconds.")
            .details(json!({"field": "wait"}))
    })?;
    Ok(span.min(WAIT_MAX))
}

/// What a client would rather have. What nobody here knows, or what is not well written, is not heeded, as the standard
/// has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Preference {
    /// `respond-async`: the task at once, rather than what comes of it.
    pub(crate) is_async: bool,
    /// `wait=5`: so long at most.
    pub(crate) wait: Option<Duration>,
}

impl Preference {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut told = Self::default();
        let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
        for preference in lines.flat_map(|line| line.split(',')) {
            let word = preference.split(';').next().unwrap_or_default().trim();
            match word.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                None if word.eq_ignore_ascii_case("respond-async") => told.is_async = true,
                // The first one counts.
                Some((name, value)) if name.eq_ignore_ascii_case("wait") && told.wait.is_none() => {
                    let seconds: Option<u64> = value.trim_matches('"').parse().ok();
                    told.wait = seconds.map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX));
                }
                _ => {}
            }
        }
        told
    }

    /// How long to wait: what the query says counts before the header. Who prefers the task at once, and says nothing of
    /// waiting, does not wait.
    pub(crate) fn patience(self, query: Option<Duration>, otherwise: Duration) -> Duration {
        let unsaid = if self.is_async { Duration::ZERO } else { otherwise };
        query.or(self.wait).unwrap_or(unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check(lines: &[&'static str], expected: (bool, Option<u64>)) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, HeaderValue::from_static(line));
        }
        let told = Preference::of(&headers);
        assert_eq!(
            (told.is_async, told.wait.map(|wait| wait.as_secs())),
            expected,
            "{lines:?}"
        );
    }

    #[test]
    fn preferences_are_read_as_the_standard_writes_them() {
        check(&[], (false, None));
        check(&["respond-async"], (true, None));
        check(&["Respond-Async, wait=5"], (true, Some(5)));
        check(&["return=minimal; x", "wait = \"7\"; hard, wait=9"], (false, Some(7)));
        check(&["wait=soon", "respond-async; strictly"], (true, None));
        check(&["wait=99999"], (false, Some(300)));
    }

    #[test]
    fn a_wait_is_a_length_of_time() {
        let secs = |text| span(text).ok().map(|span| span.as_secs());
        assert_eq!(secs("30s"), Some(30));
        assert_eq!(secs("2m"), Some(120));
        assert_eq!(secs("7"), Some(7));
        assert_eq!(secs("0s"), Some(0));
        assert_eq!(secs("9h"), Some(300));
        for wrong in ["", "soon", "-3s", "-3"] {
            assert_eq!(secs(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_query_counts_before_the_header() {
        let five = Duration::from_secs(5);
        let minute = Duration::from_mins(1);
        let of = |is_async, wait| Preference { is_async, wait };
        assert_eq!(of(false, None).patience(None, minute), minute);
        assert_eq!(of(true, None).patience(None, minute), Duration::ZERO);
        assert_eq!(of(true, Some(five)).patience(None, minute), five);
        assert_eq!(of(true, None).patience(Some(five), minute), five);
    }
}
