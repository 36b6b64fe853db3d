//! The Rust SDK's own server as the upstream, in both eras, over HTTP and over a pipe.

use crate::world::{Wish, listening, raw, said, soon};
use axum::Router;
use forebay_mcp::client::{Connection, Mode};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ProgressNotificationParam, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

#[derive(Clone)]
struct Echo;

impl ServerHandler for Echo {
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
        Ok(ListToolsResult::with_all_items(vec![tool()]))
    }

    fn get_tool(&self, _: &str) -> Option<Tool> {
        Some(tool())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Some(token) = context.meta.get_progress_token() {
            let step = ProgressNotificationParam::new(token, 0.5);
            context.peer.notify_progress(step).await.unwrap();
        }
        let text = serde_json::to_string(&request.arguments).unwrap();
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

fn tool() -> Tool {
    let schema = json!({"type": "object"});
    Tool::new("echo", "Says it again.", Arc::new(schema.as_object().unwrap().clone()))
}

async fn serve(json_response: bool) -> String {
    let mut config = StreamableHttpServerConfig::default();
    config.json_response = json_response;
    let service = StreamableHttpService::new(|| Ok(Echo), Arc::new(LocalSessionManager::default()), config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().fallback_service(service))
            .await
            .unwrap();
    });
    url
}

async fn check(connection: &Connection, version: &str, tells: bool) {
    assert_eq!(connection.version().as_str(), version);
    let listed = soon(connection.request("tools/list", None, crate::world::hooks()))
        .await
        .unwrap();
    let listed: Value = serde_json::from_str(listed.get()).unwrap();
    assert_eq!(listed["tools"][0]["name"], "echo");
    let (hooks, mut emissions) = listening();
    let params = raw(&json!({"name": "echo", "arguments": {"a": 1}, "_meta": {"progressToken": "x"}}));
    let result = soon(connection.request("tools/call", Some(&params), hooks))
        .await
        .unwrap();
    let result: Value = serde_json::from_str(result.get()).unwrap();
    assert_eq!(result["content"][0]["text"], r#"{"a":1}"#);
    if tells {
        assert!(said(&emissions.recv().await.unwrap()).contains("0.5"));
    }
    connection.close().await;
}

#[tokio::test]
async fn over_http_in_both_eras_and_both_forms() {
    for json_response in [false, true] {
        let url = serve(json_response).await;
        for (mode, version) in [
            (Mode::Auto, "2026-07-28"),
            (Mode::Modern, "2026-07-28"),
            (Mode::Legacy, "2025-11-25"),
        ] {
            let (connection, _heard) = Wish::mode(mode).over_http(&url).await.unwrap();
            // An answer in plain JSON has no place for what happens on the way.
            check(&connection, version, !json_response).await;
        }
    }
}

#[tokio::test]
async fn over_a_pipe_in_both_eras() {
    for (mode, version) in [(Mode::Auto, "2026-07-28"), (Mode::Legacy, "2025-11-25")] {
        let (opened, served) = Wish::mode(mode)
            .over_pipe(|peer| async move {
                let serving = async move { Echo.serve(peer.into_ends()).await.unwrap().waiting().await };
                [tokio::spawn(serving)]
            })
            .await;
        check(&opened.unwrap().0, version, true).await;
        let [serving] = served;
        soon(serving).await.unwrap().unwrap();
    }
}
