//! The keys that verify tokens: one shared secret, a fixed set, or a set that the issuer publishes and rotates.
//!
//! A published set is fetched when it is first needed, again when it is old, and again when a token names a key that is
//! not in it (the issuer rotated), but never more often than [`FETCH_AGAIN_AFTER`]: unknown key ids are free to invent.
//! A failed fetch keeps the set that was there.

use arc_swap::ArcSwapOption;
use forebay_domain::{Code, Failure};
use forebay_runtime::{Clock, Tasks};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde_json::value::RawValue;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;
use url::Url;

/// A set older than this is fetched again before it is used.
const FRESH_FOR: Duration = Duration::from_mins(10);
/// Least time between two fetches.
const FETCH_AGAIN_AFTER: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
const KEYS_MAX: usize = 100;
/// RFC 7518 §3.3.
const RSA_MODULUS_BYTES_MIN: usize = 256;

/// One key, usable for exactly one algorithm.
#[derive(Clone)]
pub struct TokenKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// A set of public keys.
#[derive(Clone, Default)]
pub struct KeySet(Vec<TokenKey>);

/// Why a key set document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetFault {
    #[error("it is no JSON Web Key Set (RFC 7517)")]
    Document(#[source] serde_json::Error),
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
    #[error("it has no key for RS256, ES256 or EdDSA signatures")]
    NoneUsable,
}

impl KeySet {
    /// Reads a JWKS document. Keys of other kinds or uses are skipped, above all symmetric ones: a published secret is
    /// none.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetFault> {
        #[derive(serde::Deserialize)]
        struct Document<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let Document { keys } = serde_json::from_slice(document).map_err(KeySetFault::Document)?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetFault::TooMany);
        }
        let usable = keys
            .iter()
            .filter_map(|raw| serde_json::from_str::<Jwk>(raw.get()).ok().as_ref().and_then(usable));
        let keys: Vec<TokenKey> = usable.collect();
        if keys.is_empty() {
            Err(KeySetFault::NoneUsable)
        } else {
            Ok(Self(keys))
        }
    }

    pub fn algorithms(&self) -> Vec<Algorithm> {
        [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
            .into_iter()
            .filter(|wanted| self.0.iter().any(|key| key.algorithm == *wanted))
            .collect()
    }

    /// The key with this id; without an id, the only key of the algorithm.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut candidates = self.0.iter().filter(|key| key.algorithm == algorithm);
        match id {
            Some(id) => candidates.find(|key| key.id.as_deref() == Some(id)).map(|key| &key.key),
            None => match (candidates.next(), candidates.next()) {
                (Some(only), None) => Some(&only.key),
                _ => None,
            },
        }
    }
}

/// The algorithm follows from the type of the key, never from the token alone.
fn usable(jwk: &Jwk) -> Option<TokenKey> {
    let common = &jwk.common;
    let signs = common
        .public_key_use
        .as_ref()
        .is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && common
            .key_operations
            .as_ref()
            .is_none_or(|ops| ops.contains(&KeyOperations::Verify));
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if modulus_bytes(&rsa.n) >= RSA_MODULUS_BYTES_MIN => {
            (Algorithm::RS256, KeyAlgorithm::RS256)
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let agrees = common.key_algorithm.as_ref().is_none_or(|stated| *stated == name);
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (signs && agrees).then(|| TokenKey {
        id: common.key_id.clone(),
        algorithm,
        key,
    })
}

/// The size of a base64url number; leading zeros do not occur in a JWK (RFC 7518 §6.3.1.1).
fn modulus_bytes(base64url: &str) -> usize {
    base64url.trim_end_matches('=').len() * 3 / 4
}

/// Where the keys come from.
pub enum TokenKeys {
    Secret(DecodingKey),
    Fixed(KeySet),
    Published(Published),
}

impl TokenKeys {
    /// The key for a token's header.
    pub async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Failure> {
        let unknown = || {
            let named = id.map_or("names no key".to_owned(), |id| format!("names the key {id:?}"));
            Failure::new(
                Code::InvalidToken,
                format!("The token {named}, which the issuer does not list for its algorithm."),
            )
            .hint("Get a new token from the issuer.")
        };
        match self {
            Self::Secret(key) => Ok(key.clone()),
            Self::Fixed(set) => set.find(id, algorithm).cloned().ok_or_else(unknown),
            Self::Published(published) => {
                let set = published.current().await?;
                if let Some(key) = set.find(id, algorithm) {
                    return Ok(key.clone());
                }
                published
                    .again()
                    .await?
                    .find(id, algorithm)
                    .cloned()
                    .ok_or_else(unknown)
            }
        }
    }
}

/// A set that the issuer publishes at a URL.
pub struct Published(Arc<Issuer>);

struct Issuer {
    url: Url,
    client: reqwest::Client,
    clock: Clock,
    tasks: Tasks,
    held: ArcSwapOption<Held>,
    fetch: Mutex<Fetch>,
}

struct Held {
    set: Arc<KeySet>,
    fetched: Duration,
}

/// At most one fetch is under way. It belongs to nobody who waits for it, so whoever hangs up stops it for no one.
enum Fetch {
    Idle {
        last_ended: Option<Duration>,
    },
    /// The sender is dropped when it ends.
    Running(watch::Receiver<()>),
}

impl Published {
    pub fn new(url: Url, client: reqwest::Client, clock: Clock, tasks: Tasks) -> Self {
        Self(Arc::new(Issuer {
            url,
            client,
            clock,
            tasks,
            held: ArcSwapOption::empty(),
            fetch: Mutex::new(Fetch::Idle { last_ended: None }),
        }))
    }

    /// The set that is there; where it is old, a new one is fetched meanwhile. Only the first set is waited for.
    async fn current(&self) -> Result<Arc<KeySet>, Failure> {
        let held = self.0.held.load_full();
        let Some(held) = held else { return self.again().await };
        if self.0.clock.monotonic() >= held.fetched + FRESH_FOR {
            self.begin();
        }
        Ok(held.set.clone())
    }

    /// The set after a fetch, or as it is where one was made a moment ago.
    async fn again(&self) -> Result<Arc<KeySet>, Failure> {
        if let Some(mut running) = self.begin() {
            // An error says that the sender is gone: the fetch has ended.
            while running.changed().await.is_ok() {}
        }
        match &*self.0.held.load() {
            Some(held) => Ok(held.set.clone()),
            None => Err(Failure::new(
                Code::TokenKeysUnavailable,
                "The keys that verify tokens cannot be fetched now.",
            )
            .hint("Try again shortly, or use an API key.")
            .retry_after(FETCH_AGAIN_AFTER)),
        }
    }

    /// The fetch that is under way, or a new one; `None` where the last one ended a moment ago.
    fn begin(&self) -> Option<watch::Receiver<()>> {
        let mut fetch = self.0.fetch.lock().expect("nobody panics while holding it");
        match &*fetch {
            // Where the sender is gone the fetch has died, and does not count.
            Fetch::Running(running) if running.has_changed().is_ok() => return Some(running.clone()),
            Fetch::Idle {
                last_ended: Some(ended),
            } if self.0.clock.monotonic() < *ended + FETCH_AGAIN_AFTER => {
                return None;
            }
            Fetch::Running(_) | Fetch::Idle { .. } => {}
        }
        let (done, running) = watch::channel(());
        *fetch = Fetch::Running(running.clone());
        let issuer = self.0.clone();
        self.0.tasks.spawn("token_keys", |_| async move {
            issuer.renew().await;
            drop(done);
        });
        Some(running)
    }
}

impl Issuer {
    async fn renew(&self) {
        let outcome = self.fetch().await;
        let now = self.clock.monotonic();
        match outcome {
            Ok(set) => self.held.store(Some(Arc::new(Held {
                set: Arc::new(set),
                fetched: now,
            }))),
            Err(fault) => tracing::warn!(url = %self.url, error = %fault.chain(), "token keys were not fetched"),
        }
        *self.fetch.lock().expect("nobody panics while holding it") = Fetch::Idle { last_ended: Some(now) };
    }

    async fn fetch(&self) -> Result<KeySet, Failure> {
        let failed = |what: &str| Failure::new(Code::TokenKeysUnavailable, what.to_owned());
        let request = self.client.get(self.url.clone()).timeout(FETCH_TIMEOUT);
        let mut response = request
            .send()
            .await
            .map_err(|error| failed("the key set was not answered").caused_by(error))?;
        if !response.status().is_success() {
            return Err(failed(&format!("the key set was answered with {}", response.status())));
        }
        let mut document = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| failed("the key set broke off").caused_by(error))?
        {
            document.extend_from_slice(&chunk);
            if document.len() > DOCUMENT_BYTES_MAX {
                return Err(failed("the key set is larger than 1 MiB"));
            }
        }
        KeySet::parse(&document).map_err(|fault| failed("the key set cannot be used").caused_by(fault))
    }
}
