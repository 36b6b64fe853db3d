//! Where an upstream's tokens are given out: its own metadata names the authorization server, whose metadata names the
//! token endpoint.
//!
//! An upstream that may name any server could send our secret anywhere. So metadata has to speak for the resource and
//! the issuer that were asked for, endpoints need TLS unless they are on the upstream's or the configured issuer's own
//! host, and an operator who trusts less names the issuer.

use super::{super::body::whole, ClientFault, issuer_text};
use http::{HeaderMap, header};
use serde::Deserialize;
use url::Url;

const METADATA_BYTES_MAX: usize = 256 << 10;
const CHALLENGE_BYTES_MAX: usize = 8 << 10;

/// Where to ask for tokens.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    /// Whom a signed assertion is for: the issuer.
    pub(super) audience: String,
    /// The scopes that the upstream says it knows.
    pub(super) scopes: Option<String>,
}

/// What the `WWW-Authenticate` of a refusal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) metadata: Option<Url>,
    pub(super) scope: Option<String>,
}

pub(super) fn challenge(answer: &HeaderMap) -> Challenge {
    let texts = answer.get_all(header::WWW_AUTHENTICATE).iter();
    let bearer = texts.filter_map(|value| value.to_str().ok()).find(|text| {
        text.len() <= CHALLENGE_BYTES_MAX && text.get(..6).is_some_and(|s| s.eq_ignore_ascii_case("bearer"))
    });
    let Some(text) = bearer else {
        return Challenge::default();
    };
    Challenge {
        metadata: parameter(text, "resource_metadata").and_then(|url| Url::parse(&url).ok()),
        scope: parameter(text, "scope"),
    }
}

/// One parameter of a challenge, quoted or not.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text.get(6..)?;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (key, after) = rest.split_once('=')?;
        let (value, next) = value(after.trim_start())?;
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = next;
    }
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[derive(Deserialize)]
struct ResourceMetadata {
    resource: Option<String>,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

#[derive(Deserialize)]
struct ServerMetadata {
    issuer: String,
    token_endpoint: Url,
}

/// What is looked for.
pub(super) struct Wanted<'a> {
    pub(super) client: &'a reqwest::Client,
    pub(super) resource: &'a Url,
    pub(super) issuer: Option<&'a Url>,
    /// Where the refusal said that the metadata is.
    pub(super) metadata: Option<Url>,
}

impl Wanted<'_> {
    pub(super) async fn find(&self) -> Result<Endpoint, ClientFault> {
        let (issuer, scopes) = match self.issuer {
            Some(issuer) => (issuer.clone(), None),
            None => self.named_issuer().await?,
        };
        self.check_host(&issuer)?;
        let server = self.server_metadata(&issuer).await?;
        self.check_host(&server.token_endpoint)?;
        Ok(Endpoint {
            url: server.token_endpoint,
            audience: server.issuer,
            scopes,
        })
    }

    /// The authorization server that the upstream names; its own origin where it names none, as before 2025-06-18.
    async fn named_issuer(&self) -> Result<(Url, Option<String>), ClientFault> {
        let mut places: Vec<Url> = self.metadata.clone().into_iter().collect();
        places.push(well_known(self.resource, "oauth-protected-resource"));
        places.push(at_root(self.resource, "oauth-protected-resource"));
        for place in places {
            if place.origin() != self.resource.origin() {
                return Err(refused("its metadata is said to be on another host"));
            }
            let Some(found) = self.get::<ResourceMetadata>(&place).await? else {
                continue;
            };
            self.check_resource(&found)?;
            let first = found.authorization_servers.first();
            let issuer = first
                .and_then(|text| Url::parse(text).ok())
                .ok_or_else(|| refused("its metadata names no authorization server"))?;
            let scopes = (!found.scopes_supported.is_empty()).then(|| found.scopes_supported.join(" "));
            return Ok((issuer, scopes));
        }
        let mut origin = self.resource.clone();
        origin.set_path("");
        origin.set_query(None);
        Ok((origin, None))
    }

    /// The metadata has to be about this upstream: about its URL, or one above it.
    fn check_resource(&self, found: &ResourceMetadata) -> Result<(), ClientFault> {
        let named = found.resource.as_deref().and_then(|text| Url::parse(text).ok());
        let about_us = named.is_some_and(|named| {
            let above = named.path().trim_end_matches('/');
            let rest = self.resource.path().strip_prefix(above);
            named.origin() == self.resource.origin()
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if about_us {
            Ok(())
        } else {
            Err(refused("its metadata is about another resource"))
        }
    }

    async fn server_metadata(&self, issuer: &Url) -> Result<ServerMetadata, ClientFault> {
        let expected = issuer_text(issuer);
        for place in server_places(issuer) {
            let Some(found) = self.get::<ServerMetadata>(&place).await? else {
                continue;
            };
            if found.issuer.trim_end_matches('/') == expected {
                return Ok(found);
            }
            return Err(refused("the metadata of its authorization server names another issuer"));
        }
        Err(refused(
            "its authorization server has no metadata; set the token endpoint by hand",
        ))
    }

    /// Reads a document. What is not there, or is no such document, is nothing.
    async fn get<T: for<'de> Deserialize<'de>>(&self, place: &Url) -> Result<Option<T>, ClientFault> {
        let request = self
            .client
            .get(place.clone())
            .header(header::ACCEPT, "application/json");
        let response = request.send().await.map_err(ClientFault::of_http)?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let body = whole(response, METADATA_BYTES_MAX).await?;
        Ok(serde_json::from_slice(&body).ok())
    }

    fn check_host(&self, url: &Url) -> Result<(), ClientFault> {
        let ours = [Some(self.resource), self.issuer];
        let known = ours.into_iter().flatten().any(|known| known.host() == url.host());
        if url.scheme() == "https" || (url.scheme() == "http" && known) {
            Ok(())
        } else {
            Err(refused("its authorization server is named without TLS"))
        }
    }
}

fn refused(why: &str) -> ClientFault {
    ClientFault::Unauthorized(why.to_owned())
}

/// The well-known place of a URL with a path: the name goes before the path.
fn well_known(url: &Url, name: &str) -> Url {
    let mut place = at_root(url, name);
    let path = url.path().trim_end_matches('/');
    place.set_path(&format!("/.well-known/{name}{path}"));
    place
}

fn at_root(url: &Url, name: &str) -> Url {
    let mut place = url.clone();
    place.set_query(None);
    place.set_fragment(None);
    place.set_path(&format!("/.well-known/{name}"));
    place
}

/// Where an issuer may keep its metadata, in the order in which to look.
fn server_places(issuer: &Url) -> Vec<Url> {
    let mut places = vec![
        well_known(issuer, "oauth-authorization-server"),
        well_known(issuer, "openid-configuration"),
    ];
    let path = issuer.path().trim_end_matches('/');
    if !path.is_empty() {
        let mut below = at_root(issuer, "openid-configuration");
        below.set_path(&format!("{path}/.well-known/openid-configuration"));
        places.push(below);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header_text: &str, metadata: Option<&str>, scope: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::WWW_AUTHENTICATE, header_text.parse().unwrap());
        let found = challenge(&headers);
        assert_eq!(found.metadata.as_ref().map(Url::as_str), metadata, "{header_text}");
        assert_eq!(found.scope.as_deref(), scope, "{header_text}");
    }

    #[test]
    fn a_challenge_is_read_however_it_is_written() {
        let url = Some("https://h/x");
        check(r#"Bearer resource_metadata="https://h/x""#, url, None);
        check(
            r#"bearer realm="a, b=c", resource_metadata=https://h/x, scope="r w""#,
            url,
            Some("r w"),
        );
        check(
            r#"Bearer scope="a\"b",resource_metadata="https://h/x""#,
            url,
            Some("a\"b"),
        );
        check(r#"Bearer error="resource_metadata=https://evil/""#, None, None);
        check(r#"Basic realm="x", resource_metadata="https://h/x""#, None, None);
        check(r#"Bearer scope="never closed"#, None, None);
        check("Bearer", None, None);
    }

    #[test]
    fn metadata_is_looked_for_in_its_places() {
        let places = |url: &str| -> Vec<String> {
            server_places(&Url::parse(url).unwrap())
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            places("https://as/t1/"),
            [
                "https://as/.well-known/oauth-authorization-server/t1",
                "https://as/.well-known/openid-configuration/t1",
                "https://as/t1/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            places("https://as"),
            [
                "https://as/.well-known/oauth-authorization-server",
                "https://as/.well-known/openid-configuration"
            ]
        );
    }
}
