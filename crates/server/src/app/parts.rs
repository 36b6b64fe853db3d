//! What the process brings along, and each part that is made of it.

use super::AppConfig;
use crate::{
    alerts::{self, Alerts, AlertsParts},
    config::McpConfig,
    contexts::ContextServer,
    door::{Door, DoorConfig, per_minute, token::Outside},
    gateway::Opens,
    gpu::Gpu,
    metrics::Metrics,
};
use forebay_compute::{MarketsConfig, Rentals, RentalsParts, Urls, market::local::AgentProgram, rental::AGENT_WORDS};
use forebay_context::{
    Providers, ProvidersParts,
    contexts::{Contexts, ContextsMetrics, ContextsParts},
};
use forebay_domain::{Failure, ledger::BudgetRule};
use forebay_llm::{RespondLater, Router, RouterParts, Settings};
use forebay_mcp::{
    Catalogue, CatalogueParts, Front, FrontParts, ServerInfo, SessionLimits, Sessions, StatusSource,
    declared::{self, Declared, DeclaredParts},
    tasks::{CallTask, Desk, Later},
    upstream::{Kit, Upstreams, UpstreamsParts},
};
use forebay_runtime::{Clock, Entropy, Tasks, child::Launcher, rate::RateLimiter, secret::SecretReader};
use forebay_store::Store;
use forebay_work::{Pool, PoolParts};
use serde_json::{json, value::RawValue};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// What giving tasks back may take, out of the time for draining.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// What the process brings along.
pub struct AppParts {
    pub store: Store,
    pub clock: Clock,
    pub entropy: Entropy,
    pub tasks: Tasks,
    pub secrets: SecretReader,
    /// Starts the programs that the configuration names.
    pub launcher: Launcher,
    /// The address really bound; where nothing is opened, the one of the configuration.
    pub bound: SocketAddr,
    /// The listener for metrics alone, where there is one.
    pub metrics_bound: Option<SocketAddr>,
    /// The other port on which everything is served too, where there is one.
    pub mcp_bound: Option<SocketAddr>,
    pub opens: Opens,
    /// The binary that this is.
    pub binary: PathBuf,
}

/// What can be made of that, one part after another.
impl AppParts {
    /// What may be spent, as the configuration says it. The ledger counts it from now on.
    pub(super) fn money(&self, config: &AppConfig, metrics: &mut Metrics) -> Result<Vec<BudgetRule>, Failure> {
        self.store.register_metrics(metrics.registry());
        let budgets = config.budget_rules()?;
        self.store.ledger().configure(budgets.clone());
        Ok(budgets)
    }

    pub(super) fn door(&self, config: &AppConfig, client: reqwest::Client) -> Result<Door, Failure> {
        let outside = Outside {
            client,
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
        };
        let config = door_config(config, &self.secrets, self.bound, self.metrics_bound);
        Door::new(&config, &self.store, outside)
    }

    pub(super) fn models(&self, config: &AppConfig, metrics: &mut Metrics) -> Result<Arc<Router>, Failure> {
        let models = Arc::new(Router::new(RouterParts {
            settings: model_settings(config, &self.secrets)?,
            events: self.store.events().clone(),
            responses: self.store.responses(),
            ledger: self.store.ledger(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            metrics: forebay_llm::Metrics::register(metrics.registry()),
        }));
        models.keep_responses(config.responses.clone());
        models.start_probes(&self.tasks);
        Ok(models)
    }

    /// How many calls of each tool each subject may make.
    pub(super) fn tool_calls(&self, config: &AppConfig) -> Arc<RateLimiter> {
        let quota = per_minute(config.limits.tool_calls_per_minute);
        Arc::new(RateLimiter::new(quota, &self.clock))
    }

    pub(super) fn catalogue(
        &self,
        config: &AppConfig,
        (models, limits): (&Arc<Router>, &Arc<RateLimiter>),
        status: StatusSource,
        metrics: &mut Metrics,
    ) -> Result<Catalogue, Failure> {
        Catalogue::new(CatalogueParts {
            clock: self.clock.clone(),
            events: self.store.events().clone(),
            ledger: self.store.ledger(),
            metrics: forebay_mcp::Metrics::register(metrics.registry()),
            limits: limits.clone(),
            models: models.clone(),
            status,
            secrets: self.secrets.clone(),
            tools: config.builtin_tools()?,
        })
    }

    pub(super) fn upstreams(
        &self,
        config: &AppConfig,
        client: &reqwest::Client,
        catalogue: &Catalogue,
    ) -> Result<Upstreams, Failure> {
        let parts = UpstreamsParts {
            catalogue: catalogue.clone(),
            store: self.store.clone(),
            tasks: self.tasks.clone(),
            launcher: self.launcher.clone(),
            kit: kit(&self.secrets, client, &self.clock, &self.entropy),
            client_info: client_info(),
        };
        Upstreams::start(&config.upstreams, parts)
    }

    pub(super) fn declared(&self, config: &AppConfig, catalogue: &Catalogue) -> Result<Declared, Failure> {
        let mcp = config.mcp.in_force();
        let parts = DeclaredParts {
            catalogue: catalogue.clone(),
            store: self.store.clone(),
            kit: tool_kit(&mcp, &self.secrets, &self.clock),
        };
        Declared::start(&mcp.tools, parts)
    }

    pub(super) fn providers(
        &self,
        config: &AppConfig,
        http: reqwest::Client,
        (models, catalogue): (&Arc<Router>, &Catalogue),
        metrics: &mut Metrics,
    ) -> Result<Providers, Failure> {
        let parts = ProvidersParts {
            store: self.store.clone(),
            models: models.clone(),
            tools: Arc::new(catalogue.clone()),
            http,
            look_up: None,
            secrets: self.secrets.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            tasks: self.tasks.clone(),
            metrics: forebay_context::Metrics::register(metrics.registry()),
        };
        Providers::new(parts, &config.mcp.in_force().context())
    }

    pub(super) fn alerts(&self, config: &AppConfig, metrics: &mut Metrics) -> Result<Alerts, Failure> {
        let parts = AlertsParts {
            store: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            tasks: self.tasks.clone(),
            secrets: self.secrets.clone(),
            http: forebay_runtime::http::trusted(),
            metrics: alerts::Metrics::register(metrics.registry()),
        };
        let alerts = Alerts::start(&config.alerts, parts)?;
        alerts.feed(&self.tasks, self.store.ledger().news());
        Ok(alerts)
    }

    /// What rents machines, and the tools for that.
    pub(super) fn machines(
        &self,
        config: &AppConfig,
        http: &reqwest::Client,
        (catalogue, alerts): (&Catalogue, &Alerts),
        metrics: &mut Metrics,
    ) -> Result<(Arc<Gpu>, Rentals), Failure> {
        let gpu = Gpu::new()?;
        catalogue.join(gpu.clone());
        let rentals = self.rentals(config, http.clone())?;
        rentals.metrics().register(metrics.registry());
        alerts.feed_machines(&self.tasks, rentals.news());
        Ok((gpu, rentals))
    }

    fn rentals(&self, config: &AppConfig, http: reqwest::Client) -> Result<Rentals, Failure> {
        let parts = RentalsParts {
            markets: markets(config, self.opens),
            config: config.rentals.clone(),
            urls: urls(config, self.bound, self.opens),
            store: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            secrets: self.secrets.clone(),
            http,
            launcher: self.launcher.clone(),
            agent: AgentProgram {
                program: self.binary.display().to_string(),
                args: AGENT_WORDS.map(str::to_owned).into(),
            },
            tasks: self.tasks.clone(),
        };
        Rentals::new(parts)
    }

    /// Conversations that are kept, and the tools for that.
    pub(super) fn contexts(
        &self,
        config: &AppConfig,
        models: &Arc<Router>,
        catalogue: &Catalogue,
        metrics: &mut Metrics,
    ) -> Result<(Arc<ContextServer>, Contexts), Failure> {
        let parts = ContextsParts {
            conversations: self.store.conversations(),
            queue: self.store.queue(),
            models: models.clone(),
            clock: self.clock.clone(),
            metrics: ContextsMetrics::register(metrics.registry()),
        };
        let talk = ContextServer::new()?;
        catalogue.join(talk.clone());
        Ok((talk, Contexts::new(config.contexts(), parts)))
    }

    /// Who does later what was put off, once it is started, and what tools are put off with.
    pub(super) fn work(
        &self,
        config: &AppConfig,
        contexts: &Contexts,
        (models, catalogue): (&Arc<Router>, &Catalogue),
        metrics: &mut Metrics,
    ) -> (Pool, Later) {
        let (queue, desk) = (self.store.queue(), Desk::new(&self.store, self.entropy.clone()));
        let mut runs = contexts.runs();
        runs.push(Arc::new(CallTask::new(catalogue, &desk)));
        runs.push(Arc::new(RespondLater::new(models)));
        let parts = PoolParts {
            store: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            tasks: self.tasks.clone(),
            config: config.tasks.clone(),
            // So that what is given up is given back before the process ends.
            patience: Duration::from_secs(config.server.drain_seconds).saturating_sub(GIVE_BACK),
            metrics: forebay_work::Metrics::register(metrics.registry()),
        };
        let pool = Pool::new(parts, runs);
        models.work_later(Arc::new(pool.submitter()), queue.clone());
        let later = Later::new(Arc::new(pool.submitter()), queue, desk);
        (pool, later)
    }

    /// Where MCP is spoken, and the sessions there.
    pub(super) fn front(&self, catalogue: &Catalogue, door: &Door, later: Later) -> (Front, Sessions) {
        let (clock, entropy) = (self.clock.clone(), self.entropy.clone());
        let sessions = Sessions::new(SessionLimits::default(), clock, entropy, &self.store);
        let front = Front::new(FrontParts {
            catalogue: catalogue.clone(),
            sessions: sessions.clone(),
            server: server_info(),
            tasks: self.tasks.clone(),
            entropy: self.entropy.clone(),
            states: forebay_mcp::StateKeys::new(self.clock.clone(), self.entropy.clone()),
            charge: door.charge(),
        });
        front.work_later(later);
        (front, sessions)
    }
}

/// Where machines can be rented. What runs on this very machine ends with the process that rented it, so a worker, which
/// nobody watches over, rents none there.
pub(super) fn markets(config: &AppConfig, opens: Opens) -> MarketsConfig {
    let mut markets = config.markets.clone();
    if opens == Opens::Work {
        markets.local = None;
    }
    markets
}

/// Where rented machines reach the gateway: none of them where nothing is opened.
pub(super) fn urls(config: &AppConfig, bound: SocketAddr, opens: Opens) -> Urls {
    let public = config.server.public_url.as_ref();
    let local = match bound.ip() {
        ip if ip.is_unspecified() && ip.is_ipv6() => format!("http://[::1]:{}", bound.port()),
        ip if ip.is_unspecified() => format!("http://127.0.0.1:{}", bound.port()),
        _ => format!("http://{bound}"),
    };
    Urls {
        public: public.map(|url| url.as_str().trim_end_matches('/').to_owned()),
        local: (opens == Opens::Listeners).then_some(local),
    }
}

/// What declared tools are read with. Their addresses are somebody else's choice; what may be reached that is not public
/// stands in the configuration.
pub(super) fn tool_kit(mcp: &McpConfig, secrets: &SecretReader, clock: &Clock) -> declared::Kit {
    declared::Kit {
        secrets: secrets.clone(),
        clock: clock.clone(),
        allow: mcp.allow_addresses.clone(),
    }
}

/// What upstreams are read with. They are the operator's own choice, so their client may go anywhere.
pub(super) fn kit(secrets: &SecretReader, client: &reqwest::Client, clock: &Clock, entropy: &Entropy) -> Kit {
    Kit {
        secrets: secrets.clone(),
        client: client.clone(),
        clock: clock.clone(),
        entropy: entropy.clone(),
    }
}

pub(super) fn door_config<'a>(
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

pub(super) fn model_settings(config: &AppConfig, secrets: &SecretReader) -> Result<Settings, Failure> {
    Settings::parse(&config.models, &config.turns, secrets).map_err(Failure::from)
}

/// How the gateway introduces itself to upstreams: an MCP `Implementation`.
fn client_info() -> Box<RawValue> {
    let info = json!({"name": "forebay", "title": "Forebay", "version": crate::VERSION});
    serde_json::value::to_raw_value(&info).expect("it is JSON")
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
