//! The gateway, wired: concrete parts made in order, handed out as one `Arc`.

mod config;
mod parts;
mod reload;
mod status;

pub use self::{config::AppConfig, parts::AppParts};
use self::{
    reload::Loaded,
    status::{Whole, status_source},
};
use crate::{
    alerts::Alerts,
    contexts::ContextServer,
    door::Door,
    gateway::Opens,
    gpu::Gpu,
    http::Pipes,
    metrics::Metrics,
    other_models::OtherModels,
    surfaces::{self, OpenSurface},
};
use arc_swap::ArcSwap;
use forebay_compute::Rentals;
use forebay_context::{Providers, contexts::Contexts};
use forebay_domain::{Code, Failure, id::KeyId, ledger::BudgetRule};
use forebay_llm::Router;
use forebay_mcp::{Catalogue, Front, Sessions, declared::Declared, upstream::Upstreams};
use forebay_runtime::{Clock, Entropy, Tasks, http::Guarded, rate::RateLimiter, secret::SecretReader};
use forebay_store::Store;
use forebay_work::Pool;
use jiff::Timestamp;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

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

impl App {
    /// Makes all parts, in the order in which they need one another.
    pub fn build(config: &AppConfig, parts: AppParts) -> Result<Arc<Self>, Failure> {
        let mut metrics = Metrics::new(&parts.clock);
        let budgets = parts.money(config, &mut metrics)?;
        let alerts = parts.alerts(config, &mut metrics)?;
        let client = forebay_runtime::http::trusted();
        let door = parts.door(config, client.clone())?;
        let models = parts.models(config, &mut metrics)?;
        let tool_calls = parts.tool_calls(config);
        let whole = Whole::default();
        let status = status_source(whole.clone());
        let catalogue = parts.catalogue(config, (&models, &tool_calls), status, &mut metrics)?;
        let (gpu, rentals) = parts.machines(config, &client, (&catalogue, &alerts), &mut metrics)?;
        let declared = parts.declared(config, &catalogue)?;
        // After those who have tools by now, so that a price for none of them is told.
        catalogue.set_prices(&config.prices)?;
        let providers = parts.providers(config, client.clone(), (&models, &catalogue), &mut metrics)?;
        models.introduce(Arc::new(catalogue.clone()), Arc::new(providers.clone()));
        let upstreams = parts.upstreams(config, &client, &catalogue)?;
        let (talk, contexts) = parts.contexts(config, &models, &catalogue, &mut metrics)?;
        let (work, later) = parts.work(config, &contexts, (&models, &catalogue), &mut metrics);
        let (front, sessions) = parts.front(&catalogue, &door, later);
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
            loaded: ArcSwap::from_pointee(Loaded::at(started_at)),
        });
        whole.set(Arc::downgrade(&app)).expect("set here alone");
        app.begin(config, &gpu, &talk);
        Ok(app)
    }

    /// From now on each part does what it does by itself.
    fn begin(self: &Arc<Self>, config: &AppConfig, gpu: &Arc<Gpu>, talk: &Arc<ContextServer>) {
        gpu.begin(self);
        talk.begin(self);
        if self.opens != Opens::Work {
            // Gateways watch over machines; a worker only works.
            self.rentals.start();
        }
        self.contexts.start(&self.tasks);
        self.other_models.point(config.mcp.in_force().models_url());
        self.other_models.start(&self.tasks, &self.models, &self.http);
        self.work.start();
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

    /// Ends whatever a revoked key holds open.
    pub fn close_key(&self, key: &KeyId) {
        self.door.close_key(key);
        self.front.close_key(key);
        self.upstreams.close_key(key);
        self.work.look_at_keys();
    }

    /// What stands open.
    pub fn surfaces(&self) -> Vec<OpenSurface> {
        match self.opens {
            Opens::Listeners => surfaces::open(self.bound, self.mcp_bound, self.metrics_bound),
            Opens::Nothing | Opens::Work => Vec::new(),
        }
    }
}
