//! Protected-resource metadata (RFC 9728): tells an OAuth client which issuer to ask for a token for this gateway.

use crate::{app::App, http::base_url};
use axum::{Json, extract::State};
use http::HeaderMap;
use serde_json::{Value, json};
use std::sync::Arc;

/// The metadata of the gateway as a protected resource.
#[utoipa::path(get, path = "/.well-known/oauth-protected-resource", tag = "auth", security(()),
    responses((status = 200, body = Value, description = "RFC 9728 §2")))]
pub(crate) async fn protected_resource(State(app): State<Arc<App>>, headers: HeaderMap) -> Json<Value> {
    let rules = app.door.rules();
    let issuers: Vec<&str> = rules
        .tokens
        .iter()
        .map(super::super::door::token::TokenVerifier::issuer)
        .collect();
    let mut document = json!({
        "resource": format!("{}/mcp", base_url(&app, &headers)),
        "bearer_methods_supported": ["header"],
        "resource_name": "Forebay",
    });
    // RFC 9728 §2 wants the list absent rather than empty: without an issuer only API keys open the door.
    if !issuers.is_empty() {
        document["authorization_servers"] = json!(issuers);
    }
    Json(document)
}

/// The same, where RFC 9728 §3.1 looks for it: behind the path of the resource.
#[utoipa::path(get, path = "/.well-known/oauth-protected-resource/mcp", tag = "auth", security(()),
    responses((status = 200, body = Value, description = "RFC 9728 §2")))]
pub(crate) async fn protected_resource_mcp(app: State<Arc<App>>, headers: HeaderMap) -> Json<Value> {
    protected_resource(app, headers).await
}
