//! Typed identifiers: a `TenantId` can never be passed where a `KeyId` is meant.
//!
//! All of them are short printable names. They are checked once, when they enter; a value that exists is valid.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest identifier accepted from outside, in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    #[error("an identifier must not be empty")]
    Empty,
    #[error("an identifier has at most {ID_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("an identifier is made of letters, digits and `-_.:@/|+`, not {0:?}")]
    Character(char),
}

fn check(text: &str) -> Result<(), IdFault> {
    if text.is_empty() {
        return Err(IdFault::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdFault::TooLong(text.len()));
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "-_.:@/|+".contains(*c)))
    {
        Some(c) => Err(IdFault::Character(c)),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdFault;
            fn try_from(text: &str) -> Result<Self, IdFault> {
                check(text).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdFault;
            fn try_from(text: String) -> Result<Self, IdFault> {
                Self::try_from(text.as_str())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdFault;
            fn from_str(text: &str) -> Result<Self, IdFault> {
                Self::try_from(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Who is billed and isolated. No tenant ever reads another's data.
    TenantId
);
id!(
    /// A part of a tenant ("team" in some clients' words).
    ProjectId
);
id!(
    /// Who acts: the name on an API key, or the `sub` of a token.
    SubjectId
);
id!(
    /// The public half of an API key (`fb_<id>_<secret>`).
    KeyId
);
id!(
    /// One MCP session of one principal.
    SessionId
);
id!(
    /// An amount that is set aside in the ledger.
    HoldId
);
id!(
    /// Durable work that somebody submitted.
    TaskId
);
id!(
    /// What kind of work a task is: `mcp.add_prompt`, `tools/call`. Whoever runs tasks says which types it runs.
    TaskType
);
id!(
    /// One process that runs tasks, from its start to its end.
    WorkerId
);
id!(
    /// One process that writes audit events; its events form one hash chain.
    ChainId
);

/// A W3C trace id: 16 bytes, never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// `None` for the all-zero id, which W3C Trace Context declares invalid.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Random, but for the time in front: ids of one time stand together in an index, so that adding them touches few of
    /// its pages. W3C Trace Context asks for 7 random bytes at the end; here are 10.
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        let milliseconds = at.as_millisecond().max(1).to_be_bytes();
        bytes[..6].copy_from_slice(&milliseconds[2..]);
        bytes[6..].copy_from_slice(&random);
        Self(bytes)
    }

    /// Reads 32 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Self::from_bytes(bytes)
    }

    /// The trace id of a `traceparent` header, version 00 or later.
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (parent, flags) = (parts.next()?, parts.next()?);
        let well_formed = version.len() == 2 && version != "ff" && parent.len() == 16 && flags.len() == 2;
        if well_formed { Self::parse(trace) } else { None }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_checked_when_it_enters() {
        assert_eq!(TenantId::try_from("acme").unwrap().as_str(), "acme");
        assert_eq!(TenantId::try_from(""), Err(IdFault::Empty));
        assert_eq!(TenantId::try_from("a b"), Err(IdFault::Character(' ')));
        assert_eq!(TenantId::try_from("x".repeat(129)), Err(IdFault::TooLong(129)));
        assert!(serde_json::from_str::<TenantId>(r#""a\nb""#).is_err());
    }

    #[test]
    fn a_trace_id_comes_from_a_traceparent() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let id = TraceId::from_traceparent(header).unwrap();
        assert_eq!(id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for bad in [
            "",
            "00-0-0-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceId::from_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_of_later_times_come_later() {
        let at = |ms, random| TraceId::new(Timestamp::from_millisecond(ms).unwrap(), [random; 10]).to_string();
        assert_eq!(at(0x0102_0304_0506, 0xab), "010203040506abababababababababab");
        assert!(at(1_795_280_000_000, 0xff) < at(1_795_280_000_001, 0));
        assert_eq!(
            TraceId::parse(&at(0, 0)).unwrap().to_string(),
            at(0, 0),
            "never all zero"
        );
    }
}
