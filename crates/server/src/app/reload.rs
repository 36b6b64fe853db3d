//! A new configuration in the place of the one in force.

use super::{
    App, AppConfig,
    parts::{self, door_config, kit, model_settings},
};
use crate::door::per_minute;
use forebay_domain::{
    Failure,
    event::{Intent, Surface},
    id::TraceId,
};
use forebay_mcp::upstream::Upstreams;
use jiff::Timestamp;
use std::sync::Arc;

/// How the configuration in force came to be.
pub(super) struct Loaded {
    pub at: Timestamp,
    /// Why a newer one was not taken.
    pub last_error: Option<String>,
}

impl Loaded {
    pub(super) fn at(at: Timestamp) -> Self {
        Self { at, last_error: None }
    }
}

impl App {
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
        self.loaded.store(Arc::new(Loaded::at(self.clock.now())));
        Ok(())
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
}
