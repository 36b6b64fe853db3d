//! An MCP server of somebody else, with a mind of its own: what it lists can change at any time.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A server of 2025-11-25, over Streamable HTTP.
pub(crate) struct Far {
    url: String,
    state: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tools: Mutex<Vec<Value>>,
    /// The headers of every request, as text.
    heard: Mutex<Vec<String>>,
}

impl Far {
    pub(crate) async fn start(tools: Vec<Value>) -> Self {
        let state = Arc::new(Shared::default());
        *state.tools.lock().unwrap() = tools;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        // Without a stream of notifications: a GET is answered 405.
        let router = Router::new().route("/mcp", post(answer)).with_state(state.clone());
        #[expect(clippy::disallowed_methods, reason = "the server ends with its test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it lists from now on.
    pub(crate) fn lists(&self, tools: Vec<Value>) {
        *self.state.tools.lock().unwrap() = tools;
    }

    /// Whether any request carried this in a header.
    pub(crate) fn heard(&self, text: &str) -> bool {
        self.state
            .heard
            .lock()
            .unwrap()
            .iter()
            .any(|headers| headers.contains(text))
    }
}

/// A tool as it is listed.
pub(crate) fn tool(name: &str, description: &str) -> Value {
    json!({"name": name, "description": description, "inputSchema": {"type": "object"}})
}

async fn answer(State(state): State<Arc<Shared>>, headers: HeaderMap, Json(message): Json<Value>) -> Response {
    state.heard.lock().unwrap().push(format!("{headers:?}"));
    let Some(id) = message.get("id") else {
        return StatusCode::ACCEPTED.into_response();
    };
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "far", "version": "1"}}),
        "tools/list" => json!({"tools": *state.tools.lock().unwrap()}),
        "tools/call" => json!({"content": [{"type": "text", "text": message["params"]["arguments"].to_string()}]}),
        "ping" => json!({}),
        _ => {
            let error = json!({"code": -32601, "message": "no such method"});
            return Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response();
        }
    };
    Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
}
