//! What the gateway is compared with, in the same run on the same machine: a plain route, the SDK's own MCP server, an
//! engine that answers at once, and a proxy in front of it that does nothing else.
#![expect(clippy::print_stdout, reason = "the address is the output")]
#![expect(clippy::unwrap_used, reason = "a harness that does not work shall stop")]

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use clap::{Parser, ValueEnum};
use futures_util::{StreamExt, stream};
use http::{Uri, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpListener;

#[derive(Parser)]
struct Options {
    kind: Kind,
    /// How many tools the MCP server lists.
    #[arg(long, default_value_t = 1)]
    tools: usize,
    /// Where the proxy sends everything: `http://HOST:PORT`.
    #[arg(long, default_value = "http://127.0.0.1:0")]
    to: Uri,
}

#[derive(Clone, ValueEnum)]
enum Kind {
    /// An axum route that answers with fixed JSON.
    Route,
    /// The Rust SDK's MCP server with one tool, as fast as it goes (TCP_NODELAY, plain JSON answers).
    Mcp,
    /// An OpenAI-compatible engine that answers at once, whole or streamed; it calls the first tool that it is offered, once.
    Engine,
    /// Hands each request on to an engine, and its answer back, and reads neither: what no gateway can do without.
    Proxy,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let app = match options.kind {
        Kind::Route => Router::new().route("/", post(|_: String| async { Json(json!({"result": "4"})) })),
        Kind::Mcp => Router::new().fallback_service(mcp(options.tools)),
        Kind::Engine => Router::new().route("/v1/chat/completions", post(engine)),
        Kind::Proxy => Router::new().fallback(pass).with_state(Proxy::new(options.to)),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    axum::serve(listener, app).await.unwrap();
}

#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Body>,
    to: Uri,
}

impl Proxy {
    fn new(to: Uri) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, to }
    }
}

async fn pass(State(Proxy { client, to }): State<Proxy>, mut request: Request) -> Response {
    let mut parts = to.into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from_parts(parts).unwrap();
    client.request(request).await.unwrap().into_response()
}

fn mcp(tools: usize) -> StreamableHttpService<Calculator, LocalSessionManager> {
    let mut config = StreamableHttpServerConfig::default();
    config.json_response = true;
    config.legacy_session_mode = false;
    StreamableHttpService::new(
        move || Ok(Calculator { tools }),
        Arc::new(LocalSessionManager::default()),
        config,
    )
}

#[derive(Clone)]
struct Calculator {
    tools: usize,
}

impl ServerHandler for Calculator {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let others = (1..self.tools).map(|index| named(&format!("tool_{index}")));
        Ok(ListToolsResult::with_all_items(
            std::iter::once(tool()).chain(others).collect(),
        ))
    }

    fn get_tool(&self, _: &str) -> Option<Tool> {
        Some(tool())
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("4")]).into())
    }
}

fn tool() -> Tool {
    named("calculator")
}

fn named(name: &str) -> Tool {
    let schema = json!({"type": "object", "properties": {"expression": {"type": "string"}}});
    Tool::new(
        name.to_owned(),
        "Answers 4.",
        Arc::new(schema.as_object().unwrap().clone()),
    )
}

const STREAM_CHUNKS: usize = 20;

/// Between two chunks of the model `paced`.
const PACE: Duration = Duration::from_millis(5);

async fn engine(Json(request): Json<Value>) -> Response {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": STREAM_CHUNKS, "total_tokens": 10 + STREAM_CHUNKS});
    if request["stream"] == json!(true) {
        return streamed(&usage, request["model"] == json!("paced"));
    }
    let read = |message: &Value| message["role"] == json!("tool");
    let answered = request["messages"].as_array().unwrap().iter().any(read);
    let tool = &request["tools"][0]["function"]["name"];
    let (message, end) = if tool.is_string() && !answered {
        let call = json!({"id": "call_1", "type": "function",
            "function": {"name": tool, "arguments": "{\"expression\": \"2+2\"}"}});
        (
            json!({"role": "assistant", "content": null, "tool_calls": [call]}),
            "tool_calls",
        )
    } else {
        (json!({"role": "assistant", "content": "Paris."}), "stop")
    };
    Json(
        json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": end}]}),
    )
    .into_response()
}

/// So many words; of the model `paced` each is the time at which it was sent, in microseconds.
fn streamed(usage: &Value, paced: bool) -> Response {
    let delta = |place: usize, text: &str| {
        let end = (place + 1 == STREAM_CHUNKS).then_some("stop");
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": end}]});
        format!("data: {chunk}\n\n")
    };
    let last = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage});
    let end = [format!("data: {last}\n\n"), "data: [DONE]\n\n".to_owned()];
    let body = if paced {
        let words = stream::iter(0..STREAM_CHUNKS).then(move |place| async move {
            tokio::time::sleep(PACE).await;
            delta(place, &format!("sent:{} ", now_us()))
        });
        Body::from_stream(words.chain(stream::iter(end)).map(Ok::<_, Infallible>))
    } else {
        let words = (0..STREAM_CHUNKS)
            .map(|place| delta(place, "word "))
            .chain(end)
            .map(Ok::<_, Infallible>);
        Body::from_stream(stream::iter(words.collect::<Vec<_>>()))
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

#[expect(clippy::disallowed_methods, reason = "measures on the machine's own clock")]
fn now_us() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}
