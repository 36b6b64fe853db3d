//! The kinds of provider, one module each.

pub(crate) mod chroma;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod mcp;
pub(crate) mod postgresql;
pub(crate) mod rest;

use crate::embed::Embedder;
use forebay_domain::port::{AskModel, CallTool};
use forebay_runtime::{
    Clock, Entropy, Tasks,
    http::{AllowList, Guarded},
};
use forebay_store::Store;
use reqwest::Client;
use std::sync::Arc;

/// What providers stand on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) store: Store,
    pub(crate) models: Arc<dyn AskModel>,
    pub(crate) tools: Arc<dyn CallTool>,
    /// For what the operator configured.
    pub(crate) client: Client,
    /// For what somebody else chose.
    pub(crate) guarded: Guarded,
    pub(crate) allow: AllowList,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) tasks: Tasks,
}

impl Ground {
    fn embedder(&self, model: Option<&String>) -> Option<Embedder> {
        Some(Embedder::new(self.models.clone(), model?.clone()))
    }
}
