//! A gateway from start to stop: bind, open the store, make the first key, wire, serve, drain.

use crate::{
    app::{App, AppConfig, AppParts},
    config::MetricsConfig,
    first_start::{self, FirstKey},
    http, listen, loops, surfaces,
};
use forebay_domain::{Code, Failure};
use forebay_runtime::{
    Clock, Entropy, Tasks,
    child::Launcher,
    lifecycle::{self, Ending, Signal},
    secret::SecretReader,
};
use forebay_store::{Store, StoreParts};
use futures_util::Stream;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// The store is given this long to write what is recorded last.
const STORE_PATIENCE: Duration = Duration::from_secs(15);

/// What a gateway is started with.
pub struct GatewayParts {
    pub config: AppConfig,
    pub metrics: MetricsConfig,
    /// Where the database of the embedded default and the administrator's key stand.
    pub data: PathBuf,
    pub store_url: String,
    pub secrets: SecretReader,
    pub children: ChildrenParts,
    pub opens: Opens,
    pub clock: Clock,
    pub entropy: Entropy,
}

/// What a gateway opens to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// The listeners of its configuration.
    Listeners,
    /// Nothing: whoever started it is its only client.
    Nothing,
    /// Nothing, and nobody asks it anything: it works on the tasks of gateways that run elsewhere.
    Work,
}

/// Looks up a variable of this process.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send>;

/// What programs are started with that run beside the gateway.
pub struct ChildrenParts {
    /// Our own binary, which guards them.
    pub guard: PathBuf,
    /// Of which they inherit a few variables.
    pub environment: Environment,
}

/// What it listens on. All are bound before anything else begins, so that a taken port leaves nothing behind.
#[derive(Default)]
struct Listeners {
    main: Option<TcpListener>,
    /// The further one of `mcp.port`.
    mcp: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Listeners {
    async fn open(opens: Opens, config: &AppConfig, metrics: Option<SocketAddr>) -> Result<Self, Failure> {
        match opens {
            Opens::Nothing => Ok(Self::default()),
            Opens::Work => Self::for_metrics(metrics).await,
            Opens::Listeners => Self::bind(config, metrics).await,
        }
    }

    /// The one for metrics alone, where it is wanted.
    async fn for_metrics(address: Option<SocketAddr>) -> Result<Self, Failure> {
        let metrics = match address {
            Some(address) => Some(bind(address, "metrics.listen").await?),
            None => None,
        };
        Ok(Self {
            metrics,
            ..Self::default()
        })
    }

    async fn bind(config: &AppConfig, metrics: Option<SocketAddr>) -> Result<Self, Failure> {
        let main = bind(config.server.listen, "server.listen").await?;
        let metrics = Self::for_metrics(metrics).await?.metrics;
        let port = config.mcp.in_force().port;
        let mcp = port.map(|port| SocketAddr::new(config.server.listen.ip(), port.get()));
        let mcp = match mcp.filter(|address| *address != config.server.listen) {
            Some(address) => Some(bind(address, "mcp.port").await?),
            None => None,
        };
        Ok(Self {
            main: Some(main),
            mcp,
            metrics,
        })
    }

    fn serve(self, tasks: &Tasks, app: &Arc<App>) {
        for listener in [self.main, self.mcp].into_iter().flatten() {
            listen::serve(tasks, listener, http::router(app));
        }
        if let Some(listener) = self.metrics {
            listen::serve(tasks, listener, http::metrics_router(app));
        }
    }
}

/// A gateway that serves.
pub struct Gateway {
    pub app: Arc<App>,
    pub first_key: FirstKey,
    tasks: Tasks,
    /// The store's own, which end last: whatever drains may still have something to record.
    store_tasks: Tasks,
    patience: Duration,
}

impl Gateway {
    /// Starts it. When this returns, requests are answered, by whatever way it opens.
    pub async fn start(parts: GatewayParts) -> Result<Self, Failure> {
        let GatewayParts {
            config,
            metrics,
            data,
            store_url,
            secrets,
            children,
            opens,
            clock,
            entropy,
        } = parts;
        let listeners = Listeners::open(opens, &config, metrics.listen).await?;
        let (tasks, store_tasks) = (Tasks::new(), Tasks::new());
        let store_parts = StoreParts {
            clock: clock.clone(),
            entropy: entropy.clone(),
            tasks: store_tasks.clone(),
        };
        let store = Store::open(&store_url, store_parts).await?;
        let first_key = match opens {
            // The key of an installation stands where its gateway is.
            Opens::Work => FirstKey::Existing,
            Opens::Listeners | Opens::Nothing => first_start::ensure_admin(&store, &data, &clock, &entropy).await?,
        };
        let patience = Duration::from_secs(config.server.drain_seconds);
        let binary = children.guard.clone();
        let launcher = Launcher::new(children.guard, children.environment, tasks.clone(), clock.clone());
        let app = App::build(
            &config,
            AppParts {
                store,
                clock,
                entropy,
                tasks: tasks.clone(),
                secrets,
                launcher,
                bound: listeners.main.as_ref().map_or(Ok(config.server.listen), address)?,
                mcp_bound: listeners.mcp.as_ref().map(address).transpose()?,
                metrics_bound: listeners.metrics.as_ref().map(address).transpose()?,
                opens,
                binary,
            },
        )?;
        loops::start(&app);
        listeners.serve(&tasks, &app);
        tracing::info!("{}", surfaces::line(&app.surfaces()));
        Ok(Self {
            app,
            first_key,
            tasks,
            store_tasks,
            patience,
        })
    }

    /// The URL of the main listener.
    pub fn url(&self) -> String {
        format!("http://{}", self.app.bound)
    }

    /// The tasks of the gateway, for what the process adds to it.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Serves until a signal asks to stop: the first drains, the second ends.
    pub async fn run(self, signals: impl Stream<Item = Signal> + Unpin) -> Ending {
        let ending = lifecycle::run_on(signals, &self.tasks, self.patience).await;
        self.store_tasks.shut_down(STORE_PATIENCE).await;
        ending
    }

    /// Stops without a signal: drains, then ends.
    pub async fn stop(self) {
        self.tasks.shut_down(self.patience).await;
        self.store_tasks.shut_down(STORE_PATIENCE).await;
    }
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    listen::bind(address).await.map_err(|error| {
        Failure::new(Code::InvalidConfig, format!("`{key}`: cannot {error}."))
            .hint("Stop whatever listens there, or choose another address; port 0 takes a free one.")
            .caused_by(error)
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|error| Failure::new(Code::InternalError, "a listener has no address").caused_by(error))
}
