//! The request for a token (RFC 6749), with the proof that the client is itself.
//!
//! Of a refusal only the error's code is shown: its description may repeat what was sent.

use super::{
    super::body::whole, ClientFault, ClientProof, Grant, OAuthConfig, OAuthParts, SigningAlgorithm, SigningKey,
    discovery::Endpoint,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_runtime::Secret;
use http::{HeaderValue, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use url::form_urlencoded;

const ANSWER_BYTES_MAX: usize = 256 << 10;
const ERROR_CODE_CHARS_MAX: usize = 60;
const ASSERTION_LIFETIME: Duration = Duration::from_mins(2);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a token endpoint gave.
pub(super) struct Given {
    pub(super) header: HeaderValue,
    pub(super) lifetime: Option<Duration>,
    pub(super) refresh: Option<Secret>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: String,
    expires_in: Option<f64>,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

pub(super) async fn fetch(
    config: &OAuthConfig,
    parts: &OAuthParts,
    endpoint: &Endpoint,
    asked: &Asked<'_>,
) -> Result<Given, ClientFault> {
    let proof = proof(config, parts, &endpoint.audience)?;
    let mut request = parts
        .client
        .post(endpoint.url.clone())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(form(config, asked, &proof));
    if let Proof::Header(value) = proof {
        request = request.header(header::AUTHORIZATION, value);
    }
    let response = request.send().await.map_err(ClientFault::of_http)?;
    let status = response.status();
    let body = whole(response, ANSWER_BYTES_MAX).await?;
    if !status.is_success() {
        return Err(refusal(status.as_u16(), &body));
    }
    given(&body)
}

/// What is asked for beside what is configured.
pub(super) struct Asked<'a> {
    /// The newest refresh token, where the first was replaced.
    pub(super) refresh: Option<&'a Secret>,
    pub(super) scope: Option<&'a str>,
}

enum Proof {
    Header(HeaderValue),
    Form(Vec<(&'static str, String)>),
}

fn proof(config: &OAuthConfig, parts: &OAuthParts, audience: &str) -> Result<Proof, ClientFault> {
    let id = ("client_id", config.client_id.clone());
    Ok(match &config.proof {
        ClientProof::None => Proof::Form(vec![id]),
        ClientProof::Basic(secret) => Proof::Header(basic(&config.client_id, secret)?),
        ClientProof::Post(secret) => Proof::Form(vec![id, ("client_secret", secret.expose().to_owned())]),
        ClientProof::PrivateKeyJwt(key) => Proof::Form(vec![
            id,
            ("client_assertion_type", ASSERTION_TYPE.to_owned()),
            ("client_assertion", assertion(config, parts, key, audience)?),
        ]),
    })
}

fn form(config: &OAuthConfig, asked: &Asked<'_>, proof: &Proof) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    match &config.grant {
        Grant::ClientCredentials => {
            form.append_pair("grant_type", "client_credentials");
        }
        Grant::Refresh(first) => {
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("refresh_token", asked.refresh.unwrap_or(first).expose());
        }
    }
    if let Some(scope) = asked.scope {
        form.append_pair("scope", scope);
    }
    form.append_pair("resource", config.resource.as_str());
    match proof {
        Proof::Header(_) => {}
        Proof::Form(pairs) => {
            form.extend_pairs(pairs);
        }
    }
    form.finish()
}

fn given(body: &[u8]) -> Result<Given, ClientFault> {
    let unusable = |what: &str| ClientFault::Unauthorized(format!("the token endpoint answered {what}"));
    let answer: Answer = serde_json::from_slice(body).map_err(|_| unusable("something else than a token"))?;
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err(unusable("a token that is no bearer token"));
    }
    let mut header = HeaderValue::try_from(format!("Bearer {}", answer.access_token))
        .map_err(|_| unusable("a token that no header can carry"))?;
    header.set_sensitive(true);
    Ok(Given {
        header,
        lifetime: answer.expires_in.and_then(|s| Duration::try_from_secs_f64(s).ok()),
        refresh: answer.refresh_token.map(Secret::new),
    })
}

fn refusal(status: u16, body: &[u8]) -> ClientFault {
    let said: Option<Refused> = serde_json::from_slice(body).ok();
    let code = said.map(|said| said.error);
    let plain = code.filter(|code| {
        code.len() <= ERROR_CODE_CHARS_MAX && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    let code = plain.map_or(String::new(), |code| format!(", {code}"));
    ClientFault::Unauthorized(format!("the token endpoint refused (status {status}{code})"))
}

/// Both parts are form-encoded before they are joined (RFC 6749, 2.3.1).
fn basic(client_id: &str, secret: &Secret) -> Result<HeaderValue, ClientFault> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let joined = format!("{}:{}", encode(client_id), encode(secret.expose()));
    let mut header = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(joined)))
        .map_err(|_| ClientFault::Misconfigured("its client secret cannot be sent".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
}

fn assertion(
    config: &OAuthConfig,
    parts: &OAuthParts,
    key: &SigningKey,
    audience: &str,
) -> Result<String, ClientFault> {
    let pem = key.pem.expose().as_bytes();
    let (algorithm, signer) = match key.algorithm {
        SigningAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
        SigningAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
        SigningAlgorithm::Es384 => (Algorithm::ES384, EncodingKey::from_ec_pem(pem)),
        SigningAlgorithm::EdDsa => (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
    };
    let unusable = |_| ClientFault::Misconfigured("its signing key cannot be used".to_owned());
    let signer = signer.map_err(unusable)?;
    let now = parts.clock.now();
    let claims = Claims {
        iss: &config.client_id,
        sub: &config.client_id,
        aud: audience,
        iat: now.as_second(),
        exp: now.as_second() + i64::try_from(ASSERTION_LIFETIME.as_secs()).expect("two minutes"),
        jti: hex::encode(parts.entropy.bytes::<16>()),
    };
    let mut header = Header::new(algorithm);
    header.kid.clone_from(&key.key_id);
    jsonwebtoken::encode(&header, &claims, &signer).map_err(unusable)
}
