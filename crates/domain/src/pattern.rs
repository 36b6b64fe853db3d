//! Patterns over the names of tools, by which a key says which of them its lists show.
//!
//! A pattern decides what is shown and never what is allowed: that is what grants are for. `*` stands for any run of
//! characters, as it does there.

use crate::grant::glob;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no pattern of tool names; one looks like `github__*` or `calculator`")]
pub struct PatternFault(String);

/// A glob over the names of tools, as the whole catalogue shows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// Twice as long as the name of a tool may be.
const PATTERN_BYTES_MAX: usize = 128;

impl Pattern {
    pub fn matches(&self, tool: &str) -> bool {
        glob(&self.0, tool)
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternFault;
    fn from_str(text: &str) -> Result<Self, PatternFault> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_./*".contains(c);
        let sized = (1..=PATTERN_BYTES_MAX).contains(&text.len());
        if sized && text.chars().all(fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PatternFault(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternFault;
    fn try_from(text: String) -> Result<Self, PatternFault> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_checked_when_it_enters() {
        for bad in ["", "a b", "tool:web", "!web", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        for good in ["*", "web_*", "github__create_issue", "a.b/c-d"] {
            assert_eq!(good.parse::<Pattern>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        for (pattern, tool, expected) in [
            ("web_*", "web_search", true),
            ("web_*", "my_web_search", false),
            ("calculator", "calculator", true),
            ("calculator", "calculator2", false),
            ("*__read_*", "fs__read_file", true),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(tool), expected, "{pattern} {tool}");
        }
    }
}
