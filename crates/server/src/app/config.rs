//! The configuration of all parts, and whether a gateway could be made of it.

use super::parts::{door_config, kit, model_settings, tool_kit};
use crate::{
    alerts::Alerts,
    config::{AlertsConfig, AuthConfig, BudgetsConfig, ContextsConfig, LimitsConfig, McpConfig, ServerConfig},
    door::{Rules, token::Outside},
};
use forebay_compute::{MarketsConfig, RentalsConfig};
use forebay_context::{Providers, config::ProvidersConfig, contexts::ContextsSettings};
use forebay_domain::{Code, Failure, ledger::BudgetRule};
use forebay_mcp::{
    PricesConfig,
    declared::{self, Declared},
    tools,
    upstream::Upstreams,
};
use forebay_runtime::{Clock, Entropy, Tasks, secret::SecretReader};
use forebay_work::TasksConfig;
use std::collections::BTreeMap;

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
    pub(super) fn check_tools(&self, secrets: &SecretReader, clock: &Clock) -> Result<(), Failure> {
        let mcp = self.mcp.in_force();
        self.builtin_tools()?.check(secrets)?;
        Declared::check(&mcp.tools, &tool_kit(&mcp, secrets, clock))?;
        Providers::check(&mcp.context(), secrets)
    }

    /// What is wrong with providers and tools of `mcp:`, each by itself, at the key of each.
    pub fn faults_of_mcp(&self, secrets: &SecretReader) -> Vec<(String, Failure)> {
        let mcp = self.mcp.in_force();
        let kit = tool_kit(&mcp, secrets, &Clock::system());
        let tools = mcp.tools.0.iter().filter_map(|(name, tool)| {
            let alone = declared::Config(BTreeMap::from([(name.clone(), tool.clone())]));
            let declared = Declared::check(&alone, &kit);
            let fault = declared
                .and_then(|()| alone.onto(tools::Config::default())?.check(secrets))
                .err()?;
            Some((format!("mcp.tools.{name}"), fault))
        });
        let context = mcp.context();
        let providers = context.providers.0.iter().filter_map(|(name, provider)| {
            let alone = forebay_context::Config {
                providers: ProvidersConfig(BTreeMap::from([(name.clone(), provider.clone())])),
                ..context.clone()
            };
            let fault = Providers::check(&alone, secrets).err()?;
            Some((format!("mcp.providers.{name}"), fault))
        });
        tools.chain(providers).collect()
    }

    /// What may be spent.
    pub(super) fn budget_rules(&self) -> Result<Vec<BudgetRule>, Failure> {
        self.budgets.rules().map_err(|faults| {
            let told = faults
                .iter()
                .map(|fault| format!("budgets[{}].{}: {fault}", fault.index, fault.key));
            let message = told.collect::<Vec<_>>().join("; ");
            Failure::new(Code::InvalidConfig, format!("{message}."))
        })
    }

    /// Contexts that are kept, as their own section and `mcp:` have it.
    pub(super) fn contexts(&self) -> ContextsSettings {
        self.mcp.contexts(self.contexts)
    }

    /// The settings of the built-in tools, of which some may stand in `mcp.tools`.
    pub(super) fn builtin_tools(&self) -> Result<forebay_mcp::tools::Config, Failure> {
        self.mcp.in_force().tools.onto(self.tools.clone())
    }
}
