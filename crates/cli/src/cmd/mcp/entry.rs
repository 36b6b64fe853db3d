//! What one client's file says about this gateway, built and recognised again.
//!
//! An entry is an ordered list of members, since people read these files. Members that we do not write are none of our
//! business: they are kept where they stand.

use super::client::{McpClient, Transport};
use forebay_domain::key::ApiKey;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use url::Url;

/// The header that carries the key, and what stands before it.
pub(super) const AUTHORIZATION: &str = "Authorization";
pub(super) const BEARER: &str = "Bearer ";
/// What `forebay stdio` reads the key from.
pub(super) const KEY_VARIABLE: &str = "FOREBAY_KEY";
/// What stands in a preview where a key will be that is not made yet.
pub(super) const KEY_TO_COME: &str = "fb_(a new key)";

/// The members that an entry of ours may have, in the order in which they are written.
pub(super) const OWNED: [&str; 6] = ["type", "url", "command", "args", "headers", "env"];
/// The names inside `headers` and `env` that are ours.
pub(super) const OWNED_INSIDE: [&str; 3] = [AUTHORIZATION, KEY_VARIABLE, "FOREBAY_URL"];

/// The value of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
    Map(Vec<(&'static str, String)>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::List(items) => items.serialize(serializer),
            Self::Map(pairs) => serializer.collect_map(pairs.iter().map(|(name, value)| (name, value))),
        }
    }
}

/// One server in a client's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry(pub(super) Vec<(&'static str, Value)>);

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// How the client gets to the gateway.
#[derive(Debug, Clone)]
pub(super) enum Connection {
    Http {
        /// The MCP endpoint itself.
        url: Url,
    },
    Stdio {
        /// This program, by its absolute path: a desktop program has a `PATH` of its own.
        program: PathBuf,
        /// What `--url` takes: the endpoint without `/mcp`.
        base: Url,
        /// The data directory, where it is not the one that `forebay stdio` finds by itself.
        data: Option<PathBuf>,
    },
}

impl Connection {
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Http { .. } => Transport::Http,
            Self::Stdio { .. } => Transport::Stdio,
        }
    }

    /// What the program is started with; nothing where none is started.
    pub(super) fn arguments(&self) -> Vec<String> {
        match self {
            Self::Http { .. } => Vec::new(),
            Self::Stdio { base, data, .. } => {
                let base = base.as_str().trim_end_matches('/').to_owned();
                let mut arguments = vec!["stdio".to_owned(), "--url".to_owned(), base];
                if let Some(data) = data {
                    arguments.extend(["--data".to_owned(), data.display().to_string()]);
                }
                arguments
            }
        }
    }
}

impl Entry {
    /// `credential` is a key, a reference to one, or nothing where `forebay stdio` finds the key by itself.
    pub(super) fn new(client: McpClient, connection: &Connection, credential: Option<&str>) -> Self {
        let mut members = Vec::new();
        if client.names_transport() {
            members.push(("type", Value::Text(connection.transport().as_str().to_owned())));
        }
        match connection {
            Connection::Http { url } => {
                members.push(("url", Value::Text(url.to_string())));
                if let Some(credential) = credential {
                    let header = (AUTHORIZATION, format!("{BEARER}{credential}"));
                    members.push(("headers", Value::Map(vec![header])));
                }
            }
            Connection::Stdio { program, .. } => {
                members.push(("command", Value::Text(program.display().to_string())));
                members.push(("args", Value::List(connection.arguments())));
                if let Some(credential) = credential {
                    let variable = (KEY_VARIABLE, credential.to_owned());
                    members.push(("env", Value::Map(vec![variable])));
                }
            }
        }
        Self(members)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(member, _)| *member == name)
            .map(|(_, value)| value)
    }

    pub(super) fn transport(&self) -> Transport {
        if self.get("url").is_some() {
            Transport::Http
        } else {
            Transport::Stdio
        }
    }
}

/// Whether an entry that stands in a file leads to a Forebay gateway: it starts this program, carries or asks for one
/// of our keys, or leads to the gateway at hand.
pub(super) fn is_ours(entry: &Json, gateway: Option<&Url>) -> bool {
    let starts_us = || {
        let program = entry["command"].as_str().map(Path::new).and_then(Path::file_name);
        program.is_some_and(|name| name == "forebay") && strings(&entry["args"]).any(|argument| argument == "stdio")
    };
    let our_key = || {
        credential(entry).is_some_and(|text| {
            let lower = text.to_ascii_lowercase();
            ApiKey::parse(text).is_some() || lower.contains("forebay")
        })
    };
    let leads_here = || match (leads_to(entry), gateway) {
        (Some(url), Some(gateway)) => entry.get("url").is_some() && same_origin(&url, gateway),
        (Some(_), None) | (None, _) => false,
    };
    starts_us() || our_key() || leads_here()
}

/// The key, or the reference to one, that an entry carries.
pub(super) fn credential(entry: &Json) -> Option<&str> {
    let headers = entry["headers"].as_object();
    let header = headers.and_then(|headers| {
        let named = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION));
        named.and_then(|(_, value)| value.as_str())
    });
    header
        .and_then(|value| value.strip_prefix(BEARER))
        .or_else(|| entry["env"][KEY_VARIABLE].as_str())
}

/// The key that stands in an entry itself.
pub(super) fn key(entry: &Json) -> Option<ApiKey> {
    credential(entry).and_then(ApiKey::parse)
}

/// The gateway that an entry leads to.
pub(super) fn leads_to(entry: &Json) -> Option<Url> {
    let named = entry["url"].as_str().or_else(|| {
        let flag = strings(&entry["args"]).position(|argument| argument == "--url")?;
        strings(&entry["args"]).nth(flag + 1)
    });
    named
        .or_else(|| entry["env"]["FOREBAY_URL"].as_str())
        .and_then(|text| Url::parse(text).ok())
}

/// A key may be shown to whoever it came from, and to nobody else.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

fn strings(value: &Json) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Json::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "fb_0123456789abcdef_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn built(client: McpClient, transport: Transport, credential: Option<&str>) -> String {
        let connection = match transport {
            Transport::Http => Connection::Http {
                url: Url::parse("http://127.0.0.1:8080/mcp").unwrap(),
            },
            Transport::Stdio => Connection::Stdio {
                program: "/opt/forebay".into(),
                base: Url::parse("http://127.0.0.1:8080").unwrap(),
                data: None,
            },
        };
        serde_json::to_string(&Entry::new(client, &connection, credential)).unwrap()
    }

    #[test]
    fn each_client_gets_its_own_form() {
        for (client, expected) in [
            (
                McpClient::ClaudeCode,
                r#"{"type":"http","url":"http://127.0.0.1:8080/mcp","headers":{"Authorization":"Bearer K"}}"#,
            ),
            (
                McpClient::Cursor,
                r#"{"url":"http://127.0.0.1:8080/mcp","headers":{"Authorization":"Bearer K"}}"#,
            ),
            (
                McpClient::VsCode,
                r#"{"type":"http","url":"http://127.0.0.1:8080/mcp","headers":{"Authorization":"Bearer K"}}"#,
            ),
            (
                McpClient::Crush,
                r#"{"type":"http","url":"http://127.0.0.1:8080/mcp","headers":{"Authorization":"Bearer K"}}"#,
            ),
        ] {
            assert_eq!(built(client, Transport::Http, Some("K")), expected, "{client:?}");
        }
        assert_eq!(
            built(McpClient::ClaudeDesktop, Transport::Stdio, None),
            r#"{"command":"/opt/forebay","args":["stdio","--url","http://127.0.0.1:8080"]}"#
        );
        assert_eq!(
            built(McpClient::Crush, Transport::Stdio, Some("$K")),
            r#"{"type":"stdio","command":"/opt/forebay","args":["stdio","--url","http://127.0.0.1:8080"],"env":{"FOREBAY_KEY":"$K"}}"#
        );
    }

    #[test]
    fn only_what_leads_to_a_gateway_is_ours() {
        let here = Url::parse("http://127.0.0.1:8080").unwrap();
        for (entry, ours) in [
            (json!({"command": "/usr/bin/forebay", "args": ["stdio"]}), true),
            (json!({"command": "forebay", "args": ["serve"]}), false),
            (json!({"command": "npx", "args": ["stdio"]}), false),
            (
                json!({"url": "http://elsewhere/mcp", "headers": {"authorization": format!("Bearer {KEY}")}}),
                true,
            ),
            (
                json!({"url": "http://x/mcp", "headers": {"Authorization": "Bearer ${env:FOREBAY_KEY}"}}),
                true,
            ),
            (
                json!({"url": "http://x/mcp", "headers": {"Authorization": "Bearer sk-1"}}),
                false,
            ),
            (json!({"url": "http://127.0.0.1:8080/mcp"}), true),
            (json!({"url": "http://127.0.0.1:8081/mcp"}), false),
            (json!("text"), false),
            (json!(null), false),
        ] {
            assert_eq!(is_ours(&entry, Some(&here)), ours, "{entry}");
        }
    }

    #[test]
    fn a_key_and_its_gateway_are_found_again() {
        let entry = json!({"args": ["stdio", "--url", "http://a:1/servers/x"], "env": {"FOREBAY_KEY": KEY}});
        assert_eq!(key(&entry).unwrap().id().as_str(), "0123456789abcdef");
        assert_eq!(leads_to(&entry).unwrap().as_str(), "http://a:1/servers/x");
        assert!(key(&json!({"env": {"FOREBAY_KEY": "${FOREBAY_KEY}"}})).is_none());
    }
}
