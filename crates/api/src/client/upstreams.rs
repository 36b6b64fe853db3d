//! Upstream MCP servers, over Forebay's own API.

use super::{Client, ClientError};
use crate::wire::{
    UpstreamApprove, UpstreamApproved, UpstreamDetail, UpstreamForgotten, UpstreamList, UpstreamRef, UpstreamRegister,
};
use reqwest::Method;
use url::form_urlencoded::byte_serialize;

const ROUTE: &str = "/api/v1/upstreams";

impl Client {
    pub async fn upstreams(&self) -> Result<UpstreamList, ClientError> {
        self.json(self.request(Method::GET, ROUTE)).await
    }

    pub async fn upstream(&self, name: &str) -> Result<UpstreamDetail, ClientError> {
        self.json(self.request(Method::GET, &path(name, ""))).await
    }

    pub async fn register_upstream(&self, wanted: &UpstreamRegister) -> Result<UpstreamRef, ClientError> {
        self.json(self.request(Method::POST, ROUTE).json(wanted)).await
    }

    pub async fn remove_upstream(&self, name: &str) -> Result<UpstreamRef, ClientError> {
        self.json(self.request(Method::DELETE, &path(name, ""))).await
    }

    /// Lets definitions pass that wait for a decision, or says which would.
    pub async fn approve_upstream(
        &self,
        name: &str,
        chosen: &UpstreamApprove,
    ) -> Result<UpstreamApproved, ClientError> {
        self.json(self.request(Method::POST, &path(name, "/approve")).json(chosen))
            .await
    }

    /// Forgets what was approved of an upstream, also of one that is gone.
    pub async fn forget_upstream(&self, name: &str) -> Result<UpstreamForgotten, ClientError> {
        self.json(self.request(Method::POST, &path(name, "/forget"))).await
    }

    /// Has an upstream listed again, or reached again.
    pub async fn refresh_upstream(&self, name: &str) -> Result<UpstreamRef, ClientError> {
        self.json(self.request(Method::POST, &path(name, "/refresh"))).await
    }
}

fn path(name: &str, rest: &str) -> String {
    let name: String = byte_serialize(name.as_bytes()).collect();
    format!("{ROUTE}/{name}{rest}")
}
