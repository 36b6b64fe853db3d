//! Tokens for an upstream: found, fetched once, kept, renewed, and shown to nobody else.

use crate::world::{Seen, Server, Wish, call, json_response, modern, status};
use axum::response::Response;
use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_mcp::client::{
    ClientFault, Connection, Credential,
    oauth::{ClientProof, Grant, OAuth, OAuthConfig, OAuthParts, SigningAlgorithm, SigningKey},
};
use forebay_runtime::{Clock, Entropy, Secret};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use url::Url;

const SECRET: &str = "pä ss:wörd";

/// An authorization server and the upstream that trusts it, at one address.
struct Both {
    server: Server,
    /// Tokens up to this number are refused.
    spent: Arc<AtomicUsize>,
    clock: Clock,
}

/// What one of them says otherwise than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    OtherResource,
    OtherIssuer,
    EndpointElsewhere,
    MetadataElsewhere,
    NoMetadata,
    NoBearer,
    InvalidClient,
}

impl Both {
    async fn start(lie: Lie) -> Self {
        let (fetched, spent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let refused = spent.clone();
        let server = Server::start(move |seen| answer(seen, lie, &fetched, &refused)).await;
        Self {
            server,
            spent,
            clock: Clock::manual(Timestamp::from_second(1_800_000_000).unwrap()),
        }
    }

    fn config(&self) -> OAuthConfig {
        OAuthConfig {
            client_id: "gate way".to_owned(),
            proof: ClientProof::Post(Secret::new(SECRET.to_owned())),
            grant: Grant::ClientCredentials,
            scope: None,
            token_url: None,
            issuer: None,
            resource: self.server.url.parse().unwrap(),
        }
    }

    async fn open(&self, config: OAuthConfig) -> Result<Connection, ClientFault> {
        let oauth = OAuth::new(
            config,
            OAuthParts {
                client: forebay_runtime::http::trusted(),
                clock: self.clock.clone(),
                entropy: Entropy::seeded(1),
            },
        );
        assert!(!format!("{oauth:?}").contains(SECRET));
        let wish = Wish {
            credential: Credential::OAuth(oauth),
            ..Wish::default()
        };
        Ok(wish.over_http(&self.server.url).await?.0)
    }

    fn fetched(&self) -> Vec<Seen> {
        let seen = self.server.seen().into_iter();
        seen.filter(|seen| seen.path == "/token").collect()
    }
}

fn origin(seen: &Seen) -> String {
    format!("http://{}", seen.header("host").unwrap())
}

fn answer(seen: &Seen, lie: Lie, fetched: &AtomicUsize, spent: &AtomicUsize) -> Response {
    let origin = origin(seen);
    match seen.path.as_str() {
        "/mcp" => upstream(seen, lie, &origin, spent),
        "/.well-known/oauth-protected-resource/mcp" if lie != Lie::NoMetadata => {
            let resource = match lie {
                Lie::OtherResource => format!("{origin}/other"),
                _ => format!("{origin}/mcp"),
            };
            let body = json!({"resource": resource, "authorization_servers": [format!("{origin}/as")], "scopes_supported": ["a", "b"]});
            json_response(StatusCode::OK, &body)
        }
        "/.well-known/oauth-authorization-server/as" => {
            let issuer = match lie {
                Lie::OtherIssuer => format!("{origin}/evil"),
                _ => format!("{origin}/as"),
            };
            let endpoint = match lie {
                Lie::EndpointElsewhere => "http://evil.example/token".to_owned(),
                _ => format!("{origin}/token"),
            };
            json_response(StatusCode::OK, &json!({"issuer": issuer, "token_endpoint": endpoint}))
        }
        "/token" if lie == Lie::InvalidClient => {
            let body = json!({"error": "invalid_client", "error_description": format!("bad {SECRET}")});
            json_response(StatusCode::UNAUTHORIZED, &body)
        }
        "/token" => {
            let number = fetched.fetch_add(1, Ordering::SeqCst) + 1;
            let kind = if lie == Lie::NoBearer { "mac" } else { "bearer" };
            let body = json!({"access_token": format!("t{number}"), "token_type": kind, "expires_in": 600,
                "refresh_token": format!("r{number}")});
            json_response(StatusCode::OK, &body)
        }
        _ => status(404),
    }
}

fn upstream(seen: &Seen, lie: Lie, origin: &str, spent: &AtomicUsize) -> Response {
    let number = seen
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer t"));
    let good = number.is_some_and(|number| number.parse::<usize>().unwrap() > spent.load(Ordering::SeqCst));
    if good {
        return modern(seen).unwrap_or_else(|| seen.result(&json!({})));
    }
    let metadata = match lie {
        Lie::MetadataElsewhere => "http://evil.example/metadata".to_owned(),
        _ => format!("{origin}/.well-known/oauth-protected-resource/mcp"),
    };
    let mut response = status(401);
    let challenge = format!(r#"Bearer realm="x", resource_metadata="{metadata}""#);
    response
        .headers_mut()
        .insert("www-authenticate", challenge.parse().unwrap());
    response
}

fn form(seen: &Seen) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(seen.text.as_bytes()).into_owned().collect()
}

#[tokio::test]
async fn a_token_is_found_through_the_refusal_and_fetched_once_for_all() {
    let both = Both::start(Lie::None).await;
    let connection = both.open(both.config()).await.unwrap();
    let params = json!({"name": "t"});
    let calls = futures_util::future::join_all((0..20).map(|_| call(&connection, &params))).await;
    assert!(calls.iter().all(Result::is_ok));
    let fetched = both.fetched();
    assert_eq!(fetched.len(), 1);
    let form = form(&fetched[0]);
    let expected = [
        ("client_id", "gate way"),
        ("client_secret", SECRET),
        ("grant_type", "client_credentials"),
        ("resource", &both.server.url),
        ("scope", "a b"),
    ];
    assert_eq!(form, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    // The secret went nowhere else.
    let elsewhere = both.server.seen().into_iter().filter(|seen| seen.path != "/token");
    for seen in elsewhere {
        assert!(!format!("{seen:?}").contains("client_secret"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_token_is_replaced_shortly_before_its_end_and_when_it_is_refused() {
    let both = Both::start(Lie::None).await;
    let connection = both.open(both.config()).await.unwrap();
    let params = json!({"name": "t"});
    let mut steps = Vec::new();
    for step in ["young", "nearly over", "refused"] {
        match step {
            "young" => both.clock.advance(Duration::from_secs(530)),
            "nearly over" => both.clock.advance(Duration::from_secs(15)),
            _ => both.spent.store(2, Ordering::SeqCst),
        }
        let calls = futures_util::future::join_all((0..20).map(|_| call(&connection, &params))).await;
        assert!(calls.iter().all(Result::is_ok), "{step}");
        steps.push((step, both.fetched().len()));
    }
    assert_eq!(steps, [("young", 1), ("nearly over", 2), ("refused", 3)]);
    // A server that refuses every token is asked for one more, and no further.
    both.spent.store(1000, Ordering::SeqCst);
    let fault = call(&connection, &params).await.unwrap_err();
    assert!(matches!(fault, ClientFault::Unauthorized(_)), "{fault}");
    assert_eq!(both.fetched().len(), 4);
}

#[tokio::test]
async fn a_refresh_token_is_followed_as_it_changes() {
    let both = Both::start(Lie::None).await;
    let config = OAuthConfig {
        grant: Grant::Refresh(Secret::new("r0".to_owned())),
        proof: ClientProof::None,
        scope: Some("x".to_owned()),
        ..both.config()
    };
    let connection = both.open(config).await.unwrap();
    both.clock.advance(Duration::from_secs(1000));
    call(&connection, &json!({"name": "t"})).await.unwrap();
    let forms: Vec<_> = both.fetched().iter().map(form).collect();
    let tokens: Vec<_> = forms.iter().map(|form| form["refresh_token"].as_str()).collect();
    assert_eq!(tokens, ["r0", "r1"]);
    assert!(
        forms
            .iter()
            .all(|form| form["grant_type"] == "refresh_token" && form["scope"] == "x")
    );
    assert!(
        forms
            .iter()
            .all(|form| form["client_id"] == "gate way" && !form.contains_key("client_secret"))
    );
}

#[tokio::test]
async fn the_client_proves_itself_in_each_way() {
    let both = Both::start(Lie::None).await;
    let token_url: Url = format!("{}/token", both.server.origin).parse().unwrap();
    let config = OAuthConfig {
        proof: ClientProof::Basic(Secret::new(SECRET.to_owned())),
        token_url: Some(token_url),
        ..both.config()
    };
    both.open(config).await.unwrap();
    let seen = &both.fetched()[0];
    let basic = seen.header("authorization").unwrap().strip_prefix("Basic ").unwrap();
    let joined = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
    assert_eq!(joined, "gate+way:p%C3%A4+ss%3Aw%C3%B6rd");
    assert!(!form(seen).contains_key("client_id"));
    assert!(
        both.server.seen()[0].path == "/token",
        "with a known endpoint nothing is looked for"
    );
}

#[tokio::test]
async fn a_signed_assertion_names_client_issuer_and_a_short_time() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = pair.to_pkcs8v1().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64_STANDARD.encode(der.as_ref())
    );
    let both = Both::start(Lie::None).await;
    let config = OAuthConfig {
        proof: ClientProof::PrivateKeyJwt(SigningKey {
            pem: Secret::new(pem),
            algorithm: SigningAlgorithm::Es256,
            key_id: Some("k1".to_owned()),
        }),
        ..both.config()
    };
    both.open(config).await.unwrap();
    let form = form(&both.fetched()[0]);
    assert_eq!(
        form["client_assertion_type"],
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    let assertion = &form["client_assertion"];
    let public = pair.public_key().as_ref();
    let point = base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let key =
        jsonwebtoken::DecodingKey::from_ec_components(&point.encode(&public[1..33]), &point.encode(&public[33..]))
            .unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.set_audience(&[format!("{}/as", both.server.origin)]);
    rules.validate_exp = false;
    let read = jsonwebtoken::decode::<Value>(assertion, &key, &rules).unwrap();
    assert_eq!(read.header.kid.as_deref(), Some("k1"));
    assert_eq!(
        (&read.claims["iss"], &read.claims["sub"]),
        (&json!("gate way"), &json!("gate way"))
    );
    assert_eq!(read.claims["iat"], 1_800_000_000);
    assert_eq!(read.claims["exp"], 1_800_000_120);
    assert_eq!(read.claims["jti"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn whoever_speaks_for_somebody_else_gets_no_secret() {
    for (lie, expected) in [
        (Lie::OtherResource, "about another resource"),
        (Lie::OtherIssuer, "names another issuer"),
        (Lie::EndpointElsewhere, "without TLS"),
        (Lie::MetadataElsewhere, "on another host"),
        (Lie::NoMetadata, "has no metadata"),
        (Lie::NoBearer, "no bearer token"),
        (Lie::InvalidClient, "status 401, invalid_client"),
    ] {
        let both = Both::start(lie).await;
        let fault = both.open(both.config()).await.err().unwrap();
        assert!(matches!(fault, ClientFault::Unauthorized(_)), "{lie:?}: {fault}");
        let shown = format!("{fault:?}");
        let told = shown + &fault.into_failure("s").chain();
        assert!(told.contains(expected), "{lie:?}: {told}");
        assert!(!told.contains(SECRET), "{lie:?}");
        let reached = both.fetched().len();
        assert_eq!(
            reached,
            usize::from(matches!(lie, Lie::NoBearer | Lie::InvalidClient)),
            "{lie:?}"
        );
    }
}

#[tokio::test]
async fn a_configured_issuer_is_the_only_one_believed() {
    let both = Both::start(Lie::OtherResource).await;
    let issuer: Url = format!("{}/as", both.server.origin).parse().unwrap();
    let config = OAuthConfig {
        issuer: Some(issuer),
        ..both.config()
    };
    both.open(config).await.unwrap();
    assert_eq!(
        both.fetched().len(),
        1,
        "what the upstream says of others is not even read"
    );
}
