//! What can go wrong, said once.
//!
//! A [`Failure`] is free of any transport. Each edge (problem+json, OpenAI error, JSON-RPC error, exit code) has one
//! table from [`ErrorKind`] to its own dialect; every [`Code`] has a page in `docs/errors/`.

use serde_json::Value;
use std::time::Duration;

/// The few kinds of failure that every edge encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    Conflict,
    OverBudget,
    RateLimited,
    UpstreamFailed,
    UpstreamTimedOut,
    Unavailable,
    Bug,
}

impl ErrorKind {
    pub const ALL: [Self; 11] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::OverBudget,
        Self::RateLimited,
        Self::UpstreamFailed,
        Self::UpstreamTimedOut,
        Self::Unavailable,
        Self::Bug,
    ];
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal : $kind:ident,)*) => {
        /// A stable name of one thing that can go wrong; the page `docs/errors/<code>.md` explains it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub fn kind(self) -> ErrorKind {
                match self { $(Self::$variant => ErrorKind::$kind,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    MalformedJson = "malformed_json": Invalid,
    /// An object names the same key twice.
    DuplicateKey = "duplicate_key": Invalid,
    /// Nested deeper than anything real.
    JsonTooDeep = "json_too_deep": Invalid,
    BodyTooLarge = "body_too_large": Invalid,
    HeadersTooLarge = "headers_too_large": Invalid,
    UnsupportedMediaType = "unsupported_media_type": Invalid,
    MethodNotAllowed = "method_not_allowed": Invalid,
    /// Well-formed JSON that is not a request of this protocol.
    InvalidRequest = "invalid_request": Invalid,
    /// A tool's arguments do not fit its input schema.
    InvalidArguments = "invalid_arguments": Invalid,
    /// A header and the body say different things.
    HeaderMismatch = "header_mismatch": Invalid,
    UnsupportedProtocolVersion = "unsupported_protocol_version": Invalid,
    BatchNotSupported = "batch_not_supported": Invalid,
    /// The configuration file, or a flag, cannot be used.
    InvalidConfig = "invalid_config": Invalid,
    MissingCredentials = "missing_credentials": Unauthenticated,
    InvalidKey = "invalid_key": Unauthenticated,
    RevokedKey = "revoked_key": Unauthenticated,
    ExpiredKey = "expired_key": Unauthenticated,
    InvalidToken = "invalid_token": Unauthenticated,
    ExpiredToken = "expired_token": Unauthenticated,
    /// The role does not allow it.
    Forbidden = "forbidden": Forbidden,
    /// The role would allow it, but the key's or token's grants do not.
    InsufficientScope = "insufficient_scope": Forbidden,
    OriginNotAllowed = "origin_not_allowed": Forbidden,
    HostNotAllowed = "host_not_allowed": Forbidden,
    /// A turn that has read somebody else's data may not do this.
    TaintedTurn = "tainted_turn": Forbidden,
    /// The outbound guard refused an address.
    AddressNotAllowed = "address_not_allowed": Forbidden,
    RouteNotFound = "route_not_found": NotFound,
    UnknownMethod = "unknown_method": NotFound,
    UnknownTool = "unknown_tool": NotFound,
    UnknownModel = "unknown_model": NotFound,
    UnknownResource = "unknown_resource": NotFound,
    UnknownSession = "unknown_session": NotFound,
    UnknownKey = "unknown_key": NotFound,
    UnknownTrace = "unknown_trace": NotFound,
    UnknownProvider = "unknown_provider": NotFound,
    UnknownResponse = "unknown_response": NotFound,
    UnknownInstance = "unknown_instance": NotFound,
    UnknownOffer = "unknown_offer": NotFound,
    /// A quote that nobody gave, or that is no longer good.
    UnknownQuote = "unknown_quote": NotFound,
    UnknownBudget = "unknown_budget": NotFound,
    UnknownTask = "unknown_task": NotFound,
    /// No worker knows how to do such a task.
    UnknownTaskType = "unknown_task_type": Invalid,
    UnknownContext = "unknown_context": NotFound,
    /// A context has no node of that id, or has none any more.
    UnknownNode = "unknown_node": NotFound,
    /// The configuration says that nobody works with contexts.
    ContextsDisabled = "contexts_disabled": Conflict,
    /// A tenant has as many contexts as it may have.
    ContextLimit = "context_limit": Conflict,
    /// A context has as much in it as there may be.
    ContextFull = "context_full": Conflict,
    /// What a model would have to read is past the budget, whatever of it is left out.
    PromptTooLong = "prompt_too_long": Invalid,
    Conflict = "conflict": Conflict,
    /// The first request of this name is still under way.
    IdempotencyKeyInUse = "idempotency_key_in_use": Conflict,
    /// The name of a request was used for another one before.
    IdempotencyKeyReused = "idempotency_key_reused": Invalid,
    SpendingLimitExceeded = "spending_limit_exceeded": OverBudget,
    /// What costs money for as long as it runs needs a limit first.
    NoSpendingLimit = "no_spending_limit": OverBudget,
    /// A budget counts, and nobody can say what this would cost at most.
    UnpricedModel = "unpriced_model": OverBudget,
    RateLimited = "rate_limited": RateLimited,
    /// A tenant has as many tasks that have not ended as it may have.
    QueueFull = "queue_full": RateLimited,
    /// A backend answered with an error of its own, or with nonsense.
    UpstreamFailed = "upstream_failed": UpstreamFailed,
    /// A backend's answer broke off, or went past its limit.
    UpstreamTruncated = "upstream_truncated": UpstreamFailed,
    /// A provider of context failed, and the request was not to go on without it.
    ContextFailed = "context_failed": UpstreamFailed,
    UpstreamTimedOut = "upstream_timed_out": UpstreamTimedOut,
    ToolTimedOut = "tool_timed_out": UpstreamTimedOut,
    /// A run of a task took longer than it may.
    TaskTimedOut = "task_timed_out": UpstreamTimedOut,
    StoreUnavailable = "store_unavailable": Unavailable,
    /// The disk of the database is full: it can be read, and nothing can be written.
    StoreFull = "store_full": Unavailable,
    /// The keys that verify tokens cannot be fetched.
    TokenKeysUnavailable = "token_keys_unavailable": Unavailable,
    Overloaded = "overloaded": Unavailable,
    /// The command line found no gateway where it looked.
    GatewayUnreachable = "gateway_unreachable": Unavailable,
    /// A tool's result is larger than the bound on results.
    ResultTooLarge = "result_too_large": Invalid,
    /// The parameters of an MCP method are missing or have the wrong shape.
    InvalidParams = "invalid_params": Invalid,
    /// The client accepts no form in which the answer could be sent.
    NotAcceptable = "not_acceptable": Invalid,
    /// A tool was asked for something that its configuration or its bounds do not allow.
    ToolRefused = "tool_refused": Forbidden,
    /// The caller took its request back, or its session or key ended.
    Cancelled = "cancelled": Conflict,
    UnknownPrompt = "unknown_prompt": NotFound,
    /// `/servers/{name}/mcp` names no server.
    UnknownServer = "unknown_server": NotFound,
    UnknownUpstream = "unknown_upstream": NotFound,
    /// The client has not declared a capability without which this cannot be done.
    MissingClientCapability = "missing_client_capability": Invalid,
    /// The client was to be asked something, and gave no answer.
    ClientSilent = "client_silent": Conflict,
    /// The `requestState` of a multi-round-trip request is none of ours, or is too old.
    InvalidRequestState = "invalid_request_state": Invalid,
    /// The tool's definition has changed, or was never approved.
    ToolHeld = "tool_held": Conflict,
    /// The gateway that ran a call is gone, and nobody will answer it.
    CallLost = "call_lost": Unavailable,
    InternalError = "internal_error": Bug,
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One refusal or failure, as every edge gets it: what was wrong, and what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub code: Code,
    /// What was wrong and what was expected, in one sentence, safe to show to the caller.
    pub message: String,
    /// What the caller can do next.
    pub hint: Option<String>,
    /// Machine-readable particulars, safe to show to the caller.
    pub details: Option<Value>,
    pub retry_after: Option<Duration>,
    /// What lies beneath; logged once by the edge, never shown.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            details: None,
            retry_after: None,
            source: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.code.kind()
    }

    /// How long to wait, in whole seconds: rounded up, so that whoever waits that long has waited long enough, and never
    /// 0, which says "at once".
    pub fn wait_seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| seconds_up(after).max(1))
    }

    /// The sentence for people: what was wrong, then what to do.
    pub fn sentence(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} {hint}", ended(&self.message)),
            None => self.message.clone(),
        }
    }

    /// The whole chain of causes, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

fn ended(sentence: &str) -> String {
    let closed = sentence.ends_with(['.', '!', '?']);
    if closed {
        sentence.to_owned()
    } else {
        format!("{sentence}.")
    }
}

/// Whole seconds, rounded up.
pub fn seconds_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_distinct_and_snake_case() {
        let texts: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for text in texts {
            assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{text}");
        }
    }

    #[test]
    fn every_kind_has_a_code() {
        for kind in ErrorKind::ALL {
            assert!(Code::ALL.iter().any(|code| code.kind() == kind), "{kind:?}");
        }
    }

    #[test]
    fn the_chain_names_every_cause_and_the_sentence_none() {
        let failure = Failure::new(Code::UpstreamFailed, "backend `a` did not answer")
            .hint("Try again.")
            .caused_by(std::io::Error::other("connection reset"));
        assert_eq!(failure.chain(), "backend `a` did not answer: connection reset");
        assert_eq!(failure.sentence(), "backend `a` did not answer. Try again.");
    }
}
