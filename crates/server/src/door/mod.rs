//! The one door in front of every route.
//!
//! Two steps. The *edge* meets every request, known route or not: it gives it a trace, refuses strangers by Host and
//! Origin, and leaves an event of how it ended. The *gate* stands before each route and reads that route's row in the
//! table: it authenticates, authorises, limits, carries a request that has a name out once, and writes the audit event
//! of an action that changes something before the action. A handler behind it has a [`Caller`] and never sees a credential.

pub mod credentials;
mod edge;
mod ended;
mod gate;
pub mod keys;
pub mod limit;
pub(crate) mod named;
pub mod origin;
mod record;
pub mod token;
pub mod token_keys;

pub use edge::{Edge, Listener, edge};
pub use gate::{Gate, gate};
pub use record::Arrival;

use crate::config::{AuthConfig, LimitsConfig, ServerConfig};
use arc_swap::ArcSwap;
use credentials::Credential;
use ended::Revoked;
use forebay_domain::{
    Code, Failure, Principal,
    id::{KeyId, TraceId},
};
use forebay_mcp::Charge;
use forebay_runtime::{
    rate::{Quota, RateLimiter, Verdict},
    secret::SecretReader,
};
use forebay_store::Store;
use http::HeaderMap;
use keys::KeyRing;
use origin::Neighbours;
use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};
use token::{Outside, TokenVerifier};

/// Who asks, and under which trace: what a handler gets from the door.
#[derive(Debug, Clone)]
pub struct Caller {
    pub principal: Principal,
    pub trace: TraceId,
    /// How the caller's limit stands after this request.
    pub verdict: Verdict,
}

/// What the door needs to decide. The part that follows the configuration is swapped whole on reload.
pub struct Door {
    rules: ArcSwap<Rules>,
    pub(crate) keys: KeyRing,
    pub(crate) requests: Arc<RateLimiter>,
    revoked: Revoked,
    outside: Outside,
}

/// The door's rules under one configuration.
pub struct Rules {
    neighbours: Neighbours,
    metrics_neighbours: Option<Neighbours>,
    pub tokens: Option<TokenVerifier>,
    /// Where clients reach this gateway, for the RFC 9728 document.
    pub public_url: Option<url::Url>,
}

/// The configuration that the door follows.
pub struct DoorConfig<'a> {
    pub server: &'a ServerConfig,
    pub auth: &'a AuthConfig,
    pub limits: &'a LimitsConfig,
    pub secrets: &'a SecretReader,
    /// The address really bound, which differs from the configured one where its port is 0.
    pub bound: SocketAddr,
    pub metrics_bound: Option<SocketAddr>,
}

impl Door {
    pub fn new(config: &DoorConfig<'_>, store: &Store, outside: Outside) -> Result<Self, Failure> {
        Ok(Self {
            rules: ArcSwap::from_pointee(Rules::new(config, &outside)?),
            keys: KeyRing::new(store.clone(), outside.clock.clone()),
            requests: Arc::new(RateLimiter::new(
                per_minute(config.limits.requests_per_minute),
                &outside.clock,
            )),
            revoked: Revoked::default(),
            outside,
        })
    }

    /// Makes the rules of a new configuration, or says why it cannot be used.
    pub fn prepare(&self, config: &DoorConfig<'_>) -> Result<Rules, Failure> {
        Rules::new(config, &self.outside)
    }

    /// Puts prepared rules in force.
    pub fn adopt(&self, rules: Rules, limits: &LimitsConfig) {
        self.requests.set_quota(per_minute(limits.requests_per_minute));
        self.rules.store(Arc::new(rules));
    }

    /// Counts the requests of which one body brings many.
    pub(crate) fn charge(&self) -> Charge {
        let requests = self.requests.clone();
        Arc::new(move |principal| {
            let verdict = requests.check(&limit::subject(principal));
            if verdict.is_allowed() {
                Ok(())
            } else {
                Err(limit::exceeded(&verdict, "requests"))
            }
        })
    }

    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Forgets a revoked key and cuts what it holds open.
    pub fn close_key(&self, key: &KeyId) {
        self.keys.forget(key);
        self.revoked.tell(key);
    }

    /// Whose credentials these are.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Failure> {
        match credentials::read(headers)? {
            Credential::Key(key) => self.keys.principal(&key).await,
            Credential::Token(token) => match &self.rules().tokens {
                Some(verifier) => Box::pin(verifier.verify(&token)).await,
                None => Err(Failure::new(
                    Code::InvalidToken,
                    "The bearer is no API key, and this gateway accepts no tokens.",
                )
                .hint("Send an API key (`fb_…`), or configure `auth.jwt`.")),
            },
        }
    }
}

impl Rules {
    pub(crate) fn new(config: &DoorConfig<'_>, outside: &Outside) -> Result<Self, Failure> {
        let public_url = config.server.public_url.as_ref();
        let neighbours = |bound| {
            Neighbours::new(bound, public_url, &config.server.hosts, &config.auth.origins)
                .map_err(|fault| Failure::new(Code::InvalidConfig, format!("{fault}.")))
        };
        let tokens = match &config.auth.jwt {
            Some(jwt) => Some(TokenVerifier::new(jwt, config.secrets, outside)?),
            None => None,
        };
        Ok(Self {
            neighbours: neighbours(config.bound)?,
            metrics_neighbours: config.metrics_bound.map(neighbours).transpose()?,
            tokens,
            public_url: public_url.cloned(),
        })
    }

    /// The names and origins that a listener answers to.
    pub fn neighbours(&self, listener: Listener) -> &Neighbours {
        match (listener, &self.metrics_neighbours) {
            (Listener::Metrics, Some(own)) => own,
            (Listener::Metrics, None) | (Listener::Main, _) => &self.neighbours,
        }
    }
}

/// A quota of so many a minute. Zero is refused by the configuration's schema, and means one here.
pub fn per_minute(requests: u32) -> Quota {
    Quota {
        requests: NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN),
        window: Duration::from_mins(1),
    }
}
