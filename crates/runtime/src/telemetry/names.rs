//! The names of the spans and attributes that requests leave, each in one place: OpenTelemetry's, by its semantic
//! conventions for HTTP, MCP and generative AI.
//!
//! None of them is for a prompt, an argument, a result, a header or a body.

// Spans.

/// One request at the edge; its name on the wire is the method and the route.
pub const SPAN_REQUEST: &str = "http.server.request";
/// One tool at work.
pub const SPAN_TOOL: &str = "execute_tool";
/// One request to a model.
pub const SPAN_CHAT: &str = "chat";

// What tracing-opentelemetry reads from a span's fields.

pub const OTEL_NAME: &str = "otel.name";
pub const OTEL_KIND: &str = "otel.kind";

// HTTP.

pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
pub const HTTP_ROUTE: &str = "http.route";
pub const ERROR_TYPE: &str = "error.type";

// MCP.

pub const MCP_METHOD_NAME: &str = "mcp.method.name";

// Generative AI.

pub const GEN_AI_OPERATION_NAME: &str = "gen_ai.operation.name";
pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai.request.model";
pub const GEN_AI_TOOL_NAME: &str = "gen_ai.tool.name";
pub const GEN_AI_USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub const GEN_AI_USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
