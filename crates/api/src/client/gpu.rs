//! Machines, over Forebay's own API.

use super::{Client, ClientError};
use crate::wire::{
    GpuCreate, GpuCreated, GpuExtend, GpuExtended, GpuInstance, GpuInstanceList, GpuInstanceQuery, GpuLog, GpuLogQuery,
    GpuOfferList, GpuOfferQuery, GpuQuote,
};
use reqwest::Method;
use std::time::Duration;
use url::form_urlencoded::byte_serialize;

const INSTANCES: &str = "/api/v1/gpu/instances";
/// A provider may take its time; the gateway has limits of its own below this.
const PROVIDER_MAX: Duration = Duration::from_mins(4);

impl Client {
    pub async fn gpu_offers(&self, query: &GpuOfferQuery) -> Result<GpuOfferList, ClientError> {
        self.json(self.request(Method::GET, "/api/v1/gpu/offers").query(query))
            .await
    }

    pub async fn gpu_quote(&self, wanted: &GpuCreate) -> Result<GpuQuote, ClientError> {
        let request = self.request(Method::POST, "/api/v1/gpu/quotes").timeout(PROVIDER_MAX);
        self.json(request.json(wanted)).await
    }

    /// Rents a machine, once for each key.
    pub async fn gpu_create(&self, wanted: &GpuCreate, key: &str) -> Result<GpuCreated, ClientError> {
        let request = self.request(Method::POST, INSTANCES).timeout(PROVIDER_MAX);
        self.json(request.header("idempotency-key", key).json(wanted)).await
    }

    pub async fn gpu_instances(&self, query: &GpuInstanceQuery) -> Result<GpuInstanceList, ClientError> {
        self.json(self.request(Method::GET, INSTANCES).query(query)).await
    }

    pub async fn gpu_instance(&self, id: &str) -> Result<GpuInstance, ClientError> {
        self.json(self.request(Method::GET, &of(id, ""))).await
    }

    pub async fn gpu_destroy(&self, id: &str) -> Result<GpuInstance, ClientError> {
        let request = self.request(Method::DELETE, &of(id, "")).timeout(PROVIDER_MAX);
        self.json(request).await
    }

    /// Lets a machine live longer, once for each key; or says what that would cost.
    pub async fn gpu_extend(&self, id: &str, wanted: &GpuExtend, key: &str) -> Result<GpuExtended, ClientError> {
        let request = self.request(Method::POST, &of(id, "/extend")).timeout(PROVIDER_MAX);
        self.json(request.header("idempotency-key", key).json(wanted)).await
    }

    pub async fn gpu_logs(&self, id: &str, lines: Option<u32>) -> Result<GpuLog, ClientError> {
        let request = self.request(Method::GET, &of(id, "/logs")).timeout(PROVIDER_MAX);
        self.json(request.query(&GpuLogQuery { lines })).await
    }
}

fn of(id: &str, more: &str) -> String {
    let id: String = byte_serialize(id.as_bytes()).collect();
    format!("{INSTANCES}/{id}{more}")
}
