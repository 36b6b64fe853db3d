//! What is going on at the backends of each model, and which of them takes the next request.
//!
//! The decision itself is pure and stands in [`forebay_domain::route`]. Here is what it decides upon: requests under
//! way, failures, latencies and probes of each backend ([`Live`]), and the queue of a model whose backends all have as
//! many requests as they may have ([`Gate`]). A [`Lease`] is one request's place at one backend: it counts until it is
//! dropped, and says how it ended.
//!
//! It refuses to hold a lock while anything is awaited, and to forget what is known of a backend because the
//! configuration was read anew.

mod affinity;
mod explain;
mod gate;
mod lease;
mod live;
mod place;
mod probe;

pub(crate) use affinity::affinity_of_messages;
pub use explain::{BackendStatus, BackendWhy, RouteExplanation, RouteStep};
pub(crate) use explain::{explain, statuses};
pub(crate) use gate::{Depth, Gate, Refusal};
pub(crate) use lease::{End, Lease, Telling};
pub(crate) use live::Live;
pub(crate) use place::{Tried, Wish};
pub(crate) use probe::{LOOK_EVERY as PROBES_EVERY, Probes};

use crate::settings::{Model, Settings};
use forebay_runtime::{Clock, Entropy};
use std::sync::Arc;

/// The live side of one model.
#[derive(Debug)]
pub(crate) struct Routes {
    /// One for each backend, in their order.
    pub(crate) lives: Vec<Arc<Live>>,
    pub(crate) gate: Arc<Gate>,
}

impl Model {
    pub(crate) fn live_side(&self) -> &Routes {
        self.routes
            .get()
            .expect("the router attaches it before the model is put in force")
    }
}

/// Gives each model its live side: that of before for what stays, so that a backend that is out stays out and what is
/// under way is counted.
pub(crate) fn attach(settings: &Settings, before: Option<&Settings>, clock: &Clock, entropy: &Entropy) {
    for (name, model) in &settings.models {
        let old = before.and_then(|before| before.models.get(name));
        model.routes.get_or_init(|| match old {
            Some(old) => Routes {
                lives: carry_over(model, old, clock),
                gate: old.live_side().gate.clone(),
            },
            None => Routes {
                lives: model
                    .backends
                    .iter()
                    .map(|backend| Arc::new(Live::new(backend)))
                    .collect(),
                gate: Gate::new(clock, entropy),
            },
        });
    }
}

fn carry_over(model: &Model, old: &Model, clock: &Clock) -> Vec<Arc<Live>> {
    let mut known: Vec<_> = old.backends.iter().zip(&old.live_side().lives).collect();
    let carried = model.backends.iter().map(|backend| {
        let same = known.iter().position(|(old, _)| old.place() == backend.place());
        let Some((old, live)) = same.map(|at| known.swap_remove(at)) else {
            return Arc::new(Live::new(backend));
        };
        if !old.has_same_credential(backend) {
            live.forgive();
        }
        if backend.probe.is_none() {
            live.probed(None, clock.monotonic());
        }
        live.clone()
    });
    carried.collect()
}
