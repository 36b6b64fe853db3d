//! Declared tools, as the API shows and takes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A declared tool. Its settings name secrets by reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeclaredTool {
    pub name: String,
    /// `config` or `api`.
    pub origin: String,
    /// Whether it is offered now.
    pub offered: bool,
    #[schema(value_type = Object)]
    pub config: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeclaredToolList {
    pub tools: Vec<DeclaredTool>,
}

/// The name of a declared tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolRef {
    pub name: String,
}
