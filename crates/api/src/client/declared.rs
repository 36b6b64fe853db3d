//! Providers of context and declared tools, over Forebay's own API.

use super::{Client, ClientError};
use crate::wire::{
    DeclaredTool, DeclaredToolList, ProviderCreate, ProviderDetail, ProviderList, ProviderRef, ProviderTest,
    ProviderTested, ToolRef,
};
use reqwest::Method;
use serde_json::Value;
use url::form_urlencoded::byte_serialize;

const PROVIDERS: &str = "/api/v1/providers";
const TOOLS: &str = "/api/v1/tools";

impl Client {
    pub async fn providers(&self) -> Result<ProviderList, ClientError> {
        self.json(self.request(Method::GET, PROVIDERS)).await
    }

    pub async fn provider(&self, name: &str) -> Result<ProviderDetail, ClientError> {
        self.json(self.request(Method::GET, &path(PROVIDERS, name))).await
    }

    pub async fn create_provider(&self, wanted: &ProviderCreate) -> Result<ProviderRef, ClientError> {
        self.json(self.request(Method::POST, PROVIDERS).json(wanted)).await
    }

    pub async fn delete_provider(&self, name: &str) -> Result<ProviderRef, ClientError> {
        self.json(self.request(Method::DELETE, &path(PROVIDERS, name))).await
    }

    /// Asks a provider a question, past every cache.
    pub async fn test_provider(&self, name: &str, question: &ProviderTest) -> Result<ProviderTested, ClientError> {
        let path = format!("{}/test", path(PROVIDERS, name));
        // A source has a time limit of its own, which may be longer than that of the API.
        let request = self.request(Method::POST, &path).timeout(super::WORK_MAX);
        self.json(request.json(question)).await
    }

    /// The tools that were declared, with their settings.
    pub async fn declared_tools(&self) -> Result<DeclaredToolList, ClientError> {
        self.json(self.request(Method::GET, TOOLS)).await
    }

    pub async fn create_tool(&self, wanted: &Value) -> Result<DeclaredTool, ClientError> {
        self.json(self.request(Method::POST, TOOLS).json(wanted)).await
    }

    pub async fn delete_tool(&self, name: &str) -> Result<ToolRef, ClientError> {
        self.json(self.request(Method::DELETE, &path(TOOLS, name))).await
    }
}

fn path(route: &str, name: &str) -> String {
    let name: String = byte_serialize(name.as_bytes()).collect();
    format!("{route}/{name}")
}
