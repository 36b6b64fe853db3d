//! OAuth towards an upstream: the gateway's own tokens, by client credentials or a refresh token.
//!
//! A token is kept until shortly before it expires, and fetched once however many requests want it. Where the token
//! endpoint is not configured, it is found through what the upstream's 401 says (RFC 9728) and the authorization
//! server's own metadata (RFC 8414, OpenID Connect). It refuses endpoints without TLS on other hosts, metadata that
//! speaks for somebody else, and it writes no secret anywhere but into the one request that needs it.

mod discovery;
mod grant;

use super::ClientFault;
use discovery::{Endpoint, Wanted};
use forebay_runtime::{Clock, Entropy, Secret};
use grant::Asked;
use http::{HeaderMap, HeaderValue};
use moka::future::Cache;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use url::Url;

/// What the operator configured.
#[derive(Debug, Clone)]
pub struct OAuthConfig {
    pub client_id: String,
    pub proof: ClientProof,
    pub grant: Grant,
    /// Separated by spaces; what the upstream asks for where `None`.
    pub scope: Option<String>,
    /// Where tokens are given out; found where `None`.
    pub token_url: Option<Url>,
    /// The only authorization server that may be believed. Name it where an upstream is not trusted to choose who gets
    /// to see the client secret.
    pub issuer: Option<Url>,
    /// What the token is for (RFC 8707): the upstream's own URL.
    pub resource: Url,
}

/// How the client proves that it is itself.
#[derive(Debug, Clone)]
pub enum ClientProof {
    /// A public client.
    None,
    /// `client_secret_basic`
    Basic(Secret),
    /// `client_secret_post`
    Post(Secret),
    /// `private_key_jwt`
    PrivateKeyJwt(SigningKey),
}

/// A key in PEM form, and how it signs.
#[derive(Debug, Clone)]
pub struct SigningKey {
    pub pem: Secret,
    pub algorithm: SigningAlgorithm,
    pub key_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    Rs256,
    Es256,
    Es384,
    EdDsa,
}

#[derive(Debug, Clone)]
pub enum Grant {
    ClientCredentials,
    /// The first refresh token. Where the server hands out another one with each use, the newest is kept in memory.
    Refresh(Secret),
}

/// What fetching needs beside the configuration.
#[derive(Clone)]
pub struct OAuthParts {
    pub client: reqwest::Client,
    pub clock: Clock,
    pub entropy: Entropy,
}

/// How long before its end a token is replaced, at most; a short-lived one is used for nine tenths of its time.
const MARGIN_MAX: Duration = Duration::from_mins(1);
/// Where a server does not say how long its token lasts.
const LIFETIME_DEFAULT: Duration = Duration::from_mins(5);
const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// For finding the endpoint and fetching a token together.
const FETCH_WAIT: Duration = Duration::from_secs(30);

/// The source of tokens for one upstream. Clones share the token.
#[derive(Clone)]
pub struct OAuth(Arc<Shared>);

struct Shared {
    config: OAuthConfig,
    parts: OAuthParts,
    /// One entry: the token of the present generation, or the fetching of it.
    tokens: Cache<u64, Arc<Token>>,
    generation: AtomicU64,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    endpoint: Option<Endpoint>,
    refresh: Option<Secret>,
    /// The scope that a challenge asked for.
    scope: Option<String>,
}

/// A token, as the header that carries it.
pub(super) struct Token {
    header: HeaderValue,
    /// Since the clock's fixed moment.
    good_until: Duration,
    generation: u64,
}

impl Token {
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("client_id", &self.0.config.client_id)
            .finish_non_exhaustive()
    }
}

impl OAuth {
    pub fn new(config: OAuthConfig, parts: OAuthParts) -> Self {
        let endpoint = config.token_url.clone().map(|url| Endpoint {
            audience: config.issuer.as_ref().map_or_else(|| url.to_string(), issuer_text),
            url,
            scopes: None,
        });
        Self(Arc::new(Shared {
            config,
            parts,
            tokens: Cache::new(4),
            generation: AtomicU64::new(0),
            found: Mutex::new(Found {
                endpoint,
                ..Found::default()
            }),
        }))
    }

    /// The present token. `None` while it is not known where to get one: the upstream's refusal will tell.
    pub(super) async fn token(&self) -> Result<Option<Arc<Token>>, ClientFault> {
        let may_fetch = self.0.found().endpoint.is_some() || self.0.config.issuer.is_some();
        if may_fetch {
            self.fetch(None).await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Another token, after the upstream has refused one or asked for one.
    pub(super) async fn renew(&self, refused: Option<&Token>, answer: &HeaderMap) -> Result<Arc<Token>, ClientFault> {
        let challenge = discovery::challenge(answer);
        if let Some(scope) = challenge.scope.clone() {
            self.0.found().scope = Some(scope);
        }
        if let Some(refused) = refused {
            self.0.pass(refused.generation);
        }
        self.fetch(challenge.metadata).await
    }

    async fn fetch(&self, metadata: Option<Url>) -> Result<Arc<Token>, ClientFault> {
        loop {
            let generation = self.0.generation.load(Ordering::SeqCst);
            let fetching = async {
                tokio::time::timeout(FETCH_WAIT, self.0.fetch(generation, metadata.clone()))
                    .await
                    .unwrap_or(Err(ClientFault::TimedOut(FETCH_WAIT)))
                    .map(Arc::new)
            };
            let fetched_by_us = !self.0.tokens.contains_key(&generation);
            let token = self.0.tokens.try_get_with(generation, fetching).await;
            let token = token.map_err(|fault| again(&fault))?;
            // A token that is old when it comes is used all the same: fetching it over and over would not make it new.
            if fetched_by_us || token.good_until > self.0.parts.clock.monotonic() {
                return Ok(token);
            }
            self.0.pass(generation);
        }
    }
}

impl Shared {
    /// Goes on to the next generation, unless somebody has done so already.
    fn pass(&self, generation: u64) {
        // Losing this race means that another token is on its way.
        let _raced = self
            .generation
            .compare_exchange(generation, generation + 1, Ordering::SeqCst, Ordering::SeqCst);
    }

    async fn fetch(&self, generation: u64, metadata: Option<Url>) -> Result<Token, ClientFault> {
        let endpoint = self.endpoint(metadata).await?;
        let (refresh, asked) = {
            let found = self.found();
            (found.refresh.clone(), found.scope.clone())
        };
        let scope = self.config.scope.clone().or(asked).or_else(|| endpoint.scopes.clone());
        let asked = Asked {
            refresh: refresh.as_ref(),
            scope: scope.as_deref(),
        };
        let given = grant::fetch(&self.config, &self.parts, &endpoint, &asked).await?;
        if let Some(next) = given.refresh {
            self.found().refresh = Some(next);
        }
        let lifetime = given.lifetime.unwrap_or(LIFETIME_DEFAULT).min(LIFETIME_MAX);
        let margin = (lifetime / 10).min(MARGIN_MAX);
        Ok(Token {
            header: given.header,
            good_until: self.parts.clock.monotonic() + lifetime.saturating_sub(margin),
            generation,
        })
    }

    async fn endpoint(&self, metadata: Option<Url>) -> Result<Endpoint, ClientFault> {
        let known = self.found().endpoint.clone();
        if let Some(endpoint) = known {
            return Ok(endpoint);
        }
        let wanted = Wanted {
            client: &self.parts.client,
            resource: &self.config.resource,
            issuer: self.config.issuer.as_ref(),
            metadata,
        };
        let endpoint = wanted.find().await?;
        self.found().endpoint = Some(endpoint.clone());
        Ok(endpoint)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().expect("nobody panics while holding what was found")
    }
}

/// An issuer as it is written: a URL without a path has no slash at its end.
fn issuer_text(issuer: &Url) -> String {
    issuer.as_str().trim_end_matches('/').to_owned()
}

/// The fault again, for each of those who waited for the same fetching.
fn again(fault: &ClientFault) -> ClientFault {
    match fault {
        ClientFault::TimedOut(after) => ClientFault::TimedOut(*after),
        ClientFault::Unreachable { what, .. } => ClientFault::Unreachable {
            what: format!("its authorization server: {what}"),
            source: None,
        },
        ClientFault::Misconfigured(what) => ClientFault::Misconfigured(what.clone()),
        ClientFault::Unauthorized(what) => ClientFault::Unauthorized(what.clone()),
        ClientFault::Refused(_)
        | ClientFault::SessionExpired
        | ClientFault::Busy { .. }
        | ClientFault::TooLarge { .. }
        | ClientFault::Broken { .. }
        | ClientFault::Protocol(_)
        | ClientFault::Version(_)
        | ClientFault::Cancelled
        | ClientFault::EndedOnProbe => ClientFault::Unauthorized(format!("no token could be fetched: {fault}")),
    }
}
