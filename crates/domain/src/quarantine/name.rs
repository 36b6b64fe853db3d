//! Names: of upstream servers, and of their tools among everybody else's.
//!
//! A tool is offered as `<server>__<tool>`. Clients and models take letters, digits, `_` and `-`, and at most 64 of them;
//! what does not fit is replaced or cut, always in the same way, so that a name stays the same over restarts and
//! replicas. A server's name holds no underscore, so the first `__` parts the two. Names may become equal that way; nothing
//! here tells them apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// Longest name of a server, in characters.
pub const SERVER_NAME_CHARS_MAX: usize = 32;

/// Longest name under which a tool is offered, in characters.
pub const EXPOSED_NAME_CHARS_MAX: usize = 64;

/// What stands between a server's name and its tool's.
pub const NAME_SEPARATOR: &str = "__";

/// Hex digits that tell apart names which were cut.
const DIGEST_HEX_DIGITS: usize = 8;

/// Why a name cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    #[error("a name must not be empty")]
    Empty,
    #[error(
        "a server's name has 1 to {SERVER_NAME_CHARS_MAX} small letters, digits and hyphens and begins with no hyphen; \
         `{0}` does not"
    )]
    Server(String),
}

/// The name of an upstream server, as the configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[a-z0-9][a-z0-9-]{0,31}$"))]
pub struct ServerName(Arc<str>);

impl ServerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ServerName {
    type Error = NameFault;
    fn try_from(text: &str) -> Result<Self, NameFault> {
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let shaped = text.bytes().all(fine) && !text.starts_with('-') && text.len() <= SERVER_NAME_CHARS_MAX;
        if shaped {
            Ok(Self(text.into()))
        } else {
            let start = text.chars().take(2 * SERVER_NAME_CHARS_MAX).collect();
            Err(NameFault::Server(start))
        }
    }
}

impl TryFrom<String> for ServerName {
    type Error = NameFault;
    fn try_from(text: String) -> Result<Self, NameFault> {
        Self::try_from(text.as_str())
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl std::str::FromStr for ServerName {
    type Err = NameFault;
    fn from_str(text: &str) -> Result<Self, NameFault> {
        Self::try_from(text)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name under which a tool or prompt of a server is offered.
///
/// A name of which no letter or digit is left (one in Chinese, say) becomes `tool` with a digest: a row of underscores
/// would collide with every other such name.
pub fn exposed_name(server: &ServerName, tool: &str) -> Result<String, NameFault> {
    if tool.is_empty() {
        return Err(NameFault::Empty);
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let plain: String = tool.chars().map(|c| if fine(c) { c } else { '_' }).collect();
    let original = format!("{server}{NAME_SEPARATOR}{tool}");
    if !plain.contains(|c: char| c.is_ascii_alphanumeric()) && !tool.chars().all(fine) {
        return Ok(format!("{server}{NAME_SEPARATOR}tool_{}", digest(&original)));
    }
    let name = format!("{server}{NAME_SEPARATOR}{plain}");
    if name.len() <= EXPOSED_NAME_CHARS_MAX {
        return Ok(name);
    }
    // All of it is ASCII by now, so bytes are characters.
    let kept = &name[..EXPOSED_NAME_CHARS_MAX - DIGEST_HEX_DIGITS - 1];
    Ok(format!("{kept}_{}", digest(&original)))
}

fn digest(original: &str) -> String {
    let mut hex = hex::encode(Sha256::digest(original.as_bytes()));
    hex.truncate(DIGEST_HEX_DIGITS);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(name: &str) -> ServerName {
        ServerName::try_from(name).unwrap()
    }

    fn check(name: &str, tool: &str) -> String {
        exposed_name(&server(name), tool).unwrap()
    }

    #[test]
    fn a_servers_name_is_checked_when_it_enters() {
        for good in ["a", "0", "github-2", &"a".repeat(32)] {
            assert_eq!(server(good).as_str(), good);
        }
        for bad in ["", "-a", "A", "a_b", "a__b", "a.b", "ä", &"a".repeat(33), "a\n"] {
            assert!(ServerName::try_from(bad).is_err(), "{bad}");
            assert!(serde_json::from_value::<ServerName>(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tool_is_offered_under_a_name_that_everybody_takes() {
        assert_eq!(check("docs", "search"), "docs__search");
        assert_eq!(check("docs", "admin.users/list all"), "docs__admin_users_list_all");
        assert_eq!(check("docs", "größe"), "docs__gr__e");
        assert_eq!(check("docs", "_"), "docs___");
        assert_eq!(check("docs", "検索"), "docs__tool_c24413ab");
        assert_ne!(check("docs", "検索"), check("docs", "削除"));
        assert_eq!(exposed_name(&server("docs"), ""), Err(NameFault::Empty));
    }

    #[test]
    fn a_long_name_is_cut_and_stays_its_own() {
        let fits = "x".repeat(58);
        assert_eq!(check("docs", &fits), format!("docs__{fits}"));
        let (one, other) = ("x".repeat(59), "x".repeat(60));
        assert_eq!(check("docs", &one).len(), 64);
        assert_ne!(check("docs", &one), check("docs", &other));
        assert_eq!(check("docs", &one), check("docs", &one));
        assert!(check("docs", &one).starts_with("docs__xxx"));
    }

    proptest! {
        #[test]
        fn every_name_fits_and_names_its_server(name in "[a-z0-9][a-z0-9-]{0,31}", tool in "\\PC{1,80}") {
            let exposed = check(&name, &tool);
            prop_assert!(exposed.len() <= EXPOSED_NAME_CHARS_MAX);
            prop_assert!(exposed.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            prop_assert_eq!(exposed.split_once(NAME_SEPARATOR).unwrap().0, name);
        }
    }
}
