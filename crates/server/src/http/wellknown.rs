//! Protected-resource metadata (RFC 9728): tells an OAuth client which issuer to ask for a token for this gateway.
//!
//! Each MCP endpoint is a resource of its own to whoever asks there, and all of them take the same tokens. Whether there
//! is a server of some name is not told here: nobody has been asked yet who they are.

use crate::{
    app::App,
    door,
    errors::{self, Dialect},
    http::base_url,
};
use axum::{
    Extension, Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use forebay_domain::{Code, Failure, quarantine::ServerName};
use http::HeaderMap;
use serde_json::{Value, json};
use std::sync::Arc;

/// Where the metadata of the gateway as a whole stands.
const DOCUMENT: &str = "/.well-known/oauth-protected-resource";
const MCP: &str = "/mcp";

/// The metadata of the gateway as a protected resource.
#[utoipa::path(get, path = "/.well-known/oauth-protected-resource", tag = "auth", security(()),
    responses((status = 200, body = Value, description = "RFC 9728 §2")))]
pub(crate) async fn protected_resource(State(app): State<Arc<App>>, headers: HeaderMap) -> Json<Value> {
    Json(document(&app, &headers, MCP))
}

/// The same, where RFC 9728 §3.1 looks for it: behind the path of the resource.
#[utoipa::path(get, path = "/.well-known/oauth-protected-resource/mcp", tag = "auth", security(()),
    responses((status = 200, body = Value, description = "RFC 9728 §2")))]
pub(crate) async fn protected_resource_mcp(State(app): State<Arc<App>>, headers: HeaderMap) -> Json<Value> {
    Json(document(&app, &headers, MCP))
}

/// The metadata of the endpoint of one server.
#[utoipa::path(get, path = "/.well-known/oauth-protected-resource/servers/{name}/mcp", tag = "auth", security(()),
    params(("name" = String, Path, description = "the server's name")),
    responses((status = 200, body = Value, description = "RFC 9728 §2"), (status = 404, body = forebay_api::Problem)))]
pub(crate) async fn protected_resource_server(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<door::Arrival>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let resource = format!("/servers/{name}/mcp");
    if is_endpoint(&resource) {
        return Json(document(&app, &headers, &resource)).into_response();
    }
    let failure = Failure::new(Code::UnknownServer, "No server can have that name.");
    errors::respond(Dialect::Problem, &failure, arrival.trace)
}

fn document(app: &App, headers: &HeaderMap, resource: &str) -> Value {
    let rules = app.door.rules();
    let issuers: Vec<&str> = rules.tokens.iter().map(door::token::TokenVerifier::issuer).collect();
    let mut document = json!({
        "resource": format!("{}{resource}", base_url(app, headers)),
        "bearer_methods_supported": ["header"],
        "resource_name": "Forebay",
    });
    // RFC 9728 §2 wants the list absent rather than empty: without an issuer only API keys open the door.
    if !issuers.is_empty() {
        document["authorization_servers"] = json!(issuers);
    }
    document
}

/// Where the metadata of what stands at `path` is found: of an MCP endpoint its own, else the gateway's.
pub(crate) fn metadata_path(path: &str) -> String {
    if is_endpoint(path) {
        format!("{DOCUMENT}{path}")
    } else {
        DOCUMENT.to_owned()
    }
}

fn is_endpoint(path: &str) -> bool {
    let server = path
        .strip_prefix("/servers/")
        .and_then(|rest| rest.strip_suffix("/mcp"));
    path == MCP || server.is_some_and(|name| ServerName::try_from(name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_has_a_document_of_its_own() {
        for (path, rest) in [
            ("/mcp", "/mcp"),
            ("/servers/docs/mcp", "/servers/docs/mcp"),
            ("/servers/do\"cs/mcp", ""),
            ("/servers//mcp", ""),
            ("/servers/docs/mcp/more", ""),
            ("/mcp/tools", ""),
            ("/metrics", ""),
        ] {
            assert_eq!(metadata_path(path), format!("{DOCUMENT}{rest}"), "{path}");
        }
    }
}
