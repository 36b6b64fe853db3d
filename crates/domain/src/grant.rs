//! Grants: allowances and denials by pattern, as keys carry them. What they decide stands in `access`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is neither a grant nor a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantFault {
    #[error("`{0}` is no role; the roles are viewer, user, operator and admin")]
    Role(String),
    #[error("`{0}` is no grant; one looks like `tool:web_*`, `model:qwen` or `!tool:destroy_*`")]
    Pattern(String),
}

/// An allowance (`tool:web_*`) or a denial (`!tool:destroy_*`) over actions; `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    effect: Effect,
    pattern: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

impl Grant {
    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether it has this effect on this action.
    pub(crate) fn is(&self, effect: Effect, action: &str) -> bool {
        self.effect == effect && glob(&self.pattern, action)
    }
}

impl std::str::FromStr for Grant {
    type Err = GrantFault;
    fn from_str(text: &str) -> Result<Self, GrantFault> {
        let (effect, pattern) = match text.strip_prefix('!') {
            Some(rest) => (Effect::Deny, rest),
            None => (Effect::Allow, text),
        };
        check_pattern(pattern, PatternKind::Glob)?;
        Ok(Self {
            effect,
            pattern: pattern.to_owned(),
        })
    }
}

impl TryFrom<String> for Grant {
    type Error = GrantFault;
    fn try_from(text: String) -> Result<Self, GrantFault> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> String {
        grant.to_string()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.effect {
            Effect::Allow => f.write_str(&self.pattern),
            Effect::Deny => write!(f, "!{}", self.pattern),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatternKind {
    Exact,
    Glob,
}

const PATTERN_BYTES_MAX: usize = 200;

pub(crate) fn check_pattern(pattern: &str, kind: PatternKind) -> Result<(), GrantFault> {
    let star = kind == PatternKind::Glob;
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c) || (star && c == '*');
    let shaped = pattern.contains(':') || (star && pattern == "*");
    let sized = !pattern.is_empty() && pattern.len() <= PATTERN_BYTES_MAX;
    if shaped && sized && pattern.chars().all(fine) {
        Ok(())
    } else {
        Err(GrantFault::Pattern(pattern.to_owned()))
    }
}

/// Matches `*` against any run of characters. Linear in practice: it only ever goes back to the last star.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            last_star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = last_star {
            last_star = Some((star, from + 1));
            p = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_checked_when_it_enters() {
        for bad in ["", "!", "tool", "tool:a b", "tool:ä", "!!tool:a"] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
        for good in ["*", "tool:*", "!tool:destroy_*", "gpu:*"] {
            assert_eq!(good.parse::<Grant>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn stars_match_any_run() {
        for (pattern, text, expected) in [
            ("*", "a:b", true),
            ("a:*", "a:", true),
            ("a:*c", "a:bcbc", true),
            ("a:*c", "a:bcb", false),
            ("*:x*y*", "q:xaayb", true),
            ("a:b", "a:bb", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
