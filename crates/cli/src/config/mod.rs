//! The one configuration: `forebay.yaml`, overridden by `FOREBAY__SECTION__KEY`, overridden by flags.
//!
//! Each part of Forebay owns its section; they are nested here and nowhere else. A configuration that has any mistake
//! is refused as a whole, with all of its mistakes.

mod check;
mod file;
mod later;
mod layers;
mod meaning;
mod mistake;
mod schema;
mod shown;
mod tree;
mod upstreams;
mod watch;

pub use layers::FlagValue;
pub use mistake::{Mistake, Mistakes};
pub use schema::{Leaf, Reload, Schema};
pub use shown::Shown;
pub use tree::Origin;
pub use watch::{Hangups, Watch};

use crate::env::Env;
use forebay_runtime::{SecretRef, telemetry};
use forebay_server::{
    AppConfig,
    config::{
        AlertsConfig, AuthConfig, BudgetsConfig, ContextsConfig, LimitsConfig, McpConfig, MetricsConfig, ServerConfig,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub const FILE_NAME: &str = "forebay.yaml";

/// Everything that can be configured. All of it is optional.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Forebay's configuration (forebay.yaml)")]
pub struct Config {
    pub server: ServerConfig,
    pub store: forebay_store::Config,
    pub auth: AuthConfig,
    pub limits: LimitsConfig,
    pub budgets: BudgetsConfig,
    pub prices: forebay_mcp::PricesConfig,
    pub alerts: AlertsConfig,
    pub markets: forebay_compute::MarketsConfig,
    pub rentals: forebay_compute::RentalsConfig,
    pub models: forebay_llm::Config,
    pub turns: forebay_llm::TurnsConfig,
    pub responses: forebay_llm::ResponsesConfig,
    pub tools: forebay_mcp::tools::Config,
    pub upstreams: forebay_mcp::upstream::Config,
    pub mcp: McpConfig,
    pub contexts: ContextsConfig,
    pub tasks: forebay_work::TasksConfig,
    pub metrics: MetricsConfig,
    pub telemetry: telemetry::Config,
}

impl Config {
    /// What the gateway process takes.
    pub fn app(&self) -> AppConfig {
        AppConfig {
            server: self.server.clone(),
            auth: self.auth.clone(),
            limits: self.limits.clone(),
            budgets: self.budgets.clone(),
            prices: self.prices.clone(),
            alerts: self.alerts.clone(),
            markets: self.markets.clone(),
            rentals: self.rentals.clone(),
            models: self.models.clone(),
            turns: self.turns.clone(),
            responses: self.responses.clone(),
            tools: self.tools.clone(),
            upstreams: self.upstreams.clone(),
            mcp: self.mcp.clone(),
            contexts: self.contexts,
            tasks: self.tasks.clone(),
        }
    }
}

/// Where a configuration is looked for.
#[derive(Clone)]
pub struct Sources {
    /// Named by flag or variable: this one or none.
    pub named: Option<PathBuf>,
    /// The data directory, where a file may stand too.
    pub data: PathBuf,
    pub env: Env,
    pub flags: Vec<FlagValue>,
}

impl Sources {
    /// The file that is in use now: the named one, or the first that is there.
    pub fn file(&self) -> Option<PathBuf> {
        let usual = [PathBuf::from(FILE_NAME), self.data.join(FILE_NAME)];
        self.named
            .clone()
            .or_else(|| usual.into_iter().find(|path| path.is_file()))
    }

    /// From now on the file that this was loaded from is the one: without it there is no configuration. Where there was
    /// none, one that appears is still found.
    fn pin(&mut self, loaded: &Loaded) {
        self.named.clone_from(&loaded.file);
    }

    /// Reads everything, checks it, and asks every part what it thinks of it.
    pub fn load(&self) -> Result<Loaded, Mistakes> {
        self.check(Depth::Whole)
    }

    /// The same, but for what cannot be judged elsewhere than on the gateway's own machine: the secrets, key files and
    /// folders that it refers to.
    pub fn load_without_secrets(&self) -> Result<Loaded, Mistakes> {
        self.check(Depth::WithoutSecrets)
    }

    fn check(&self, depth: Depth) -> Result<Loaded, Mistakes> {
        let schema = Schema::of_config();
        let path = self.file();
        let mut written = match &path {
            Some(path) => file::read(path).map_err(|mistake| Mistakes::new(Some(path.clone()), vec![mistake]))?,
            None => file::empty(),
        };
        let mut mistakes = layers::lay(&mut written, &self.env, &self.flags, &schema);
        let (config, found) = check::check(&written, &schema);
        mistakes.extend(found);
        let mut judge = meaning::Judge::new(&config, &written, mistakes);
        judge.form(&self.data);
        if depth == Depth::Whole {
            judge.machine(&schema, &self.data, &self.env.secrets());
        }
        let mistakes = judge.mistakes();
        if mistakes.is_empty() {
            Ok(Loaded {
                config,
                file: path,
                written,
                schema,
            })
        } else {
            Err(Mistakes::new(path, mistakes))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Whole,
    WithoutSecrets,
}

/// A configuration without mistakes, and where each of its keys comes from.
pub struct Loaded {
    pub config: Config,
    pub file: Option<PathBuf>,
    written: tree::Node,
    schema: Schema,
}

impl Loaded {
    /// The files that it refers to and whose content counts: secrets, and keys of a token issuer.
    pub fn files(&self) -> Vec<PathBuf> {
        let secrets = meaning::secrets(&self.written, &self.schema).into_iter();
        let secrets = secrets.filter_map(|(_, reference)| match reference {
            SecretRef::File(path) => Some(path),
            SecretRef::Env(_) => None,
        });
        let keys = self.config.auth.jwt.as_ref().and_then(|jwt| jwt.jwks_file.clone());
        secrets.chain(keys).collect()
    }

    /// The keys that differ between the two and take effect only after a restart.
    pub fn awaiting_restart(&self, running: &Config) -> Vec<String> {
        let (before, now) = (shown::leaves(running), shown::leaves(&self.config));
        let keys: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
        keys.into_iter()
            .filter(|path| before.get(*path) != now.get(*path))
            .filter(|path| self.schema.reload(path) == Some(Reload::Restart))
            .map(|path| check::dotted(path))
            .collect()
    }

    /// Every effective key with its value and its origin.
    pub fn shown(&self) -> Vec<Shown> {
        shown::show(&self.config, &self.written, self.file.as_deref())
    }

    /// The whole effective configuration as plain data, without anything secret.
    pub fn effective(&self) -> serde_json::Value {
        shown::redacted(&self.config)
    }
}

/// The data directory: named, or the usual place of the user.
pub fn data_dir(named: Option<&Path>, env: &Env) -> PathBuf {
    let usual = || {
        let home = || env.path("HOME").map(|home| home.join(".local/share"));
        let share = env
            .path("XDG_DATA_HOME")
            .or_else(home)
            .unwrap_or_else(|| PathBuf::from("."));
        share.join("forebay")
    };
    named
        .map(Path::to_owned)
        .or_else(|| env.path("FOREBAY_DATA"))
        .unwrap_or_else(usual)
}
