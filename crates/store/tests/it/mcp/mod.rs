//! What the MCP side keeps.

mod pins;
mod sessions;
mod signing;
mod streams;
mod upstreams;

use forebay_domain::id::{KeyId, SessionId, SubjectId, TenantId};
use forebay_store::mcp::sessions::{McpSession, SessionOwner};
use serde_json::value::RawValue;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn session_id(text: &str) -> SessionId {
    SessionId::try_from(text).unwrap()
}

/// A session of a key, opened at 1,000 and good until 5,000.
fn session(key: &str) -> McpSession {
    McpSession {
        owner: SessionOwner {
            tenant: TenantId::try_from("acme").unwrap(),
            subject: SubjectId::try_from("ann").unwrap(),
            key: Some(KeyId::try_from(key).unwrap()),
        },
        version: "2025-11-25".to_owned(),
        scope: "docs".to_owned(),
        caps: raw(r#"{ "sampling":{}, "x":1.0 }"#),
        client_info: Some(raw(r#"{"name":"c"}"#)),
        log_level: None,
        subscriptions: ["file:///a".to_owned()].into(),
        created_at: crate::at(1_000),
        touched_at: crate::at(1_000),
        expires_at: crate::at(5_000),
    }
}
