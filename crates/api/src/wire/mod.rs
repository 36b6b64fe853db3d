//! What travels: the JSON of Forebay's own REST API, with the units and meanings that `openapi.json` shows.

mod contexts;
mod declared;
mod explain;
mod gpu;
mod health;
mod keys;
mod mcp;
mod money;
mod problem;
mod providers;
mod records;
mod route;
mod tasks;
mod upstreams;

pub use contexts::{
    ContentType, ContextCreate, ContextDeleted, ContextHealth, ContextInfo, ContextList, ContextModel,
    ContextModelList, ContextNode, ContextNodeAdd, ContextNodeAdded, ContextNodeDeleted, ContextNodeNew, ContextPrompt,
    ContextPrompted, ContextQuery, ContextUsage, Metadata, NodeRole, OnDisconnect, PromptQuery, TaskPriority,
    WaitQuery,
};
pub use declared::{DeclaredTool, DeclaredToolList, ToolRef};
pub use explain::{ExplainQuery, Explanation, LimitInfo, TraceExplanation};
pub use gpu::{
    GpuCreate, GpuCreated, GpuEndpoint, GpuExtend, GpuExtended, GpuExtension, GpuInstance, GpuInstanceList,
    GpuInstanceQuery, GpuLog, GpuLogQuery, GpuMarket, GpuOffer, GpuOfferList, GpuOfferQuery, GpuQuote, GpuReport,
};
pub use health::{ConfigStatus, Health, Status, StoreStatus, UpstreamState};
pub use keys::{KeyCreate, KeyCreated, KeyInfo, KeyList, KeyQuery};
pub use mcp::{McpListQuery, McpResourceRead};
pub use money::{
    BudgetInfo, BudgetList, BudgetQuery, BudgetRef, BudgetSet, CostCheck, CostQuery, SpendingCheck, SpendingInfo,
    SpendingQuery, SpendingWindow, TransactionInfo, TransactionList, TransactionQuery,
};
pub use problem::{PROBLEM_TYPE, Problem};
pub use providers::{
    ProviderCreate, ProviderDetail, ProviderInfo, ProviderItem, ProviderList, ProviderRef, ProviderTest,
    ProviderTested, ProviderTrouble,
};
pub use records::{AuditReport, EventInfo, EventList, EventQuery};
pub use route::{RouteBackend, RouteExplanation, RouteQuery, RouteStep};
pub use tasks::{TaskCreate, TaskError, TaskInfo, TaskList, TaskQuery, TaskShow};
pub use upstreams::{
    ApprovedDefinition, DefinitionRef, UpstreamApprove, UpstreamApproved, UpstreamDetail, UpstreamForgotten,
    UpstreamInfo, UpstreamList, UpstreamLogLine, UpstreamRef, UpstreamRegister, WaitingDefinition,
};
