//! Tokens: four algorithms by allow-list, rotation, and every forgery that is in the books.

use crate::rig::{Rig, SECRET, SHORT_LIFE};
use forebay_runtime::{Clock, Tasks};
use forebay_server::door::token_keys::{Published, TokenKeys};
use forebay_testkit::jwks::{Issuer, SigningKey, forge, sign_hs256};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::time::Duration;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://gateway.example/mcp";

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "ursula", "tenant": "acme", "exp": now() + 300})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn now() -> i64 {
    forebay_runtime::Clock::system().now().as_second()
}

async fn rig(jwt: Value) -> Rig {
    let mut config = json!({"issuer": ISSUER, "audience": AUDIENCE});
    config.as_object_mut().unwrap().extend(jwt.as_object().unwrap().clone());
    Rig::with(|app| app.auth.jwt = Some(serde_json::from_value(config).unwrap())).await
}

/// The status and code with which a token is answered.
async fn answer(rig: &Rig, token: &str) -> (u16, String) {
    let request = rig.request("GET", "/api/v1/status", "").bearer_auth(token);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn each_published_algorithm_opens_the_door() {
    let keys = [
        ("r", Algorithm::RS256),
        ("e", Algorithm::ES256),
        ("d", Algorithm::EdDSA),
    ]
    .map(|(id, algorithm)| SigningKey::generate(id, algorithm));
    let issuer = Issuer::start(&keys.iter().collect::<Vec<_>>()).await;
    let rig = rig(json!({"jwks_url": issuer.url})).await;
    for key in &keys {
        assert_eq!(answer(&rig, &key.sign(&claims())).await.0, 200, "{:?}", key.algorithm);
    }
    assert_eq!(issuer.fetches(), 1, "the set is cached");
    let only = SigningKey::generate("e", Algorithm::ES256);
    let strict = Issuer::start(&[&keys[0], &only]).await;
    let rig = self::rig(json!({"jwks_url": strict.url, "algorithms": ["ES256"]})).await;
    assert_eq!(answer(&rig, &only.sign(&claims())).await.0, 200);
    assert_eq!(
        answer(&rig, &keys[0].sign(&claims())).await,
        (401, "invalid_token".to_owned()),
        "not on the list"
    );
}

#[tokio::test]
async fn a_shared_secret_opens_the_door() {
    let rig = rig(json!({"secret": {"env": "JWT_SECRET"}})).await;
    assert_eq!(answer(&rig, &sign_hs256(SECRET.as_bytes(), &claims())).await.0, 200);
    let wrong = sign_hs256(b"another secret that is long enough.", &claims());
    assert_eq!(answer(&rig, &wrong).await, (401, "invalid_token".to_owned()));
}

#[tokio::test]
async fn forged_and_unfit_tokens_are_refused() {
    let key = SigningKey::generate("k", Algorithm::RS256);
    let stranger = SigningKey::generate("k", Algorithm::RS256);
    let unlisted = SigningKey::generate("unlisted", Algorithm::RS256);
    let issuer = Issuer::start(&[&key]).await;
    let rig = rig(json!({"jwks_url": issuer.url})).await;
    let public = key.public().to_string();
    let hs = |secret: &[u8]| sign_hs256(secret, &claims());
    let cases = [
        ("alg none", forge(&json!({"alg": "none", "typ": "JWT"}), &claims(), b"")),
        ("alg None", forge(&json!({"alg": "None", "kid": "k"}), &claims(), b"")),
        ("the public key as HMAC secret", hs(public.as_bytes())),
        (
            "the modulus as HMAC secret",
            hs(key.public()["n"].as_str().unwrap().as_bytes()),
        ),
        ("another's signature under our key id", stranger.sign(&claims())),
        ("a key that is not listed", unlisted.sign(&claims())),
        ("a broken signature", {
            let mut t = key.sign(&claims());
            let end = t.split_off(t.len() - 8);
            t + &end.chars().rev().collect::<String>()
        }),
        (
            "another audience",
            key.sign(&with("aud", json!("https://elsewhere.example"))),
        ),
        ("no audience", key.sign(&without("aud"))),
        ("another issuer", key.sign(&with("iss", json!("https://evil.example")))),
        ("no expiry", key.sign(&without("exp"))),
        ("an expiry that is no number", key.sign(&with("exp", json!("soon")))),
        ("not valid yet", key.sign(&with("nbf", json!(now() + 600)))),
        ("no subject", key.sign(&without("sub"))),
        ("no tenant", key.sign(&without("tenant"))),
        ("a tenant that is no name", key.sign(&with("tenant", json!("a b\n")))),
        ("a role that is none", key.sign(&with("roles", json!("root")))),
        (
            "critical extensions",
            forge(&json!({"alg": "RS256", "kid": "k", "crit": ["x"]}), &claims(), b"x"),
        ),
        ("two parts", "eyJhbGciOiJSUzI1NiJ9.e30".to_owned()),
        ("nonsense with dots", "a.b.c".to_owned()),
    ];
    for (what, token) in cases {
        assert_eq!(answer(&rig, &token).await, (401, "invalid_token".to_owned()), "{what}");
    }
    assert_eq!(
        answer(&rig, &key.sign(&with("exp", json!(now() - 120)))).await,
        (401, "expired_token".to_owned())
    );
    assert_eq!(
        answer(&rig, &key.sign(&claims())).await.0,
        200,
        "and a right one still passes"
    );
}

/// What a token holds open ends with it: a listener here, which nothing else would end.
#[tokio::test]
async fn a_token_that_expires_ends_what_it_holds_open() {
    let rig = rig(json!({"secret": {"env": "JWT_SECRET"}, "leeway_seconds": 0})).await;
    let until = now() + SHORT_LIFE.as_secs().cast_signed();
    let token = sign_hs256(SECRET.as_bytes(), &with("exp", json!(until)));
    let listen = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {
        "notifications": {"toolsListChanged": true},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}}}});
    let heard = rig
        .request("POST", "/mcp", "")
        .bearer_auth(&token)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen")
        .json(&listen)
        .send()
        .await
        .unwrap();
    assert_eq!(heard.status(), 200);
    let all = heard.text().await.unwrap();
    assert!(all.contains("acknowledged"), "{all}");
    assert!(now() >= until, "not before its time");
    assert_eq!(answer(&rig, &token).await, (401, "expired_token".to_owned()));
}

#[tokio::test]
async fn roles_and_scopes_come_from_claims_and_only_narrow() {
    let key = SigningKey::generate("k", Algorithm::EdDSA);
    let issuer = Issuer::start(&[&key]).await;
    let rig = rig(json!({"jwks_url": issuer.url, "default_role": "viewer"})).await;
    let explain = |claims: Value, action: &'static str| {
        let (rig, key) = (&rig, &key);
        async move {
            let request = rig
                .request("GET", &format!("/api/v1/explain?action={action}"), "")
                .bearer_auth(key.sign(&claims));
            let body: Value = request.send().await.unwrap().json().await.unwrap();
            (
                body["role"].as_str().unwrap_or_default().to_owned(),
                body["allowed"].as_bool().unwrap_or_default(),
            )
        }
    };
    assert_eq!(explain(claims(), "tool:calculator").await, ("viewer".to_owned(), false));
    let user = with("roles", json!(["somebody-else", "user", "viewer"]));
    assert_eq!(
        explain(user.clone(), "tool:calculator").await,
        ("user".to_owned(), true)
    );
    let mut scoped = user;
    scoped["scope"] = json!("openid tool:web_* *");
    assert_eq!(
        explain(scoped.clone(), "tool:calculator").await,
        ("user".to_owned(), false)
    );
    assert_eq!(explain(scoped, "tool:web_search").await, ("user".to_owned(), true));
}

#[tokio::test]
async fn an_issuer_that_fails_is_503_and_locks_no_key_out() {
    let key = SigningKey::generate("k", Algorithm::ES256);
    let issuer = Issuer::start(&[]).await;
    issuer.fail();
    let rig = rig(json!({"jwks_url": issuer.url})).await;
    for _ in 0..20 {
        assert_eq!(
            answer(&rig, &key.sign(&claims())).await,
            (503, "token_keys_unavailable".to_owned()),
            "503, not 401"
        );
    }
    assert_eq!(issuer.fetches(), 1, "nobody can make it fetch again and again");
    assert_eq!(
        answer(&rig, &rig.admin).await.0,
        200,
        "API keys do not depend on the issuer"
    );
}

fn published(issuer: &Issuer, clock: &Clock) -> Published {
    let client = forebay_runtime::http::trusted();
    Published::new(issuer.url.parse().unwrap(), client, clock.clone(), Tasks::new())
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_and_outlives_whoever_hangs_up() {
    let key = SigningKey::generate("k", Algorithm::ES256);
    let issuer = Issuer::start(&[&key]).await;
    issuer.hold();
    let keys = TokenKeys::Published(published(&issuer, &Clock::system()));
    let find = || keys.find(Some("k"), Algorithm::ES256);
    let hung_up = tokio::time::timeout(Duration::from_millis(50), find()).await;
    assert!(hung_up.is_err(), "the issuer holds its answer back");
    issuer.asked(1).await;
    let (first, second, ()) = tokio::join!(find(), find(), async { issuer.release() });
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn keys_rotate_and_an_old_set_outlives_a_failing_issuer() {
    let (old, new) = (
        SigningKey::generate("old", Algorithm::ES256),
        SigningKey::generate("new", Algorithm::ES256),
    );
    let issuer = Issuer::start(&[&old]).await;
    let clock = Clock::manual(Clock::system().now());
    let published = published(&issuer, &clock);
    let keys = TokenKeys::Published(published);
    let knows = |key: &'static str| {
        let keys = &keys;
        async move { keys.find(Some(key), Algorithm::ES256).await.is_ok() }
    };
    assert!(knows("old").await);
    issuer.publish(&[&new]);
    assert!(!knows("new").await, "it asked a moment ago");
    clock.advance(Duration::from_secs(11));
    assert!(knows("new").await, "an unknown key makes it ask again");
    assert!(!knows("old").await, "what the issuer withdrew is gone");
    issuer.hold();
    clock.advance(Duration::from_hours(1));
    assert!(knows("new").await, "an old set serves while a new one is fetched");
    issuer.fail();
    issuer.release();
    assert!(knows("new").await, "what is there stays while the issuer fails");
    assert!(
        keys.find(None, Algorithm::ES256).await.is_ok(),
        "the only key needs no name"
    );
    assert!(keys.find(None, Algorithm::RS256).await.is_err());
}

#[tokio::test]
async fn a_configuration_that_verifies_too_little_is_refused() {
    let cases = [
        json!({"secret": {"env": "WEAK_SECRET"}}),
        json!({"secret": {"env": "NOT_SET"}}),
        json!({"secret": {"env": "JWT_SECRET"}, "jwks_url": "http://localhost/jwks"}),
        json!({}),
        json!({"jwks_url": "http://localhost/jwks", "algorithms": ["HS256"]}),
        json!({"secret": {"env": "JWT_SECRET"}, "algorithms": ["RS256"]}),
        json!({"secret": {"env": "JWT_SECRET"}, "algorithms": []}),
    ];
    let rig = Rig::start().await;
    for jwt in cases {
        let mut config = forebay_server::AppConfig::default();
        let mut section = json!({"issuer": ISSUER, "audience": AUDIENCE});
        section
            .as_object_mut()
            .unwrap()
            .extend(jwt.as_object().unwrap().clone());
        config.auth.jwt = Some(serde_json::from_value(section).unwrap());
        let refused = rig.gateway.app.reconfigure(&config).await.unwrap_err();
        assert_eq!(refused.code, forebay_domain::Code::InvalidConfig, "{jwt}");
        assert!(refused.message.contains("auth.jwt"), "{}", refused.message);
    }
    assert_eq!(rig.get("/v1/models").await.status(), 200);
}
