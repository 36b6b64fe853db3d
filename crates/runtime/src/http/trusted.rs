//! The client for what the operator configured: backends, upstreams, key sets, collectors.
//!
//! Loopback and private addresses are fine here. It follows no redirects, since a credential meant for one host must
//! not travel to another; it repeats nothing by itself, since only the caller knows what may be done twice; and it
//! ignores proxy variables, since a proxy that was set up for something else would see the backends' credentials.
//! It sets no total timeout: a streamed answer may take long, and each caller has its own deadline.

use super::USER_AGENT;
use reqwest::{Client, ClientBuilder, redirect, retry};
use std::time::Duration;
use tracing::warn;

pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Shorter than the five seconds after which common engines (uvicorn) close an idle connection themselves: a request
/// that meets that moment fails, and could not be repeated safely.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(4);
pub(super) const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 256;
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes the client. Make one and clone it: its clones share their connections.
pub fn trusted() -> Client {
    build(|| {
        common()
            .connect_timeout(CONNECT_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
    })
}

/// What holds for both clients.
#[expect(
    clippy::disallowed_methods,
    reason = "this module makes the clients that everybody else uses"
)]
pub(super) fn common() -> ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
}

/// A machine without root certificates (a bare container) still reaches its backends over plain HTTP.
pub(super) fn build(options: impl Fn() -> ClientBuilder) -> Client {
    options().build().unwrap_or_else(|error| {
        warn!(
            ?error,
            "no root certificates could be loaded: every https request will fail"
        );
        options()
            .tls_certs_only([])
            .build()
            .expect("a client without root certificates needs nothing of the machine")
    })
}
