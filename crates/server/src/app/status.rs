//! How the gateway is, to whoever may know it.

use super::App;
use forebay_api::{ConfigStatus, Status, StoreStatus, UpstreamState};
use forebay_domain::{Action, Principal, port::AskModel};
use forebay_mcp::{StatusSource, upstream::UpstreamStatus};
use serde_json::{Map, Value};
use std::sync::{Arc, OnceLock, Weak};

/// The gateway, once it is there: what tells about the whole is a part of it.
pub(super) type Whole = Arc<OnceLock<Weak<App>>>;

impl App {
    /// How the gateway is, as this principal may see it.
    pub fn status(&self, principal: &Principal) -> Status {
        let models = self
            .models
            .models(principal)
            .into_iter()
            .map(|model| model.name)
            .collect();
        let mut status = self.public_status();
        status.models = models;
        if principal.decide(&Action::EVENTS_READ).is_allowed() {
            status.config.last_error.clone_from(&self.loaded.load().last_error);
        }
        if principal.decide(&Action::UPSTREAMS_READ).is_allowed() {
            status.upstreams = self.upstreams.list().iter().map(whole_state).collect();
        }
        status
    }

    /// What everybody with a key may know.
    fn public_status(&self) -> Status {
        let now = self.clock.now();
        let loaded = self.loaded.load();
        Status {
            version: crate::VERSION.to_owned(),
            uptime_s: u64::try_from(now.duration_since(self.started_at).as_secs()).unwrap_or(0),
            store: StoreStatus {
                engine: self.store.engine().to_owned(),
                healthy: self.store.events().is_healthy(),
            },
            models: Vec::new(),
            mcp_sessions: self.sessions.count(),
            upstreams: self.upstreams.list().iter().map(public_state).collect(),
            surfaces: self.surfaces().into_iter().map(|surface| surface.url).collect(),
            config: ConfigStatus {
                loaded_at: loaded.at,
                last_error: None,
            },
        }
    }
}

/// What everybody may know of an upstream.
fn public_state(status: &UpstreamStatus) -> UpstreamState {
    UpstreamState {
        name: status.name.clone(),
        state: status.state.as_str().to_owned(),
        held: None,
        trouble: None,
    }
}

fn whole_state(status: &UpstreamStatus) -> UpstreamState {
    UpstreamState {
        held: Some(status.held),
        trouble: status.trouble.clone(),
        ..public_state(status)
    }
}

/// The tool `gateway_status` answers from the same place as the route. It names no models: who may see which is the
/// business of the list of models.
pub(super) fn status_source(whole: Whole) -> StatusSource {
    Arc::new(move || {
        let Some(app) = whole.get().and_then(Weak::upgrade) else {
            return Map::new();
        };
        match serde_json::to_value(app.public_status()) {
            Ok(Value::Object(mut map)) => {
                map.remove("models");
                map
            }
            _ => Map::new(),
        }
    })
}
