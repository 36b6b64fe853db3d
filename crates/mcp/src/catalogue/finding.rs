//! Which tool a name means, and to whom.

use super::Catalogue;
use crate::{
    index::{Index, Listed, Scope, View},
    source::{Naming, Tool},
};
use forebay_domain::{
    Code, Failure, Principal,
    quarantine::{NAME_SEPARATOR, ServerName, exposed_name},
};
use std::sync::Arc;

impl Catalogue {
    /// Whether this caller finds a tool of that name in the whole catalogue, be it offered now or held back. One that needs
    /// settings first is not here.
    pub fn has_tool(&self, principal: &Principal, tool: &str) -> bool {
        let is_held = |(_, why): (_, Failure)| why.code != Code::UnknownTool;
        self.find(principal, &Scope::Whole, tool).is_some() || self.withheld(&Scope::Whole, tool).is_some_and(is_held)
    }

    /// The names in the whole catalogue of the tools that a server offers.
    pub fn tools_of(&self, server: &str) -> Vec<String> {
        let index = self.0.index.load();
        let view = index.view(&Scope::Server(server.into()));
        let tools = view.into_iter().flat_map(|view| view.tools.values());
        tools.map(|tool| tool.exposed.clone()).collect()
    }

    /// The tool of that name, where there is anything behind it for this caller.
    pub(crate) fn find(&self, principal: &Principal, scope: &Scope, tool: &str) -> Option<Arc<Listed<Tool>>> {
        let index = self.0.index.load();
        let found = index.view(scope)?.tools.get(tool)?;
        (!found.source.hides(&found.item.name, principal)).then(|| found.clone())
    }

    /// The name in the whole catalogue of a tool that its server does have, and why it is not offered.
    pub(crate) fn withheld(&self, scope: &Scope, tool: &str) -> Option<(String, Failure)> {
        let index = self.0.index.load();
        let (scope, own) = match scope {
            Scope::Server(_) => (scope.clone(), tool),
            Scope::Whole => match tool.split_once(NAME_SEPARATOR) {
                Some((server, own)) => (Scope::Server(server.into()), own),
                None => return withheld_bare(&index, tool),
            },
        };
        let (source, _) = index.view(&scope)?.sources.first()?;
        let why = source.withheld(own)?;
        let exposed = match source.naming() {
            Naming::Bare => own.to_owned(),
            Naming::Prefixed => exposed_name(&ServerName::try_from(source.name()).ok()?, own).ok()?,
        };
        Some((exposed, why))
    }
}

/// The same for a tool of one of the gateway's own servers, whose names stand alone.
fn withheld_bare(index: &Index, tool: &str) -> Option<(String, Failure)> {
    let sources = index.view(&Scope::Whole)?.sources.iter().map(|(source, _)| source);
    let mut bare = sources.filter(|source| source.naming() == Naming::Bare);
    let why = bare.find_map(|source| source.withheld(tool))?;
    Some((tool.to_owned(), why))
}

pub(crate) fn view<'a>(index: &'a Index, scope: &Scope) -> Result<&'a View, Failure> {
    index.view(scope).ok_or_else(|| {
        Failure::new(Code::UnknownServer, "There is no server of that name.")
            .hint("`forebay upstream list` shows the upstreams; `/mcp` is all of them together.")
    })
}
