//! The gateway, wired: concrete parts made in order, handed out as one `Arc`.

use crate::{
    config::{AuthConfig, LimitsConfig, ServerConfig},
    door::{Door, DoorConfig, Rules, per_minute, token::Outside},
    metrics::Metrics,
    surfaces::{self, OpenSurface},
};
use arc_swap::ArcSwap;
use forebay_api::{ConfigStatus, Status, StoreStatus};
use forebay_domain::{
    Action, Failure, Principal,
    event::{Intent, Surface},
    id::KeyId,
    port::AskModel,
};
use forebay_llm::{Router, RouterParts, Settings};
use forebay_mcp::{Catalogue, CatalogueParts, Front, FrontParts, ServerInfo, SessionLimits, Sessions, StatusSource};
use forebay_runtime::{Clock, Entropy, Tasks, rate::RateLimiter, secret::SecretReader};
use forebay_store::Store;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
};

/// The configuration of everything that the gateway process runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AppConfig {
    pub server: ServerConfig,
    pub auth: AuthConfig,
    pub limits: LimitsConfig,
    pub models: forebay_llm::Config,
    pub tools: forebay_mcp::tools::Config,
}

impl AppConfig {
    /// Says why no gateway could be made of it, without making one: nothing is bound, opened or asked.
    pub fn check(&self, secrets: &SecretReader) -> Result<(), Failure> {
        let outside = Outside {
            client: forebay_runtime::http::trusted(),
            clock: Clock::system(),
            tasks: Tasks::new(),
        };
        Rules::new(&door_config(self, secrets, self.server.listen, None), &outside)?;
        model_settings(self, secrets)?;
        self.tools.check()
    }
}

/// What the process brings along.
pub struct AppParts {
    pub store: Store,
    pub clock: Clock,
    pub entropy: Entropy,
    pub tasks: Tasks,
    pub secrets: SecretReader,
    /// The address really bound.
    pub bound: SocketAddr,
    /// The listener for metrics alone, where there is one.
    pub metrics_bound: Option<SocketAddr>,
}

/// One running gateway.
pub struct App {
    pub store: Store,
    pub clock: Clock,
    pub entropy: Entropy,
    pub tasks: Tasks,
    pub door: Door,
    pub models: Arc<Router>,
    pub catalogue: Catalogue,
    pub front: Front,
    sessions: Sessions,
    pub metrics: Metrics,
    pub started_at: Timestamp,
    pub bound: SocketAddr,
    metrics_bound: Option<SocketAddr>,
    pub body_bytes_max: usize,
    tool_calls: Arc<RateLimiter>,
    secrets: SecretReader,
    loaded: ArcSwap<Loaded>,
}

/// How the configuration in force came to be.
struct Loaded {
    at: Timestamp,
    /// Why a newer one was not taken.
    last_error: Option<String>,
}

impl App {
    /// Makes all parts, in the order in which they need one another.
    pub fn build(config: &AppConfig, parts: AppParts) -> Result<Arc<Self>, Failure> {
        let AppParts {
            store,
            clock,
            entropy,
            tasks,
            secrets,
            bound,
            metrics_bound,
        } = parts;
        let mut metrics = Metrics::new(&clock);
        store.register_metrics(metrics.registry());
        let client = forebay_runtime::http::trusted();
        let outside = Outside {
            client: client.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        let door = Door::new(&door_config(config, &secrets, bound, metrics_bound), &store, outside)?;
        let models = Arc::new(Router::new(RouterParts {
            settings: model_settings(config, &secrets)?,
            http: client,
            events: store.events().clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            metrics: forebay_llm::Metrics::register(metrics.registry()),
        }));
        let tool_calls = Arc::new(RateLimiter::new(
            per_minute(config.limits.tool_calls_per_minute),
            &clock,
        ));
        let started_at = clock.now();
        // The tool `gateway_status` tells about the whole, of which it is a part: it gets to know it once it is there.
        let whole: Arc<OnceLock<Weak<Self>>> = Arc::default();
        let catalogue = Catalogue::new(CatalogueParts {
            clock: clock.clone(),
            events: store.events().clone(),
            metrics: forebay_mcp::Metrics::register(metrics.registry()),
            limits: tool_calls.clone(),
            models: models.clone(),
            status: status_source(whole.clone()),
            tools: config.tools.clone(),
        })?;
        let sessions = Sessions::new(SessionLimits::default(), clock.clone(), entropy.clone());
        let front = Front::new(FrontParts {
            catalogue: catalogue.clone(),
            sessions: sessions.clone(),
            server: server_info(),
            tasks: tasks.clone(),
            entropy: entropy.clone(),
            states: forebay_mcp::StateKeys::new(clock.clone(), entropy.clone()),
        });
        let app = Arc::new(Self {
            store,
            clock,
            entropy,
            tasks,
            door,
            models,
            catalogue,
            front,
            sessions,
            metrics,
            started_at,
            bound,
            metrics_bound,
            body_bytes_max: config.server.body_bytes_max,
            tool_calls,
            secrets,
            loaded: ArcSwap::from_pointee(Loaded {
                at: started_at,
                last_error: None,
            }),
        });
        whole.set(Arc::downgrade(&app)).expect("set here alone");
        Ok(app)
    }

    /// Takes a new configuration: everything in it that can change while running, or nothing.
    pub async fn reconfigure(&self, config: &AppConfig) -> Result<(), Failure> {
        let models = model_settings(config, &self.secrets)?;
        let rules = self
            .door
            .prepare(&door_config(config, &self.secrets, self.bound, self.metrics_bound))?;
        config.tools.check()?;
        self.announce("config:reload", "the configuration has changed").await?;
        // The catalogue goes first, since it alone can still refuse: a folder may have gone since it was checked.
        self.catalogue.reconfigure(config.tools.clone())?;
        self.door.adopt(rules, &config.limits);
        self.models.reconfigure(models);
        self.tool_calls
            .set_quota(per_minute(config.limits.tool_calls_per_minute));
        self.front.lists_changed();
        self.loaded.store(Arc::new(Loaded {
            at: self.clock.now(),
            last_error: None,
        }));
        Ok(())
    }

    /// Commits the audit event of something that the gateway does by itself, before it does it.
    async fn announce(&self, action: &'static str, reason: &str) -> Result<(), Failure> {
        let intent = Intent {
            surface: Surface::System,
            trace: self.entropy.trace_id(),
            actor: None,
            action: action.to_owned(),
            reason: Some(reason.to_owned()),
        };
        self.store
            .events()
            .audit(intent.at(self.clock.now()))
            .await
            .map_err(Failure::from)
    }

    /// Remembers why a newer configuration was not taken; the one in force stays.
    pub fn refused_config(&self, why: String) {
        let at = self.loaded.load().at;
        self.loaded.store(Arc::new(Loaded {
            at,
            last_error: Some(why),
        }));
    }

    /// Ends whatever a revoked key holds open.
    pub fn close_key(&self, key: &KeyId) {
        self.door.close_key(key);
        self.front.close_key(key);
    }

    /// What stands open.
    pub fn surfaces(&self) -> Vec<OpenSurface> {
        surfaces::open(self.bound, self.metrics_bound)
    }

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
            surfaces: self.surfaces().into_iter().map(|surface| surface.url).collect(),
            config: ConfigStatus {
                loaded_at: loaded.at,
                last_error: None,
            },
        }
    }
}

fn door_config<'a>(
    config: &'a AppConfig,
    secrets: &'a SecretReader,
    bound: SocketAddr,
    metrics_bound: Option<SocketAddr>,
) -> DoorConfig<'a> {
    DoorConfig {
        server: &config.server,
        auth: &config.auth,
        limits: &config.limits,
        secrets,
        bound,
        metrics_bound,
    }
}

fn model_settings(config: &AppConfig, secrets: &SecretReader) -> Result<Settings, Failure> {
    Settings::parse(&config.models, secrets).map_err(Failure::from)
}

/// The tool `gateway_status` answers from the same place as the route. It names no models: who may see which is the
/// business of the list of models.
fn status_source(whole: Arc<OnceLock<Weak<App>>>) -> StatusSource {
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

fn server_info() -> ServerInfo {
    ServerInfo {
        name: "forebay".to_owned(),
        title: "Forebay".to_owned(),
        version: crate::VERSION.to_owned(),
        instructions: "Tools and models behind one gateway. `gateway_status` tells how it is; `chat` asks a model."
            .to_owned(),
    }
}
