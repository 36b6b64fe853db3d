//! What a request shows to prove who sends it. Only reading; nothing is verified here.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use forebay_domain::{Code, Failure, key::ApiKey};
use http::{HeaderMap, HeaderName, header};

/// A browser cannot set headers when it opens a WebSocket. It can name subprotocols, so one that begins like this carries
/// the bearer, in Base64url.
const BEARER_SUBPROTOCOL: &str = "forebay.bearer.";

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Longest credential read, in bytes. Real tokens stay below 4 KiB.
const CREDENTIAL_BYTES_MAX: usize = 16 << 10;

/// A credential as presented.
#[derive(Debug)]
pub enum Credential {
    Key(ApiKey),
    /// Anything that is none of our keys and came as a bearer: a JSON Web Token, if it is anything.
    Token(String),
}

/// Reads `X-API-Key`, `Authorization: Bearer`, or the subprotocol of a WebSocket. Two that differ are refused: nobody
/// shall have to guess which one counts.
pub fn read(headers: &HeaderMap) -> Result<Credential, Failure> {
    let key = single(headers, &API_KEY)?;
    let bearer = match single(headers, &header::AUTHORIZATION)? {
        Some(value) => Some(bearer(value)?),
        None => None,
    };
    let subprotocol = subprotocol(headers)?;
    let mut given = [key, bearer, subprotocol.as_deref()].into_iter().flatten();
    let text = given.next().ok_or_else(|| {
        Failure::new(Code::MissingCredentials, "The request carries no credentials.")
            .hint("Send an API key as `X-API-Key`, or a key or token as `Authorization: Bearer`.")
    })?;
    if given.any(|other| other != text) {
        return Err(invalid(
            "The request carries two different credentials.",
            "Send one of them.",
        ));
    }
    match ApiKey::parse(text) {
        Some(parsed) => Ok(Credential::Key(parsed)),
        None if key.is_some() || looks_like_key(text) => Err(invalid(
            "The API key is malformed.",
            "A key looks like `fb_<id>_<secret>`; check that it was copied whole.",
        )),
        None => Ok(Credential::Token(text.to_owned())),
    }
}

/// A mistyped key deserves a word about keys, not one about tokens.
fn looks_like_key(text: &str) -> bool {
    text.starts_with("fb_") || !text.contains('.')
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid(
            &format!("The header `{name}` is there twice."),
            "Send it once.",
        ));
    }
    match value.to_str() {
        Ok(text) if text.len() <= CREDENTIAL_BYTES_MAX => Ok(Some(text.trim())),
        Ok(_) => Err(invalid(
            &format!("The header `{name}` is too long."),
            "Send a key or a token.",
        )),
        Err(_) => Err(invalid(
            &format!("The header `{name}` is not text."),
            "Send a key or a token.",
        )),
    }
}

fn bearer(value: &str) -> Result<&str, Failure> {
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(invalid(
            "The Authorization header is no bearer.",
            "Send `Authorization: Bearer <key or token>`.",
        )),
    }
}

/// The bearer that the handshake of a WebSocket names among its subprotocols; no other request has any.
fn subprotocol(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let upgrades = headers.get(header::UPGRADE);
    if !upgrades.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Ok(None);
    }
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let names = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    let mut bearers = names.filter_map(|name| name.trim().strip_prefix(BEARER_SUBPROTOCOL));
    let Some(encoded) = bearers.next() else {
        return Ok(None);
    };
    let hint = "Name the subprotocol `forebay.bearer.` with the key or token behind it, in Base64url without padding.";
    if bearers.next().is_some() {
        return Err(invalid("The handshake carries two bearers.", hint));
    }
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.filter(|text| !text.is_empty() && text.len() <= CREDENTIAL_BYTES_MAX);
    text.map(Some)
        .ok_or_else(|| invalid("The bearer among the subprotocols cannot be read.", hint))
}

fn invalid(message: &str, hint: &str) -> Failure {
    Failure::new(Code::InvalidKey, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)]) -> Result<&'static str, Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        read(&map)
            .map_err(|failure| failure.code)
            .map(|credential| match credential {
                Credential::Key(_) => "key",
                Credential::Token(_) => "token",
            })
    }

    #[test]
    fn keys_and_tokens_are_told_apart() {
        let key = ApiKey::from_entropy([1; 8], [2; 32]).reveal();
        let other = ApiKey::from_entropy([1; 8], [3; 32]).reveal();
        let bearer = |text: &str| format!("Bearer {text}");
        assert_eq!(check(&[("x-api-key", &key)]), Ok("key"));
        assert_eq!(check(&[("authorization", &bearer(&key))]), Ok("key"));
        assert_eq!(check(&[("authorization", &format!("bearer  {key}"))]), Ok("key"));
        assert_eq!(
            check(&[("x-api-key", &key), ("authorization", &bearer(&key))]),
            Ok("key")
        );
        assert_eq!(check(&[("authorization", "Bearer eyJ.eyJ.sig")]), Ok("token"));
        assert_eq!(check(&[]), Err(Code::MissingCredentials));
        assert_eq!(
            check(&[("x-api-key", &key), ("authorization", &bearer(&other))]),
            Err(Code::InvalidKey)
        );
        assert_eq!(
            check(&[("x-api-key", &key), ("x-api-key", &key)]),
            Err(Code::InvalidKey)
        );
        assert_eq!(check(&[("x-api-key", "eyJ.eyJ.sig")]), Err(Code::InvalidKey));
        for bad in ["Basic dTpw", "Bearer", "Bearer ", "Bearer fb_12_34", &key] {
            assert_eq!(check(&[("authorization", bad)]), Err(Code::InvalidKey), "{bad}");
        }
        assert_eq!(check(&[("x-api-key", &"x".repeat(20_000))]), Err(Code::InvalidKey));
    }

    #[test]
    fn a_handshake_may_carry_its_bearer_as_a_subprotocol() {
        let key = ApiKey::from_entropy([1; 8], [2; 32]).reveal();
        let other = ApiKey::from_entropy([1; 8], [3; 32]).reveal();
        let named = |text: &str| format!("mcp, forebay.bearer.{}", BASE64_URL_SAFE_NO_PAD.encode(text));
        let check = |headers: &[(&'static str, &str)]| {
            let mut all = vec![("upgrade", "WebSocket")];
            all.extend_from_slice(headers);
            check(&all)
        };
        let protocol = "sec-websocket-protocol";
        assert_eq!(check(&[(protocol, &named(&key))]), Ok("key"));
        assert_eq!(check(&[(protocol, &named("eyJ.eyJ.sig"))]), Ok("token"));
        assert_eq!(check(&[(protocol, &named(&key)), ("x-api-key", &key)]), Ok("key"));
        assert_eq!(check(&[(protocol, "mcp")]), Err(Code::MissingCredentials));
        for bad in [
            "forebay.bearer.",
            "forebay.bearer.%%%",
            "forebay.bearer._w",
            &format!("{}, {}", named(&key), named(&key)),
            &named(&"x".repeat(20_000)),
        ] {
            assert_eq!(check(&[(protocol, bad)]), Err(Code::InvalidKey), "{bad:.80}");
        }
        assert_eq!(
            check(&[(protocol, &named(&key)), ("x-api-key", &other)]),
            Err(Code::InvalidKey)
        );
        assert_eq!(
            super::tests::check(&[(protocol, &named(&key))]),
            Err(Code::MissingCredentials),
            "no handshake, no subprotocol"
        );
    }
}
