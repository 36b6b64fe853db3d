//! Whether a definition is offered or held.
//!
//! An approved fingerprint is offered, whatever the policy says now and whatever is flagged: somebody, or the policy of
//! its time, has decided about exactly this text. So a definition that goes back to what was approved is offered again.
//! Everything else is judged by the policy as it is today.
//!
//! There is no rule about definitions that disappear, on purpose. What was approved stays known when its upstream no
//! longer lists it; if it were forgotten, a server could take a tool away for a moment and bring it back changed as if
//! it had never been seen.

use super::{fingerprint::Fingerprint, flag::Flags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the definitions of an upstream are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "QuarantinePolicy")]
pub struct Policy {
    /// What becomes of a definition that nobody has approved before: `allow`, or `hold` until it is approved.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub first_seen: Reaction,
    /// What becomes of a definition that differs from the approved one: `hold` until it is approved, or `allow`.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub changed: Reaction,
    /// What becomes of a new or changed definition that stands out: `hold_hidden` holds what showed people something
    /// else than the model, `hold` whatever is flagged, `allow` nothing.
    #[schemars(extend("x-forebay-reload" = "live"))]
    pub flagged: OnFlags,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first_seen: Reaction::Allow,
            changed: Reaction::Hold,
            flagged: OnFlags::HoldHidden,
        }
    }
}

/// What becomes of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// It is offered at once, and counts as approved from then on.
    Allow,
    /// It is held until somebody approves it.
    Hold,
}

/// Which flags hold a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFlags {
    /// None.
    Allow,
    /// Those that show people something else than the model: hidden characters, bidirectional controls, and
    /// control characters with terminal sequences.
    HoldHidden,
    /// Any.
    Hold,
}

impl OnFlags {
    fn holds(self, flags: &Flags) -> bool {
        match self {
            Self::Allow => false,
            Self::HoldHidden => flags.iter().any(|flag| flag.conceals()),
            Self::Hold => !flags.is_empty(),
        }
    }
}

/// What is known about a definition of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// The fingerprint that is offered; `None` where none was ever approved.
    pub approved: Option<Fingerprint>,
}

/// What becomes of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Offered,
    Held(Why),
}

/// Why a definition is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Nobody has approved any definition of this name.
    FirstSeen,
    /// It differs from the approved one.
    Changed,
    /// It stands out in these ways.
    Flagged(Flags),
    /// So many definitions of its server are known that no more are taken note of.
    TooMany,
}

impl Why {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::FirstSeen => "first_seen",
            Self::Changed => "changed",
            Self::Flagged(_) => "flagged",
            Self::TooMany => "too_many",
        }
    }
}

/// Judges a definition that an upstream offers now. A change comes before a flag among the reasons, because it is the
/// one that needs the difference to be looked at; flags are known besides.
pub fn decide(policy: Policy, known: Option<&Pinned>, seen: Fingerprint, flags: &Flags) -> Verdict {
    let approved = known.and_then(|known| known.approved);
    let (reaction, why) = match approved {
        Some(approved) if approved == seen => return Verdict::Offered,
        Some(_) => (policy.changed, Why::Changed),
        None => (policy.first_seen, Why::FirstSeen),
    };
    let flagged = policy.flagged.holds(flags);
    match (reaction, &why) {
        (Reaction::Hold, Why::Changed) => Verdict::Held(why),
        (Reaction::Hold | Reaction::Allow, _) if flagged => Verdict::Held(Why::Flagged(flags.clone())),
        (Reaction::Hold, _) => Verdict::Held(why),
        (Reaction::Allow, _) => Verdict::Offered,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::flag::Flag, *};

    fn fingerprint(digit: char) -> Fingerprint {
        Fingerprint::parse(&digit.to_string().repeat(64)).unwrap()
    }

    const HIDDEN: &[Flag] = &[Flag::HiddenCharacters];
    const TALKS: &[Flag] = &[Flag::InstructionLike];
    const CONTROLS: &[Flag] = &[Flag::ControlCharacters];

    /// `known` is the approved fingerprint; `?` for one that was seen and never approved, `-` for none.
    fn check(policy: &str, known: char, seen: char, flags: &[Flag]) -> String {
        let policy: Policy = serde_json::from_str(policy).unwrap();
        let known = match known {
            '-' => None,
            '?' => Some(Pinned { approved: None }),
            digit => Some(Pinned {
                approved: Some(fingerprint(digit)),
            }),
        };
        let flags = flags.iter().copied().collect();
        match decide(policy, known.as_ref(), fingerprint(seen), &flags) {
            Verdict::Offered => "offered".to_owned(),
            Verdict::Held(why) => why.as_str().to_owned(),
        }
    }

    #[test]
    fn each_policy_judges_as_it_says() {
        let strict = r#"{"first_seen":"hold","flagged":"hold"}"#;
        let loose = r#"{"changed":"allow","flagged":"allow"}"#;
        for (policy, known, seen, flags, verdict) in [
            ("{}", '-', 'a', &[][..], "offered"),
            ("{}", '?', 'a', &[], "offered"),
            ("{}", 'a', 'a', &[], "offered"),
            ("{}", 'a', 'b', &[], "changed"),
            ("{}", '-', 'a', TALKS, "offered"),
            ("{}", '-', 'a', HIDDEN, "flagged"),
            ("{}", '?', 'a', HIDDEN, "flagged"),
            ("{}", '-', 'a', CONTROLS, "flagged"),
            ("{}", 'a', 'b', HIDDEN, "changed"),
            ("{}", 'a', 'a', HIDDEN, "offered"),
            (strict, '-', 'a', &[], "first_seen"),
            (strict, '-', 'a', TALKS, "flagged"),
            (strict, '?', 'a', &[], "first_seen"),
            (strict, 'a', 'a', TALKS, "offered"),
            (strict, 'a', 'b', TALKS, "changed"),
            (loose, '-', 'a', HIDDEN, "offered"),
            (loose, 'a', 'b', HIDDEN, "offered"),
            (r#"{"changed":"allow"}"#, 'a', 'b', HIDDEN, "flagged"),
            (r#"{"changed":"allow","flagged":"hold"}"#, 'a', 'b', TALKS, "flagged"),
            (r#"{"changed":"allow"}"#, 'a', 'b', TALKS, "offered"),
        ] {
            assert_eq!(
                check(policy, known, seen, flags),
                verdict,
                "{policy} {known} {seen} {flags:?}"
            );
        }
    }

    #[test]
    fn the_default_is_first_seen_allowed_and_changes_held() {
        let written = serde_json::to_string(&Policy::default()).unwrap();
        assert_eq!(
            written,
            r#"{"first_seen":"allow","changed":"hold","flagged":"hold_hidden"}"#
        );
        assert!(serde_json::from_str::<Policy>(r#"{"unheard_of":"hold"}"#).is_err());
    }

    #[test]
    fn flags_of_every_kind_have_a_name_of_their_own() {
        let names: std::collections::BTreeSet<_> = Flag::ALL.iter().map(|flag| flag.as_str()).collect();
        assert_eq!(names.len(), Flag::ALL.len());
        for flag in Flag::ALL {
            assert_eq!(serde_json::to_string(&flag).unwrap(), format!("\"{flag}\""));
        }
    }
}
