//! Which headers go along to a machine. Pure.
//!
//! A name is judged by its words, so that a header that nobody here has heard of is judged too: what sounds like a
//! credential is left out, and so is what belongs to the connection, or says who asks or is asked. A machine is somebody
//! else's computer, and whoever calls this tool may be a model that was told to bring a key along.

use forebay_domain::{Code, Failure};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;

/// What names a credential, as a word of a name or as the end of one (`apikey`, `authtoken`, `sessionid`).
const CREDENTIAL: [&str; 19] = [
    "auth",
    "authentication",
    "authorization",
    "bearer",
    "cookie",
    "cookie2",
    "credential",
    "credentials",
    "jwt",
    "key",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "session",
    "sessionid",
    "signature",
    "sso",
    "token",
];
/// Names that have such a word and mean something else.
const HARMLESS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];
/// What belongs to the connection, or says who is asked or who asks.
const OF_THE_WAY: [&str; 17] = [
    "client-ip",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-host",
    "x-real-ip",
];
const OF_THE_WAY_BEGINNINGS: [&str; 4] = ["cf-", "proxy-", "sec-", "x-forwarded"];
/// How credentials begin, whatever the header is called.
const CREDENTIAL_VALUES: [&str; 6] = ["basic ", "bearer ", "digest ", "fb_", "fbi_", "negotiate "];

#[derive(Debug)]
pub(super) struct Headers {
    pub(super) kept: HeaderMap,
    /// The names of those that do not go along.
    pub(super) left_out: Vec<String>,
}

impl Headers {
    pub(super) fn of(wished: &BTreeMap<String, String>) -> Result<Self, Failure> {
        let (mut kept, mut left_out) = (HeaderMap::new(), Vec::new());
        for (name, value) in wished {
            let unfit = || Failure::new(Code::InvalidArguments, format!("`headers`: {name:?} cannot be sent."));
            let name = HeaderName::try_from(name.as_str()).map_err(|_| unfit())?;
            let header = HeaderValue::try_from(value.as_str()).map_err(|_| unfit())?;
            if is_left_out(name.as_str(), value) {
                left_out.push(name.to_string());
            } else {
                kept.insert(name, header);
            }
        }
        Ok(Self { kept, left_out })
    }
}

/// By its name, in small letters, or by how its value begins.
fn is_left_out(name: &str, value: &str) -> bool {
    if OF_THE_WAY.contains(&name) || OF_THE_WAY_BEGINNINGS.iter().any(|begin| name.starts_with(begin)) {
        return true;
    }
    let value = value.trim_start().to_ascii_lowercase();
    let has_credential = CREDENTIAL_VALUES.iter().any(|begin| value.starts_with(begin));
    has_credential || (!HARMLESS.contains(&name) && name.split(is_between_words).any(names_a_credential))
}

fn is_between_words(letter: char) -> bool {
    !letter.is_ascii_alphanumeric()
}

fn names_a_credential(word: &str) -> bool {
    // Words that are written as one end in what they are: a `csrftoken` is a token.
    CREDENTIAL.iter().any(|credential| word.ends_with(credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_goes_along_whatever_it_is_called() {
        for name in [
            "authorization",
            "proxy-authorization",
            "x-authorization",
            "x-amzn-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "api-key",
            "apikey",
            "x-apikey",
            "x-goog-api-key",
            "x-functions-key",
            "ocp-apim-subscription-key",
            "x-auth-token",
            "x-amz-security-token",
            "x-csrftoken",
            "private-token",
            "x-vault-token",
            "x_access_token",
            "cf-access-client-secret",
            "x-hub-signature",
            "x-user-password",
            "x-session",
            "x-jwt",
        ] {
            assert!(is_left_out(name, "v"), "{name}");
        }
        for value in ["Bearer x", "basic dTpw", " bearer x", "fb_1_2", "FBI_9"] {
            assert!(is_left_out("x-note", value), "{value}");
        }
    }

    #[test]
    fn nothing_of_the_connection_goes_along() {
        for name in [
            "host",
            "connection",
            "transfer-encoding",
            "content-length",
            "upgrade",
            "te",
            "x-forwarded-for",
            "x-forwarded-host",
            "forwarded",
            "via",
            "sec-websocket-key",
            "proxy-connection",
            "x-real-ip",
        ] {
            assert!(is_left_out(name, "v"), "{name}");
        }
    }

    #[test]
    fn what_says_how_to_answer_goes_along_and_the_rest_is_told() {
        let wished = [
            ("Accept", "text/event-stream"),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", "4711"),
            ("OpenAI-Beta", "assistants=v2"),
            ("X-Request-Id", "basically mine"),
            ("User-Agent", "curl/8"),
            ("X-API-Key", "stolen"),
        ];
        let wished = wished.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let Headers { kept, left_out } = Headers::of(&wished).unwrap();
        let mut names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "accept",
            "content-type",
            "idempotency-key",
            "openai-beta",
            "user-agent",
            "x-request-id",
        ];
        assert_eq!(names, expected);
        assert_eq!(left_out, ["x-api-key"]);
        let bad = BTreeMap::from([("a".to_owned(), "x\r\nhost: evil".to_owned())]);
        assert!(Headers::of(&bad).is_err());
    }
}
