//! The names of spans and attributes, each in one place. OpenTelemetry's where it has one (its semantic conventions for
//! HTTP, MCP and generative AI), `forebay.*` where it has none.
//!
//! None of them is for a prompt, an argument, a result, a header or a body.

// Spans.

/// One request at the edge; its name on the wire is the method and the route.
pub const SPAN_REQUEST: &str = "http.server.request";
/// One MCP method.
pub const SPAN_MCP: &str = "mcp.server.operation";
/// One tool at work.
pub const SPAN_TOOL: &str = "execute_tool";
/// One request to a model.
pub const SPAN_CHAT: &str = "chat";

// What tracing-opentelemetry reads from a span's fields.

pub const OTEL_NAME: &str = "otel.name";
pub const OTEL_KIND: &str = "otel.kind";
pub const OTEL_STATUS_CODE: &str = "otel.status_code";

// HTTP.

pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
pub const HTTP_ROUTE: &str = "http.route";
pub const SERVER_ADDRESS: &str = "server.address";
pub const SERVER_PORT: &str = "server.port";
pub const URL_SCHEME: &str = "url.scheme";
pub const ERROR_TYPE: &str = "error.type";

// MCP.

pub const MCP_METHOD_NAME: &str = "mcp.method.name";
pub const MCP_PROTOCOL_VERSION: &str = "mcp.protocol.version";
pub const MCP_SESSION_ID: &str = "mcp.session.id";
pub const MCP_RESOURCE_URI: &str = "mcp.resource.uri";
pub const JSONRPC_REQUEST_ID: &str = "jsonrpc.request.id";
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";

// Generative AI.

pub const GEN_AI_OPERATION_NAME: &str = "gen_ai.operation.name";
pub const GEN_AI_PROVIDER_NAME: &str = "gen_ai.provider.name";
pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai.request.model";
pub const GEN_AI_RESPONSE_MODEL: &str = "gen_ai.response.model";
pub const GEN_AI_RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub const GEN_AI_TOOL_NAME: &str = "gen_ai.tool.name";
pub const GEN_AI_USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub const GEN_AI_USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";

// Ours.

pub const TENANT: &str = "forebay.tenant";
pub const SUBJECT: &str = "forebay.subject";
pub const KEY_ID: &str = "forebay.key.id";
pub const SURFACE: &str = "forebay.surface";
pub const DECISION: &str = "forebay.decision";
pub const TASK_NAME: &str = "task.name";
pub const LOOP_NAME: &str = "loop.name";
