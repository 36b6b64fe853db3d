//! What can be said of an upstream without its secrets: whether it could be reached as it is written.
//!
//! Secrets have a check of their own, which tells each that is missing at its own key. So here every one is taken to be
//! there.

use forebay_domain::Failure;
use forebay_mcp::upstream::{AuthConfig, Config, EnvValue, Kit, UpstreamConfig, Upstreams};
use forebay_runtime::{Clock, Entropy, SecretRef, http, secret::SecretReader};
use std::collections::BTreeMap;

/// One upstream, as if it were the only one.
pub(super) fn check(name: &str, upstream: &UpstreamConfig) -> Result<(), Failure> {
    let mut upstream = upstream.clone();
    secrets(&mut upstream).for_each(|reference| *reference = SecretRef::Env("PRESENT".to_owned()));
    let kit = Kit {
        secrets: SecretReader::new(|_| Some("present".to_owned())),
        client: http::trusted(),
        clock: Clock::system(),
        entropy: Entropy::system(),
    };
    Upstreams::check(&Config(BTreeMap::from([(name.to_owned(), upstream)])), &kit)
}

fn secrets(upstream: &mut UpstreamConfig) -> impl Iterator<Item = &mut SecretRef> {
    let of_env = upstream.env.values_mut().filter_map(|value| match value {
        EnvValue::Secret(reference) => Some(reference),
        EnvValue::Text(_) => None,
    });
    let of_auth = match &mut upstream.auth {
        None => Vec::new(),
        Some(AuthConfig::Bearer(token)) => vec![token],
        Some(AuthConfig::Header { name: _, value }) => vec![value],
        Some(AuthConfig::Oauth(oauth)) => {
            let key = oauth.private_key.as_mut().map(|key| &mut key.pem);
            [oauth.client_secret.as_mut(), oauth.refresh_token.as_mut(), key]
                .into_iter()
                .flatten()
                .collect()
        }
    };
    of_env.chain(of_auth)
}
