//! The OpenAPI document: `schema/openapi.json` is what is served, and a test compares it with what the handlers say.

use http::{HeaderName, header};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Forebay", description = "One gate in front of all AI compute."),
    paths(
        super::health::health, super::health::livez, super::health::readyz, super::health::mcp_health,
        super::wellknown::protected_resource, super::wellknown::protected_resource_mcp,
        super::wellknown::protected_resource_server,
        super::metrics::metrics, serve, super::status::status, super::explain::explain, super::explain_route::route,
        super::keys::create, super::keys::list, super::keys::revoke,
        super::records::events, super::records::audit, super::records::verify,
        super::upstreams::list, super::upstreams::register, super::upstreams::show, super::upstreams::remove,
        super::upstreams::approve, super::upstreams::forget, super::upstreams::refresh,
        super::providers::list, super::providers::create, super::providers::show, super::providers::remove,
        super::providers::test, super::declared::list, super::declared::create, super::declared::remove,
        super::spending::spending, super::spending::cost, super::budgets::list, super::budgets::set, super::budgets::remove,
        super::transactions::list,
        super::gpu::offers, super::gpu::quote, super::gpu::create, super::gpu::list, super::gpu::show,
        super::gpu::destroy, super::gpu::extend, super::gpu::logs, super::gpu::report, super::gpu::binary,
        super::openai::v1::list, super::openai::v1::show, super::openai::v1::chat, super::openai::v1::completions,
        super::openai::v1::embeddings, super::openai::v1::responses, super::openai::v1::messages,
        super::openai::bare::list, super::openai::bare::show, super::openai::bare::chat, super::openai::bare::completions,
        super::openai::bare::embeddings, super::openai::bare::responses, super::openai::bare::messages,
        super::openai::responses::v1::get, super::openai::responses::v1::delete, super::openai::responses::v1::items,
        super::openai::responses::v1::cancel,
        super::openai::responses::bare::get, super::openai::responses::bare::delete,
        super::openai::responses::bare::items, super::openai::responses::bare::cancel,
        super::mcp::post, super::mcp::get, super::mcp::delete, super::mcp::plain,
        super::servers::post, super::servers::get, super::servers::delete,
        super::pipes::sse::whole, super::pipes::sse::whole_messages, super::pipes::sse::older,
        super::pipes::sse::older_messages, super::pipes::sse::server, super::pipes::sse::server_messages,
        super::pipes::ws::whole, super::pipes::ws::server,
        super::contexts::health, super::contexts::models, super::contexts::create, super::contexts::list,
        super::contexts::show, super::contexts::remove, super::contexts::prompt, super::contexts::add,
        super::contexts::remove_node,
        super::tasks::submit, super::tasks::list, super::tasks::show, super::tasks::cancel, super::tasks::requeue,
        super::rest::tools, super::rest::call, super::rest::list, super::rest::read,
    ),
    security(("api_key" = []), ("bearer" = [])),
    modifiers(&Schemes),
)]
struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key or a JSON Web Token"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", key);
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document as it is served. It is kept and not made, as a program that never makes it needs no code for that.
pub const OPENAPI: &str = include_str!("../../../../schema/openapi.json");

/// The document as the handlers say it; a test compares it with the copy that is kept.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "telling", responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn serve() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
