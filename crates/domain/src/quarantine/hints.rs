//! What a tool says about its own behaviour. Where an upstream wrote it, it is the upstream's own word: grants go by it,
//! since whoever gave a key knew the server that it is for, while a turn believes it only where the operator says that
//! it may.

use super::node::Node;
use serde_json::value::RawValue;

/// The annotations of a tool, with the protocol's defaults for what is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are the four independent flags of the protocol"
)]
pub struct Hints {
    /// It changes nothing.
    pub read_only: bool,
    /// What it changes may be lost. It says something only about a tool that is not `read_only`.
    pub destructive: bool,
    /// A second call with the same arguments changes nothing more.
    pub idempotent: bool,
    /// It reaches beyond its own closed world, such as to the network.
    pub open_world: bool,
}

impl Default for Hints {
    fn default() -> Self {
        Self {
            read_only: false,
            destructive: true,
            idempotent: false,
            open_world: true,
        }
    }
}

impl Hints {
    /// Reads the member `annotations`. A hint that is not `true` or `false` was not given.
    pub fn of(annotations: Option<&RawValue>) -> Self {
        let careful = Self::default();
        let Some(Node::Object(members)) = annotations.map(|raw| Node::open(raw, 1)) else {
            return careful;
        };
        let hint = |key: &str, otherwise| match members.get(key).map(|raw| raw.get()) {
            Some("true") => true,
            Some("false") => false,
            Some(_) | None => otherwise,
        };
        Self {
            read_only: hint("readOnlyHint", careful.read_only),
            destructive: hint("destructiveHint", careful.destructive),
            idempotent: hint("idempotentHint", careful.idempotent),
            open_world: hint("openWorldHint", careful.open_world),
        }
    }

    /// Whether a call may destroy something, as far as the tool says.
    pub fn may_destroy(self) -> bool {
        !self.read_only && self.destructive
    }

    /// Whether a call whose end nobody saw may be made again.
    pub fn may_repeat(self) -> bool {
        self.read_only || self.idempotent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(text: &str) -> (bool, bool, bool, bool) {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        let hints = Hints::of(Some(&raw));
        (hints.read_only, hints.destructive, hints.idempotent, hints.open_world)
    }

    #[test]
    fn what_is_not_said_is_what_the_protocol_says() {
        let careful = (false, true, false, true);
        assert_eq!(Hints::of(None), Hints::default());
        for nothing in [
            "{}",
            "null",
            "[true]",
            r#"{"readOnlyHint":"true","destructiveHint":0,"openWorldHint":null}"#,
        ] {
            assert_eq!(hints(nothing), careful, "{nothing}");
        }
        assert_eq!(
            hints(r#"{"readOnlyHint":true,"destructiveHint":false,"idempotentHint":true,"openWorldHint":false}"#),
            (true, false, true, false)
        );
    }

    #[test]
    fn a_tool_that_only_reads_destroys_nothing_and_may_be_called_again() {
        let reads = Hints {
            read_only: true,
            ..Hints::default()
        };
        assert!(!reads.may_destroy() && reads.may_repeat());
        assert!(Hints::default().may_destroy() && !Hints::default().may_repeat());
    }
}
