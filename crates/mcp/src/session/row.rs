//! A session as the store keeps it, and back.
//!
//! What the store holds is not believed: a version that has no sessions, or a level that is none, makes no session.

use super::{Hello, LEVEL_DEFAULT, Owner, Session, shelf::expiry};
use crate::{
    call::{ClientCaps, LogLevel},
    era::Version,
    index::Scope,
};
use forebay_store::mcp::sessions::{McpSession, SessionOwner};
use jiff::Timestamp;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

const WHOLE: &str = "/mcp";
const SERVER: &str = "/servers/";

/// What is known of a session when it comes back.
pub(super) struct Recalled {
    pub(super) owner: Owner,
    pub(super) hello: Hello,
    pub(super) level: LogLevel,
    pub(super) subscriptions: BTreeSet<String>,
}

pub(super) fn write(session: &Session, now: Timestamp, idle: Duration) -> McpSession {
    McpSession {
        owner: SessionOwner {
            tenant: session.owner.tenant.clone(),
            subject: session.owner.subject.clone(),
            key: session.owner.key.clone(),
        },
        version: session.version.as_str().to_owned(),
        scope: match &session.scope {
            Scope::Whole => WHOLE.to_owned(),
            Scope::Server(name) => format!("{SERVER}{name}"),
        },
        caps: session.caps.raw().to_owned(),
        client_info: None,
        log_level: Some(session.level().as_str().to_owned()),
        subscriptions: session.subscribed(),
        created_at: now,
        touched_at: now,
        expires_at: expiry(now, idle),
    }
}

pub(super) fn read(row: McpSession) -> Option<Recalled> {
    let version = Version::parse(&row.version).filter(|version| !version.is_modern())?;
    let scope = match row.scope.strip_prefix(SERVER) {
        Some(name) => Scope::Server(name.into()),
        None if row.scope == WHOLE => Scope::Whole,
        None => return None,
    };
    Some(Recalled {
        owner: Owner {
            tenant: row.owner.tenant,
            subject: row.owner.subject,
            key: row.owner.key,
        },
        hello: Hello {
            version,
            scope,
            caps: Arc::new(ClientCaps::new(&row.caps)),
            outlet: super::Outlet::Streams,
        },
        level: match row.log_level {
            Some(level) => level.parse().ok()?,
            None => LEVEL_DEFAULT,
        },
        subscriptions: row.subscriptions,
    })
}
