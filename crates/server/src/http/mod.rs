//! The routes: one table, one row each, and nothing outside it.
//!
//! A row says who may pass; the router is made from the rows, so there is no route without an answer to that. Handlers
//! are thin: they read the request, call one function, and map the answer.

pub(crate) mod body;
mod budgets;
mod contexts;
mod declared;
mod explain;
mod explain_route;
mod gpu;
mod health;
mod keys;
mod mcp;
mod metrics;
mod named_call;
mod openai;
mod openapi;
mod page;
mod pipes;
mod providers;
mod records;
mod rest;
mod servers;
mod spending;
mod status;
pub(crate) mod tasks;
mod transactions;
mod upstreams;
pub(crate) mod wait;
mod wellknown;

pub use openapi::{OPENAPI, document};
pub use pipes::Pipes;
pub(crate) use wellknown::metadata_path;

use crate::{
    app::App,
    door::{self, Caller, Edge, Listener, origin::host_of},
    errors::{self, Dialect},
};
use axum::{
    Router,
    extract::Request,
    middleware,
    response::Response,
    routing::{MethodRouter, delete, get, post, put},
};
use forebay_domain::{Action, Code, Failure, event::Surface};
use http::{HeaderMap, header};
use std::sync::Arc;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

/// What a caller needs to pass.
#[derive(Debug, Clone)]
pub enum Access {
    /// Nobody is asked who they are.
    Anonymous,
    /// The action must be allowed.
    Needs(Action),
    /// The same, and an audit event is committed before the handler runs.
    Audited(Action),
    /// A rented machine's own token, which is no key and which the handler hands to rentals.
    Machine,
}

impl Access {
    pub fn action(&self) -> Option<&Action> {
        match self {
            Self::Anonymous | Self::Machine => None,
            Self::Needs(action) | Self::Audited(action) => Some(action),
        }
    }
}

/// One row of the table.
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub surface: Surface,
    pub dialect: Dialect,
    pub access: Access,
    mount: fn() -> MethodRouter<Arc<App>>,
}

macro_rules! routes {
    ($($method:literal $path:literal $surface:ident $dialect:ident $access:expr, $mount:expr;)*) => {
        /// Every route there is.
        pub static ROUTES: &[Route] = &[$(Route {
            method: $method,
            path: $path,
            surface: Surface::$surface,
            dialect: Dialect::$dialect,
            access: $access,
            mount: || $mount,
        },)*];
    };
}

use Access::{Anonymous, Audited, Machine, Needs};

const PROVIDERS_READ: Action = Action::named("providers:read");
const PROVIDERS_WRITE: Action = Action::named("providers:write");
/// The declarations of tools, which say where they reach; what may be called is listed under `tools:list`.
const TOOLS_READ: Action = Action::named("tools:read");
const TOOLS_WRITE: Action = Action::named("tools:write");

routes! {
    "GET" "/health" Api Problem Anonymous, get(health::health);
    "GET" "/livez" Api Problem Anonymous, get(health::livez);
    "GET" "/readyz" Api Problem Anonymous, get(health::readyz);
    "GET" "/mcp/health" Api Problem Anonymous, get(health::mcp_health);
    "GET" "/.well-known/oauth-protected-resource" Api Problem Anonymous, get(wellknown::protected_resource);
    "GET" "/.well-known/oauth-protected-resource/mcp" Api Problem Anonymous, get(wellknown::protected_resource_mcp);
    "GET" "/.well-known/oauth-protected-resource/servers/{name}/mcp" Api Problem Anonymous, get(wellknown::protected_resource_server);
    "GET" "/metrics" Api Problem Needs(Action::METRICS_READ), get(metrics::metrics);
    "GET" "/openapi.json" Api Problem Needs(Action::STATUS_READ), get(openapi::serve);
    "GET" "/api/v1/status" Api Problem Needs(Action::STATUS_READ), get(status::status);
    "GET" "/api/v1/explain" Api Problem Needs(Action::EXPLAIN_SELF), get(explain::explain);
    "GET" "/api/v1/explain/route" Api Problem Needs(Action::EXPLAIN_SELF), get(explain_route::route);
    "POST" "/api/v1/keys" Api Problem Audited(Action::KEYS_WRITE), post(keys::create);
    "GET" "/api/v1/keys" Api Problem Needs(Action::KEYS_READ), get(keys::list);
    "DELETE" "/api/v1/keys/{id}" Api Problem Audited(Action::KEYS_WRITE), delete(keys::revoke);
    "GET" "/api/v1/events" Api Problem Needs(Action::EVENTS_READ), get(records::events);
    "GET" "/api/v1/audit" Api Problem Needs(Action::AUDIT_READ), get(records::audit);
    "GET" "/api/v1/audit/verify" Api Problem Needs(Action::AUDIT_READ), get(records::verify);
    "GET" "/api/v1/upstreams" Api Problem Needs(Action::UPSTREAMS_READ), get(upstreams::list);
    "POST" "/api/v1/upstreams" Api Problem Audited(Action::UPSTREAMS_WRITE), post(upstreams::register);
    "GET" "/api/v1/upstreams/{name}" Api Problem Needs(Action::UPSTREAMS_READ), get(upstreams::show);
    "DELETE" "/api/v1/upstreams/{name}" Api Problem Audited(Action::UPSTREAMS_WRITE), delete(upstreams::remove);
    "POST" "/api/v1/upstreams/{name}/approve" Api Problem Audited(Action::UPSTREAMS_WRITE), post(upstreams::approve);
    "POST" "/api/v1/upstreams/{name}/forget" Api Problem Audited(Action::UPSTREAMS_WRITE), post(upstreams::forget);
    "POST" "/api/v1/upstreams/{name}/refresh" Api Problem Audited(Action::UPSTREAMS_WRITE), post(upstreams::refresh);
    "GET" "/api/v1/providers" Api Problem Needs(PROVIDERS_READ), get(providers::list);
    "POST" "/api/v1/providers" Api Problem Audited(PROVIDERS_WRITE), post(providers::create);
    "GET" "/api/v1/providers/{name}" Api Problem Needs(PROVIDERS_READ), get(providers::show);
    "DELETE" "/api/v1/providers/{name}" Api Problem Audited(PROVIDERS_WRITE), delete(providers::remove);
    "POST" "/api/v1/providers/{name}/test" Api Problem Needs(PROVIDERS_READ), post(providers::test);
    "GET" "/api/v1/tools" Api Problem Needs(TOOLS_READ), get(declared::list);
    "POST" "/api/v1/tools" Api Problem Audited(TOOLS_WRITE), post(declared::create);
    "DELETE" "/api/v1/tools/{name}" Api Problem Audited(TOOLS_WRITE), delete(declared::remove);
    "GET" "/api/v1/spending" Api Problem Needs(Action::SPENDING_READ), get(spending::spending);
    "POST" "/api/v1/spending/check" Api Problem Needs(Action::SPENDING_READ), post(spending::cost);
    "GET" "/api/v1/budgets" Api Problem Needs(Action::BUDGETS_READ), get(budgets::list);
    "PUT" "/api/v1/budgets" Api Problem Audited(Action::BUDGETS_WRITE), put(budgets::set);
    "DELETE" "/api/v1/budgets" Api Problem Audited(Action::BUDGETS_WRITE), delete(budgets::remove);
    "GET" "/api/v1/billing/transactions" Api Problem Needs(Action::BILLING_READ), get(transactions::list);
    "GET" "/api/v1/gpu/offers" Api Problem Needs(Action::GPU_READ), get(gpu::offers);
    "POST" "/api/v1/gpu/quotes" Api Problem Needs(Action::GPU_READ), post(gpu::quote);
    "POST" "/api/v1/gpu/instances" Api Problem Audited(Action::GPU_CREATE), post(gpu::create);
    "GET" "/api/v1/gpu/instances" Api Problem Needs(Action::GPU_READ), get(gpu::list);
    "GET" "/api/v1/gpu/instances/{id}" Api Problem Needs(Action::GPU_READ), get(gpu::show);
    "DELETE" "/api/v1/gpu/instances/{id}" Api Problem Audited(Action::GPU_DESTROY), delete(gpu::destroy);
    "POST" "/api/v1/gpu/instances/{id}/extend" Api Problem Audited(Action::GPU_CREATE), post(gpu::extend);
    "GET" "/api/v1/gpu/instances/{id}/logs" Api Problem Needs(Action::GPU_READ), get(gpu::logs);
    "POST" "/api/v1/gpu/agent" Api Problem Machine, post(gpu::report);
    "GET" "/dist/forebay" Api Problem Machine, get(gpu::binary);
    "GET" "/v1/models" OpenAi OpenAi Needs(Action::MODELS_LIST), get(openai::v1::list);
    "GET" "/v1/models/{*id}" OpenAi OpenAi Needs(Action::MODELS_LIST), get(openai::v1::show);
    "POST" "/v1/chat/completions" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::v1::chat);
    "POST" "/v1/completions" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::v1::completions);
    "POST" "/v1/embeddings" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::v1::embeddings);
    "POST" "/v1/responses" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::v1::responses);
    "GET" "/v1/responses/{id}" OpenAi OpenAi Needs(Action::MODELS_LIST), get(openai::responses::v1::get);
    "DELETE" "/v1/responses/{id}" OpenAi OpenAi Needs(Action::MODELS_LIST), delete(openai::responses::v1::delete);
    "POST" "/v1/responses/{id}/cancel" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::responses::v1::cancel);
    "GET" "/v1/responses/{id}/input_items" OpenAi OpenAi Needs(Action::MODELS_LIST), get(openai::responses::v1::items);
    "POST" "/v1/messages" OpenAi Anthropic Needs(Action::MODELS_LIST), post(openai::v1::messages);
    "GET" "/models" OpenAi OpenAi Needs(Action::MODELS_LIST), get(openai::bare::list);
    "GET" "/models/{*id}" OpenAi OpenAi Needs(Action::MODELS_LIST), get(openai::bare::show);
    "POST" "/chat/completions" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::bare::chat);
    "POST" "/completions" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::bare::completions);
    "POST" "/embeddings" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::bare::embeddings);
    "POST" "/responses" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::bare::responses);
    "GET" "/responses/{id}" OpenAi OpenAi Needs(Action::MODELS_LIST), get(openai::responses::bare::get);
    "DELETE" "/responses/{id}" OpenAi OpenAi Needs(Action::MODELS_LIST), delete(openai::responses::bare::delete);
    "POST" "/responses/{id}/cancel" OpenAi OpenAi Needs(Action::MODELS_LIST), post(openai::responses::bare::cancel);
    "GET" "/responses/{id}/input_items" OpenAi OpenAi Needs(Action::MODELS_LIST), get(openai::responses::bare::items);
    "POST" "/messages" OpenAi Anthropic Needs(Action::MODELS_LIST), post(openai::bare::messages);
    "POST" "/mcp" Mcp Mcp Needs(Action::MCP_CONNECT), post(mcp::post);
    "GET" "/mcp" Mcp Mcp Needs(Action::MCP_CONNECT), get(mcp::get);
    "DELETE" "/mcp" Mcp Mcp Needs(Action::MCP_CONNECT), delete(mcp::delete);
    "POST" "/servers/{name}/mcp" Mcp Mcp Needs(Action::MCP_CONNECT), post(servers::post);
    "GET" "/servers/{name}/mcp" Mcp Mcp Needs(Action::MCP_CONNECT), get(servers::get);
    "DELETE" "/servers/{name}/mcp" Mcp Mcp Needs(Action::MCP_CONNECT), delete(servers::delete);
    "GET" "/mcp/sse" Mcp Mcp Needs(Action::MCP_CONNECT), get(pipes::sse::whole);
    "POST" "/mcp/messages" Mcp Mcp Needs(Action::MCP_CONNECT), post(pipes::sse::whole_messages);
    "GET" "/api/v1/mcp/sse" Mcp Mcp Needs(Action::MCP_CONNECT), get(pipes::sse::older);
    "POST" "/api/v1/mcp/messages" Mcp Mcp Needs(Action::MCP_CONNECT), post(pipes::sse::older_messages);
    "GET" "/servers/{name}/mcp/sse" Mcp Mcp Needs(Action::MCP_CONNECT), get(pipes::sse::server);
    "POST" "/servers/{name}/mcp/messages" Mcp Mcp Needs(Action::MCP_CONNECT), post(pipes::sse::server_messages);
    "GET" "/mcp/ws" Mcp Mcp Needs(Action::MCP_CONNECT), get(pipes::ws::whole);
    "GET" "/servers/{name}/mcp/ws" Mcp Mcp Needs(Action::MCP_CONNECT), get(pipes::ws::server);
    "GET" "/mcp/tools" Mcp Problem Needs(Action::TOOLS_LIST), get(rest::tools);
    "POST" "/mcp/tools/{name}" Mcp Problem Needs(Action::MCP_CONNECT), post(rest::call);
    "GET" "/mcp/resources" Mcp Problem Needs(Action::RESOURCES_READ), get(rest::list);
    "POST" "/mcp/resources" Mcp Problem Needs(Action::RESOURCES_READ), post(rest::read);
    "POST" "/api/v1/mcp" Mcp Mcp Needs(Action::MCP_CONNECT), post(mcp::plain);
    "GET" "/api/v1/mcp/health" Api Problem Needs(Action::STATUS_READ), get(contexts::health);
    "GET" "/api/v1/mcp/models" Api Problem Needs(Action::MODELS_LIST), get(contexts::models);
    "POST" "/api/v1/mcp/contexts" Api Problem Audited(Action::CONTEXTS_WRITE), post(contexts::create);
    "GET" "/api/v1/mcp/contexts" Api Problem Needs(Action::CONTEXTS_READ), get(contexts::list);
    "GET" "/api/v1/mcp/contexts/{id}" Api Problem Needs(Action::CONTEXTS_READ), get(contexts::show);
    "DELETE" "/api/v1/mcp/contexts/{id}" Api Problem Audited(Action::CONTEXTS_WRITE), delete(contexts::remove);
    "POST" "/api/v1/mcp/contexts/{id}/prompt" Api Problem Needs(Action::CONTEXTS_WRITE), post(contexts::prompt);
    "POST" "/api/v1/mcp/contexts/{id}/nodes" Api Problem Audited(Action::CONTEXTS_WRITE), post(contexts::add);
    "DELETE" "/api/v1/mcp/contexts/{id}/nodes/{node}" Api Problem Audited(Action::CONTEXTS_WRITE), delete(contexts::remove_node);
    "POST" "/api/v1/mcp/tasks" Api Problem Audited(Action::TASKS_WRITE), post(tasks::submit);
    "GET" "/api/v1/mcp/tasks" Api Problem Needs(Action::TASKS_READ), get(tasks::list);
    "GET" "/api/v1/mcp/tasks/{id}" Api Problem Needs(Action::TASKS_READ), get(tasks::show);
    "POST" "/api/v1/mcp/tasks/{id}/cancel" Api Problem Audited(Action::TASKS_WRITE), post(tasks::cancel);
    "POST" "/api/v1/mcp/tasks/{id}/requeue" Api Problem Audited(Action::TASKS_WRITE), post(tasks::requeue);
}

/// The router of the main listener: every row behind its gate, everything behind the edge.
pub fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let gate = door::Gate {
            app: app.clone(),
            route,
        };
        let guarded = (route.mount)().layer(middleware::from_fn_with_state(gate, door::gate));
        router = router.route(route.path, guarded);
    }
    around(router, app, Listener::Main)
}

/// The router of the listener that serves metrics alone.
pub fn metrics_router(app: &Arc<App>) -> Router {
    around(
        Router::new().route("/metrics", get(metrics::metrics)),
        app,
        Listener::Metrics,
    )
}

/// What stands around the routes of every listener.
fn around(router: Router<Arc<App>>, app: &Arc<App>, listener: Listener) -> Router {
    let edge = Edge {
        app: app.clone(),
        listener,
    };
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(cors(app, listener))
        .layer(middleware::from_fn(catch_panic))
        .layer(middleware::from_fn_with_state(edge, door::edge))
        .with_state(app.clone())
}

/// Whose error shape a path speaks and to which surface it belongs, whether or not there is a route.
pub fn manners(path: &str) -> (Surface, Dialect) {
    let by_form = || ROUTES.iter().find(|row| fits(row.path, path));
    match ROUTES.iter().find(|row| row.path == path).or_else(by_form) {
        Some(row) => (row.surface, row.dialect),
        None if path.starts_with("/v1/messages/") => (Surface::OpenAi, Dialect::Anthropic),
        None if path.starts_with("/v1/") => (Surface::OpenAi, Dialect::OpenAi),
        None => (Surface::Api, Dialect::Problem),
    }
}

/// Whether a path has the form of a row's, in which `{name}` stands for any one segment and `{*name}` for all the rest.
fn fits(form: &str, path: &str) -> bool {
    if let Some((before, _)) = form.split_once("{*") {
        return path.strip_prefix(before).is_some_and(|rest| !rest.is_empty());
    }
    let (form, path) = (form.split('/'), path.split('/'));
    form.clone().count() == path.clone().count()
        && form
            .zip(path)
            .all(|(part, segment)| part == segment || part.starts_with('{'))
}

/// The URL under which this request's client reaches the gateway. The Host was checked by the edge.
pub fn base_url(app: &App, headers: &HeaderMap) -> String {
    if let Some(url) = &app.door.rules().public_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    match headers.get(header::HOST).and_then(|value| host_of(value.as_bytes())) {
        Some(host) => format!("http://{host}"),
        None => format!("http://{}", app.bound),
    }
}

/// All addresses under which clients reach this gateway, as far as it knows them.
pub(crate) fn base_url_of(app: &App) -> Vec<url::Url> {
    let bound = [
        format!("http://{}", app.bound),
        format!("http://localhost:{}", app.bound.port()),
    ];
    let bound = bound.iter().filter_map(|text| text.parse().ok());
    app.door.rules().public_url.clone().into_iter().chain(bound).collect()
}

async fn unknown_route(request: Request) -> Response {
    let (_, dialect) = manners(request.uri().path());
    let failure = Failure::new(Code::RouteNotFound, "There is no such route.")
        .hint("`GET /openapi.json` lists the routes; OpenAI clients use the base URL `…/v1`, MCP clients `…/mcp`.");
    errors::respond(dialect, &failure, trace(&request))
}

async fn wrong_method(request: Request) -> Response {
    let (_, dialect) = manners(request.uri().path());
    let failure = Failure::new(
        Code::MethodNotAllowed,
        format!("This route does not answer {}.", request.method()),
    )
    .hint("The Allow header names the methods it does answer.");
    errors::respond(dialect, &failure, trace(&request))
}

fn trace(request: &Request) -> forebay_domain::id::TraceId {
    request
        .extensions()
        .get::<door::Arrival>()
        .expect("the edge runs before every handler")
        .trace
}

/// A panic is a bug of ours: the caller gets a plain 500 and the log the trace.
async fn catch_panic(request: Request, next: middleware::Next) -> Response {
    let (_, dialect) = manners(request.uri().path());
    let trace = trace(&request);
    if let Ok(response) = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(next.run(request))).await {
        response
    } else {
        let failure = Failure::new(
            Code::InternalError,
            "The gateway failed while it answered this request.",
        )
        .hint(format!("Report it with the trace id {trace}."));
        errors::respond(dialect, &failure, trace)
    }
}

/// Browsers ask before they send. The origins are those that the edge lets in; the edge has refused all others before.
fn cors(app: &Arc<App>, listener: Listener) -> CorsLayer {
    let app = app.clone();
    let known = move |origin: &http::HeaderValue, _: &http::request::Parts| {
        origin
            .to_str()
            .is_ok_and(|origin| app.door.rules().neighbours(listener).allows(origin))
    };
    let exposed = [
        "mcp-session-id",
        "mcp-protocol-version",
        "www-authenticate",
        "x-trace-id",
        "ratelimit",
        "retry-after",
        "idempotent-replayed",
        "location",
        "preference-applied",
        "x-task-id",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(known))
        .allow_methods([
            http::Method::GET,
            http::Method::POST,
            http::Method::PUT,
            http::Method::DELETE,
        ])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(ExposeHeaders::list(exposed.map(http::HeaderName::from_static)))
        .max_age(std::time::Duration::from_mins(10))
}

/// A failure on Forebay's own API, in its dialect.
pub(crate) struct ApiError(pub(crate) Failure, pub(crate) forebay_domain::id::TraceId);

impl axum::response::IntoResponse for ApiError {
    fn into_response(self) -> Response {
        errors::respond(Dialect::Problem, &self.0, self.1)
    }
}

impl Caller {
    /// Words a failure for this caller on Forebay's own API.
    pub(crate) fn problem(&self, failure: impl Into<Failure>) -> ApiError {
        ApiError(failure.into(), self.trace)
    }
}
