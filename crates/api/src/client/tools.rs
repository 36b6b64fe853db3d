//! Tools, over plain JSON-RPC (`/api/v1/mcp`).

use super::{Client, ClientError, WORK_MAX, error::ForeignError};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A list longer than this many pages is a fault of whoever sends it.
const PAGES_MAX: usize = 1000;

/// A tool as the gateway lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolInfo {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub input_schema: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Value>,
}

/// What a tool gave back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResult {
    #[serde(default)]
    pub content: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// The tool ran and failed.
    #[serde(default)]
    pub is_error: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolPage {
    tools: Vec<ToolInfo>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: Option<T>,
    error: Option<ForeignError>,
}

impl Client {
    /// All tools that the caller may call.
    pub async fn tools(&self) -> Result<Vec<ToolInfo>, ClientError> {
        let mut tools = Vec::new();
        let mut params = json!({});
        for _ in 0..PAGES_MAX {
            let page: ToolPage = self.rpc("tools/list", &params).await?;
            tools.extend(page.tools);
            match page.next_cursor {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => break,
            }
        }
        Ok(tools)
    }

    pub async fn call_tool(&self, name: &str, arguments: &Value) -> Result<ToolResult, ClientError> {
        self.rpc("tools/call", &json!({ "name": name, "arguments": arguments }))
            .await
    }

    async fn rpc<T: DeserializeOwned>(&self, method: &str, params: &Value) -> Result<T, ClientError> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self.request(Method::POST, "/api/v1/mcp").timeout(WORK_MAX).json(&body);
        let answer: Answer<T> = self.json(request).await?;
        match (answer.result, answer.error.and_then(ForeignError::into_client_error)) {
            (Some(result), None) => Ok(result),
            (_, Some(error)) => Err(error),
            (None, None) => Err(ClientError::stranger(&self.base, StatusCode::OK)),
        }
    }
}
