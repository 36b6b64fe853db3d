//! WebSocket: one connection, one message a text frame. Here is the handshake; what is said afterwards is in `frames`.
//!
//! The handshake passes edge and gate like any request, so Host, Origin and credentials are settled when it comes here.

use super::frames;
use crate::{
    app::App,
    door::{Caller, limit},
    errors::{self, Dialect},
};
use axum::{
    Extension,
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use forebay_domain::{Code, Failure};
use forebay_mcp::{DuplexHandle, Scope};
use http::{HeaderMap, HeaderValue, header};
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        handshake::server::create_response_with_body,
        protocol::{Role, WebSocketConfig},
    },
};

/// The subprotocol: JSON-RPC in text frames.
const SUBPROTOCOL: &str = "mcp";
/// What is allocated for reading and for writing in each connection at once; more only as long as a message needs it.
const BUFFER_BYTES: usize = 8 << 10;

/// Where the limit does not say when to ask again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A WebSocket with the subprotocol `mcp`: each text frame is one JSON-RPC message.
#[utoipa::path(get, path = "/mcp/ws", tag = "mcp",
    responses((status = 101, description = "the connection is a WebSocket now"), (status = 400, description = "the request is no handshake")))]
pub(crate) async fn whole(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    open(&app, &caller, Scope::Whole, request)
}

/// The same to one server by itself.
#[utoipa::path(get, path = "/servers/{name}/mcp/ws", tag = "mcp",
    params(("name" = String, Path, description = "an upstream, or `forebay` for the built-in tools")),
    responses((status = 101, description = "the connection is a WebSocket now"), (status = 400, description = "the request is no handshake"),
        (status = 404, description = "there is no such server")))]
pub(crate) async fn server(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    open(&app, &caller, Scope::Server(name.into()), request)
}

fn open(app: &Arc<App>, caller: &Caller, scope: Scope, request: Request) -> Response {
    try_open(app, caller, scope, request)
        .unwrap_or_else(|failure| errors::respond(Dialect::Mcp, &failure, caller.trace))
}

/// Agrees to the handshake, and has the connection served by a task of ours once it has been handed over.
fn try_open(app: &Arc<App>, caller: &Caller, scope: Scope, mut request: Request) -> Result<Response, Failure> {
    let mut response = create_response_with_body(&request, Body::empty).map_err(|fault| no_handshake(&fault))?;
    if offered(request.headers()) {
        let agreed = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, agreed);
    }
    let berth = app.pipes.reserve(&caller.principal, &app.entropy)?;
    let (handle, messages) = app.front.connect(caller.principal.clone(), scope, caller.trace)?;
    let way = Arc::new(Way {
        handle,
        app: app.clone(),
        subject: limit::subject(&caller.principal),
    });
    let config = config(app.body_bytes_max);
    let upgrade = hyper::upgrade::on(&mut request);
    app.tasks.spawn("mcp websocket", |stop| async move {
        match upgrade.await {
            Ok(upgraded) => {
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
                let take = |text| {
                    let way = way.clone();
                    async move { way.take(text).await }
                };
                frames::talk(socket, messages, take, stop).await;
            }
            Err(error) => tracing::debug!(%error, "a connection did not become a WebSocket"),
        }
        drop(berth);
    });
    Ok(response)
}

/// One connection's way into the gateway.
struct Way {
    handle: DuplexHandle,
    app: Arc<App>,
    /// Whose requests its messages are.
    subject: String,
}

impl Way {
    /// Hands a message in, once it is within the limit of requests. Whoever sends more is read more slowly.
    async fn take(&self, text: Bytes) -> Result<(), Failure> {
        loop {
            let verdict = self.app.door.requests.check(&self.subject);
            if verdict.is_allowed() {
                return self.handle.receive(text).await;
            }
            tokio::time::sleep(verdict.retry_after.unwrap_or(ASK_AGAIN_AFTER)).await;
        }
    }
}

fn config(message_bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max))
}

/// Whether the client speaks our subprotocol. One that names none is believed to; another one is never agreed to, and
/// neither is the one that carries a credential.
fn offered(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    names.any(|name| name.trim() == SUBPROTOCOL)
}

fn no_handshake(fault: &tungstenite::Error) -> Failure {
    Failure::new(
        Code::InvalidRequest,
        format!("The request is no WebSocket handshake: {fault}."),
    )
    .hint("Connect with a WebSocket client over HTTP/1.1, or use Streamable HTTP at `/mcp`.")
}
