//! A token issuer: real keys, real signatures, and a key set published over HTTP that can rotate, fail and lie.

use aws_lc_rs::{
    encoding::AsDer,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair},
};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// One private key with its public half.
pub struct SigningKey {
    pub id: String,
    pub algorithm: Algorithm,
    private: EncodingKey,
    public: Jwk,
}

impl SigningKey {
    /// Generates a key for RS256, ES256 or EdDSA.
    pub fn generate(id: &str, algorithm: Algorithm) -> Self {
        let private = match algorithm {
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                EncodingKey::from_rsa_pem(&pem(pair.as_der().unwrap().as_ref())).unwrap()
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                EncodingKey::from_ec_pem(&pem(pair.to_pkcs8v1().unwrap().as_ref())).unwrap()
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().unwrap();
                EncodingKey::from_ed_pem(&pem(pair.to_pkcs8v1().unwrap().as_ref())).unwrap()
            }
            other => panic!("the issuer makes no keys for {other:?}"),
        };
        let mut public = Jwk::from_encoding_key(&private, algorithm).unwrap();
        public.common.key_id = Some(id.to_owned());
        Self {
            id: id.to_owned(),
            algorithm,
            private,
            public,
        }
    }

    /// Signs claims under this key's own id.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }

    /// The public half as the key set shows it.
    pub fn public(&self) -> Value {
        serde_json::to_value(&self.public).unwrap()
    }
}

fn pem(der: &[u8]) -> Vec<u8> {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
    .into_bytes()
}

/// Signs with a shared secret.
pub fn sign_hs256(secret: &[u8], claims: &Value) -> String {
    jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(secret),
    )
    .unwrap()
}

/// A token from raw parts, for forgeries that no honest library would make.
pub fn forge(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    format!(
        "{}.{}.{}",
        part(header.to_string().as_bytes()),
        part(claims.to_string().as_bytes()),
        part(signature)
    )
}

/// The HTTP side of the issuer.
pub struct Issuer {
    pub url: String,
    served: Arc<Served>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Served {
    /// `None` answers 503.
    document: Mutex<Option<String>>,
    fetches: watch::Sender<usize>,
    held: watch::Sender<bool>,
}

impl Issuer {
    /// Publishes these keys on a free port.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let served = Arc::new(Served::default());
        let app = Router::new()
            .route("/jwks.json", get(answer))
            .with_state(served.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "the fake ends with the test's runtime")]
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let issuer = Self {
            url,
            served,
            server: task,
        };
        issuer.publish(keys);
        issuer
    }

    /// Replaces the key set.
    pub fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        *self.served.document.lock().unwrap() = Some(json!({ "keys": keys }).to_string());
    }

    /// Answers 503 from now on.
    pub fn fail(&self) {
        *self.served.document.lock().unwrap() = None;
    }

    /// Answers nobody until [`Issuer::release`].
    pub fn hold(&self) {
        self.served.held.send_replace(true);
    }

    pub fn release(&self) {
        self.served.held.send_replace(false);
    }

    /// How often the key set was asked for.
    pub fn fetches(&self) -> usize {
        *self.served.fetches.borrow()
    }

    /// Waits until it was asked for so often.
    pub async fn asked(&self, count: usize) {
        let mut fetches = self.served.fetches.subscribe();
        fetches.wait_for(|fetches| *fetches >= count).await.unwrap();
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(served): State<Arc<Served>>) -> Result<String, StatusCode> {
    served.fetches.send_modify(|fetches| *fetches += 1);
    served.held.subscribe().wait_for(|held| !held).await.unwrap();
    served
        .document
        .lock()
        .unwrap()
        .clone()
        .ok_or(StatusCode::SERVICE_UNAVAILABLE)
}
