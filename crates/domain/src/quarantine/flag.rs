//! What is suspicious about a definition. A flag is a remark; whether it holds a definition back is the policy's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// One thing that stood out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Characters that nobody sees; they were taken out.
    HiddenCharacters,
    /// Characters that turn the reading order; they were taken out.
    BidiControls,
    /// Control characters and terminal sequences; they were taken out.
    ControlCharacters,
    /// A text that talks to the model about something else than the tool.
    InstructionLike,
    /// A description far longer than a tool needs.
    OverlongDescription,
    /// A schema that refers to another document.
    SchemaRefRemote,
    /// A name in letters of several scripts that look alike.
    MixedScriptName,
}

/// What stood out about one definition.
pub type Flags = BTreeSet<Flag>;

impl Flag {
    pub const ALL: [Self; 7] = [
        Self::HiddenCharacters,
        Self::BidiControls,
        Self::ControlCharacters,
        Self::InstructionLike,
        Self::OverlongDescription,
        Self::SchemaRefRemote,
        Self::MixedScriptName,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::HiddenCharacters => "hidden_characters",
            Self::BidiControls => "bidi_controls",
            Self::ControlCharacters => "control_characters",
            Self::InstructionLike => "instruction_like",
            Self::OverlongDescription => "overlong_description",
            Self::SchemaRefRemote => "schema_ref_remote",
            Self::MixedScriptName => "mixed_script_name",
        }
    }

    /// What stands out, said of a definition that is offered.
    pub fn remark(self) -> &'static str {
        match self {
            Self::HiddenCharacters => "carried characters that nobody sees, which were taken out",
            Self::BidiControls => "carried characters that turn the reading order, which were taken out",
            Self::ControlCharacters => "carried control characters, which were taken out",
            Self::InstructionLike => "carries instruction-like text",
            Self::OverlongDescription => "has an overlong description",
            Self::SchemaRefRemote => "has a schema that refers to another document",
            Self::MixedScriptName => "has a name in letters of several scripts that look alike",
        }
    }

    /// Whether the text showed people something else than the model. Nobody writes that by accident into a definition,
    /// while the other flags are guesses that also meet honest tools.
    pub fn conceals(self) -> bool {
        match self {
            // A terminal sequence clears, overwrites or colours away what a person would read.
            Self::HiddenCharacters | Self::BidiControls | Self::ControlCharacters => true,
            Self::InstructionLike | Self::OverlongDescription | Self::SchemaRefRemote | Self::MixedScriptName => false,
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
