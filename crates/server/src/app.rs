//! The gateway, wired: concrete parts made in order, handed out as one `Arc`.

mod parts;

pub use self::parts::AppParts;
use self::parts::{door_config, kit, model_settings, tool_kit};
use crate::{
    alerts::Alerts,
    config::{AlertsConfig, AuthConfig, BudgetsConfig, ContextsConfig, LimitsConfig, McpConfig, ServerConfig},
    contexts::ContextServer,
    door::{Door, Rules, per_minute, token::Outside},
    gateway::Opens,
    http::Pipes,
    metrics::Metrics,
    other_models::OtherModels,
    surfaces::{self, OpenSurface},
};
use arc_swap::ArcSwap;
use forebay_api::{ConfigStatus, Status, StoreStatus, UpstreamState};
use forebay_compute::{MarketsConfig, Rentals, RentalsConfig};
use forebay_context::{
    Providers,
    contexts::{Contexts, ContextsSettings},
};
use forebay_domain::{
    Action, Code, Failure, Principal,
    event::{Intent, Surface},
    id::{KeyId, TraceId},
    ledger::BudgetRule,
    port::AskModel,
};
use forebay_llm::Router;
use forebay_mcp::{
    Catalogue, Front, PricesConfig, Sessions, StatusSource,
    declared::Declared,
    upstream::{UpstreamStatus, Upstreams},
};
use forebay_runtime::{Clock, Entropy, Tasks, http::Guarded, rate::RateLimiter, secret::SecretReader};
use forebay_store::Store;
use forebay_work::{Pool, TasksConfig};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
};

/// The configuration of everything that the gateway process runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AppConfig {
    pub server: ServerConfig,
    pub auth: AuthConfig,
    pub limits: LimitsConfig,
    pub budgets: BudgetsConfig,
    pub prices: PricesConfig,
    pub alerts: AlertsConfig,
    pub markets: MarketsConfig,
    pub rentals: RentalsConfig,
    pub models: forebay_llm::Config,
    pub turns: forebay_llm::TurnsConfig,
    pub responses: forebay_llm::ResponsesConfig,
    pub tools: forebay_mcp::tools::Config,
    pub upstreams: forebay_mcp::upstream::Config,
    pub mcp: McpConfig,
    pub contexts: ContextsConfig,
    pub tasks: TasksConfig,
}

impl AppConfig {
    /// Says why no gateway could be made of it, without making one: nothing is bound, opened or asked.
    pub fn check(&self, secrets: &SecretReader) -> Result<(), Failure> {
        let outside = Outside {
            client: forebay_runtime::http::trusted(),
            clock: Clock::system(),
            tasks: Tasks::new(),
        };
        let kit = kit(secrets, &outside.client, &outside.clock, &Entropy::system());
        Rules::new(&door_config(self, secrets, self.server.listen, None), &outside)?;
        model_settings(self, secrets)?;
        self.check_tools(secrets, &outside.clock)?;
        self.budget_rules()?;
        self.prices.check()?;
        self.rentals.check()?;
        Alerts::check(&self.alerts, secrets)?;
        Upstreams::check(&self.upstreams, &kit)
    }

    /// The section `mcp:`, and the built-in tools as it configures them.
    fn check_tools(&self, secrets: &SecretReader, clock: &Clock) -> Result<(), Failure> {
        let mcp = self.mcp.in_force();
        self.builtin_tools()?.check(secrets)?;
        Declared::check(&mcp.tools, &tool_kit(&mcp, secrets, clock))?;
        Providers::check(&mcp.context(), secrets)
    }

    /// What may be spent.
    fn budget_rules(&self) -> Result<Vec<BudgetRule>, Failure> {
        self.budgets.rules().map_err(|faults| {
            let told = faults
                .iter()
                .map(|fault| format!("budgets[{}].{}: {fault}", fault.index, fault.key));
            let message = told.collect::<Vec<_>>().join("; ");
            Failure::new(Code::InvalidConfig, format!("{message}."))
        })
    }

    /// Contexts that are kept, as their own section and `mcp:` have it.
    fn contexts(&self) -> ContextsSettings {
        self.mcp.in_force().contexts(self.contexts)
    }

    /// The settings of the built-in tools, of which some may stand in `mcp.tools`.
    fn builtin_tools(&self) -> Result<forebay_mcp::tools::Config, Failure> {
        self.mcp.in_force().tools.onto(self.tools.clone())
    }
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
    pub upstreams: Upstreams,
    /// The tools that somebody declared.
    pub declared: Declared,
    /// Where context comes from.
    pub providers: Providers,
    pub alerts: Alerts,
    /// The machines that are rented.
    pub rentals: Rentals,
    /// Conversations that are kept.
    pub contexts: Contexts,
    /// Models that another server lists.
    other_models: OtherModels,
    /// What is done later, and by whom.
    pub work: Pool,
    /// For what the operator configured, and this machine's own slots.
    pub(crate) http: reqwest::Client,
    /// For what providers of machines have said.
    pub(crate) guarded: Guarded,
    binary: PathBuf,
    pub front: Front,
    /// The connections that last.
    pub pipes: Pipes,
    sessions: Sessions,
    pub metrics: Metrics,
    pub started_at: Timestamp,
    pub bound: SocketAddr,
    mcp_bound: Option<SocketAddr>,
    metrics_bound: Option<SocketAddr>,
    opens: Opens,
    pub body_bytes_max: usize,
    tool_calls: Arc<RateLimiter>,
    secrets: SecretReader,
    /// The limits of the configuration file.
    budgets: ArcSwap<Vec<BudgetRule>>,
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
        let mut metrics = Metrics::new(&parts.clock);
        let budgets = parts.money(config, &mut metrics)?;
        let alerts = parts.alerts(config, &mut metrics)?;
        let client = forebay_runtime::http::trusted();
        let door = parts.door(config, client.clone())?;
        let models = parts.models(config, client.clone(), &mut metrics)?;
        let tool_calls = parts.tool_calls(config);
        // The tool `gateway_status` tells about the whole, of which it is a part: it gets to know it once it is there.
        let whole: Arc<OnceLock<Weak<Self>>> = Arc::default();
        let catalogue = parts.catalogue(
            config,
            (&models, &tool_calls),
            status_source(whole.clone()),
            &mut metrics,
        )?;
        let (gpu, rentals) = parts.machines(config, &client, (&catalogue, &alerts), &mut metrics)?;
        let declared = parts.declared(config, &catalogue)?;
        // After those who have tools by now, so that a price for none of them is told.
        catalogue.set_prices(&config.prices)?;
        let providers = parts.providers(config, client.clone(), (&models, &catalogue), &mut metrics)?;
        models.introduce(Arc::new(catalogue.clone()), Arc::new(providers.clone()));
        let upstreams = parts.upstreams(config, &client, &catalogue)?;
        let contexts = parts.contexts(config, &models, &mut metrics);
        let talk = ContextServer::new()?;
        catalogue.join(talk.clone());
        let later = parts.later();
        let runs = parts.runs(&contexts, &models, (&catalogue, &later));
        let work = parts.work(config, runs, &mut metrics);
        let sessions = parts.sessions();
        let front = parts.front(&catalogue, &sessions, &door);
        front.work_later(later);
        let started_at = parts.clock.now();
        let app = Arc::new(Self {
            store: parts.store,
            clock: parts.clock,
            entropy: parts.entropy,
            tasks: parts.tasks,
            door,
            models,
            catalogue,
            upstreams,
            declared,
            providers,
            alerts,
            rentals,
            contexts,
            other_models: OtherModels::default(),
            work,
            http: client,
            guarded: crate::gpu::guarded(config.rentals.allow_addresses.clone()),
            binary: parts.binary,
            front,
            pipes: Pipes::default(),
            sessions,
            metrics,
            started_at,
            bound: parts.bound,
            mcp_bound: parts.mcp_bound,
            metrics_bound: parts.metrics_bound,
            opens: parts.opens,
            body_bytes_max: config.server.body_bytes_max,
            tool_calls,
            secrets: parts.secrets,
            budgets: ArcSwap::from_pointee(budgets),
            loaded: ArcSwap::from_pointee(Loaded {
                at: started_at,
                last_error: None,
            }),
        });
        whole.set(Arc::downgrade(&app)).expect("set here alone");
        gpu.begin(&app);
        talk.begin(&app);
        if app.opens != Opens::Work {
            // Gateways watch over machines; a worker only works.
            app.rentals.start();
        }
        app.contexts.start(&app.tasks);
        app.other_models.point(config.mcp.in_force().models_url());
        app.other_models.start(&app.tasks, &app.models, &app.http);
        app.work.start();
        Ok(app)
    }

    /// Takes a new configuration: everything in it that can change while running, or nothing.
    pub async fn reconfigure(&self, config: &AppConfig) -> Result<(), Failure> {
        let models = model_settings(config, &self.secrets)?;
        let rules = self
            .door
            .prepare(&door_config(config, &self.secrets, self.bound, self.metrics_bound))?;
        config.check_tools(&self.secrets, &self.clock)?;
        let kit = kit(
            &self.secrets,
            &forebay_runtime::http::trusted(),
            &self.clock,
            &self.entropy,
        );
        Upstreams::check(&config.upstreams, &kit)?;
        let budgets = config.budget_rules()?;
        config.prices.check()?;
        self.announce("config:reload", "the configuration has changed").await?;
        // These go first, since they alone can still refuse: a folder or a secret may have gone since it was checked.
        self.catalogue.reconfigure(config.builtin_tools()?)?;
        let mcp = config.mcp.in_force();
        self.declared.reconfigure(&mcp.tools)?;
        self.providers.reconfigure(&mcp.context())?;
        self.upstreams.reconfigure(&config.upstreams)?;
        self.alerts.reconfigure(&config.alerts)?;
        let urls = parts::urls(config, self.bound, self.opens);
        let markets = parts::markets(config, self.opens);
        self.rentals.reconfigure(&markets, &config.rentals, urls)?;
        self.catalogue.set_prices(&config.prices)?;
        self.store.ledger().configure(budgets.clone());
        self.budgets.store(Arc::new(budgets));
        self.door.adopt(rules, &config.limits);
        self.models.reconfigure(models);
        self.models.keep_responses(config.responses.clone());
        self.contexts.reconfigure(config.contexts());
        self.other_models.point(mcp.models_url());
        self.work.reconfigure(&config.tasks);
        self.tool_calls
            .set_quota(per_minute(config.limits.tool_calls_per_minute));
        self.front.lists_changed();
        self.loaded.store(Arc::new(Loaded {
            at: self.clock.now(),
            last_error: None,
        }));
        Ok(())
    }

    /// The binary that this is, for a machine that comes home.
    pub(crate) async fn binary(&self) -> Result<tokio::fs::File, Failure> {
        tokio::fs::File::open(&self.binary).await.map_err(|error| {
            Failure::new(Code::InternalError, "The gateway's own binary cannot be read.").caused_by(error)
        })
    }

    /// The limits of the configuration file.
    pub(crate) fn budgets(&self) -> Arc<Vec<BudgetRule>> {
        self.budgets.load_full()
    }

    /// Commits the audit event of something that the gateway does by itself, before it does it.
    async fn announce(&self, action: &'static str, reason: &str) -> Result<(), Failure> {
        let intent = Intent {
            surface: Surface::System,
            trace: TraceId::new(self.clock.now(), self.entropy.bytes()),
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
        self.upstreams.close_key(key);
    }

    /// What stands open.
    pub fn surfaces(&self) -> Vec<OpenSurface> {
        match self.opens {
            Opens::Listeners => surfaces::open(self.bound, self.mcp_bound, self.metrics_bound),
            Opens::Nothing | Opens::Work => Vec::new(),
        }
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
