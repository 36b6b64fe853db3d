//! The built-in server `tools`: all declared tools at one moment.

use super::{
    NAME,
    tool::{Origin, Tool, gone},
};
use crate::{
    call::{CallContext, Outcome},
    catalogue::WeakCatalogue,
    index::Scope,
    source::{Naming, Offer, Source, Wanted},
};
use arc_swap::ArcSwap;
use forebay_domain::{Code, Failure, Principal, port::BoxFuture};
use std::{collections::BTreeMap, sync::Arc};

pub(super) type Tools = BTreeMap<String, Arc<Tool>>;

pub(super) struct Shelf {
    catalogue: WeakCatalogue,
    now: ArcSwap<Shown>,
}

#[derive(Default)]
struct Shown {
    tools: Tools,
    offer: Arc<Offer>,
}

impl Shelf {
    pub(super) fn new(catalogue: WeakCatalogue) -> Self {
        Self {
            catalogue,
            now: ArcSwap::default(),
        }
    }

    pub(super) fn show(&self, tools: &Tools) {
        let enabled = tools.iter().filter(|(_, tool)| tool.config.is_enabled());
        let tools: Tools = enabled.map(|(name, tool)| (name.clone(), tool.clone())).collect();
        let offer = Offer {
            tools: tools.values().filter_map(|tool| tool.listed(&self.catalogue)).collect(),
            ..Offer::default()
        };
        let offer = Arc::new(offer);
        self.now.store(Arc::new(Shown { tools, offer }));
    }
}

impl Source for Shelf {
    fn name(&self) -> &str {
        NAME
    }

    fn naming(&self) -> Naming {
        Naming::Bare
    }

    fn offer(&self) -> Arc<Offer> {
        self.now.load().offer.clone()
    }

    fn hides(&self, tool: &str, principal: &Principal) -> bool {
        let now = self.now.load();
        let Some(tool) = now.tools.get(tool) else { return true };
        let Some(builtin) = tool.builtin() else { return false };
        let catalogue = self.catalogue.upgrade();
        catalogue.is_none_or(|catalogue| catalogue.find(principal, &Scope::Whole, builtin).is_none())
    }

    fn withheld(&self, tool: &str) -> Option<Failure> {
        let builtin = self.now.load().tools.get(tool)?.builtin()?;
        let (_, why) = self.catalogue.upgrade()?.withheld(&Scope::Whole, builtin)?;
        Some(why)
    }

    fn is_trusted(&self, tool: &str) -> bool {
        let now = self.now.load();
        now.tools
            .get(tool)
            .is_some_and(|tool| tool.origin == Origin::File && tool.config.trusted_output)
    }

    fn vouches(&self, _tool: &str) -> bool {
        true
    }

    fn serve<'a>(
        &'a self,
        principal: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            let Wanted::Tool { name, arguments, .. } = wanted else {
                return Err(Failure::new(Code::UnknownMethod, "Declared tools have no such thing."));
            };
            let tool = self.now.load().tools.get(name).cloned().ok_or_else(gone)?;
            tool.call(principal, arguments, context, &self.catalogue).await
        })
    }
}
