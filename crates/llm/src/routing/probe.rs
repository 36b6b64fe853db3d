//! Asking backends whether they are well, in the background.
//!
//! A probe sees what no request can: that a backend which is out is back, and that one which nobody asks is gone. Any
//! answer counts as well but an error of the engine's own and a rejected credential; which address tells most differs
//! from engine to engine, and a wrong one must not take a working backend out of use.

use crate::settings::{Backend, Model, Settings};
use arc_swap::ArcSwap;
use forebay_domain::{Failure, route::Unhealthy};
use forebay_runtime::{Clock, http::Engines, looping::Loop};
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::Full;
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

/// How often to look which probes are due.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many probes at one time at most.
const AT_ONCE_MAX: usize = 32;

/// The loop that probes.
pub(crate) struct Probes {
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) http: Engines,
    pub(crate) clock: Clock,
}

/// A backend of a model that is due for a probe.
#[derive(Clone)]
pub(crate) struct Due {
    model: Arc<Model>,
    index: usize,
}

impl Loop for Probes {
    type Seen = Vec<Due>;
    type Action = Vec<Due>;

    fn name(&self) -> &'static str {
        "backend_probes"
    }

    async fn observe(&mut self) -> Result<Vec<Due>, Failure> {
        let now = self.clock.monotonic();
        let settings = self.settings.load();
        let due = settings.models.values().flat_map(|model| {
            let backends = model.backends.iter().zip(&model.live_side().lives);
            let due = backends.filter(|(backend, live)| {
                let probe = backend.probe.as_ref();
                probe.is_some_and(|probe| live.is_due(probe, now))
            });
            due.map(|(backend, _)| Due {
                model: model.clone(),
                index: backend.index,
            })
        });
        Ok(due.collect())
    }

    /// All at once: one that does not answer must not keep the others waiting.
    fn decide(&self, due: &Vec<Due>) -> Vec<Vec<Due>> {
        if due.is_empty() {
            return Vec::new();
        }
        vec![due.clone()]
    }

    async fn act(&mut self, due: Vec<Due>) -> Result<(), Failure> {
        stream::iter(due)
            .for_each_concurrent(AT_ONCE_MAX, |due| due.probe(&self.http, &self.clock))
            .await;
        Ok(())
    }
}

impl Due {
    async fn probe(self, http: &Engines, clock: &Clock) {
        let backend = &self.model.backends[self.index];
        let found = ask(http, backend).await;
        let routes = self.model.live_side();
        let is_news = routes.lives[self.index].probed(found, clock.monotonic());
        if !is_news {
            return;
        }
        let (model, backend) = (&self.model.name, self.index);
        if let Some(found) = found {
            warn!(gen_ai.request.model = %model, backend, ?found, "backend is not well");
        } else {
            info!(gen_ai.request.model = %model, backend, "backend is well again");
        }
        routes.gate.grant();
    }
}

/// What is wrong with it, if anything is.
async fn ask(http: &Engines, backend: &Backend) -> Option<Unhealthy> {
    let probe = backend.probe.as_ref()?;
    let mut request = Request::new(Full::default());
    *request.uri_mut() = probe.uri.clone();
    request.headers_mut().extend(backend.shows());
    match tokio::time::timeout(probe.timeout, http.send(request)).await {
        Err(_) => Some(Unhealthy::TimedOut),
        Ok(Err(fault)) if fault.is_timeout() => Some(Unhealthy::TimedOut),
        Ok(Err(_)) => Some(Unhealthy::Unreachable),
        Ok(Ok(answer)) => judge(answer.status()),
    }
}

fn judge(status: StatusCode) -> Option<Unhealthy> {
    let is_bad = status.is_server_error() || matches!(status.as_u16(), 401 | 403);
    is_bad.then(|| Unhealthy::Status(status.as_u16()))
}
