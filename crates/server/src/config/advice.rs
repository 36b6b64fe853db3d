//! What may be read in a configuration that is not meant so, though nothing is wrong with it. Pure.

use crate::{app::AppConfig, contexts, gpu};
use forebay_domain::quarantine::NAME_SEPARATOR;

impl AppConfig {
    /// What whoever wrote it should look at again.
    pub fn advice(&self) -> Vec<String> {
        let gap = self.budgets.gap().map(str::to_owned);
        gap.into_iter().chain(self.priced_in_vain()).collect()
    }

    /// Prices of tools that this configuration does not bring. Of an upstream's tools nobody knows before it is asked.
    fn priced_in_vain(&self) -> impl Iterator<Item = String> {
        let names = self.prices.names().filter(|name| !self.has_tool(name));
        names.map(|name| {
            let why = match name.split_once(NAME_SEPARATOR) {
                Some((server, _)) => format!("no upstream `{server}`"),
                None => "no such tool".to_owned(),
            };
            format!("`prices.tools.{name}`: this configuration has {why}, so that the price counts only for one that is added at run time")
        })
    }

    fn has_tool(&self, name: &str) -> bool {
        let declared = &self.mcp.tools.0;
        let is_upstreams = name
            .split_once(NAME_SEPARATOR)
            .is_some_and(|(server, _)| self.upstreams.0.contains_key(server));
        is_upstreams || declared.contains_key(name) || own_tools().any(|own| own == name)
    }
}

/// The names of all tools that a gateway has of itself.
pub(crate) fn own_tools() -> impl Iterator<Item = &'static str> {
    let own = forebay_mcp::tools::names();
    own.chain(gpu::names()).chain(contexts::names())
}
