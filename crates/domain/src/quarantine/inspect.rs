//! One look at one definition: everything that quarantine wants to know about it.
//!
//! It refuses what [`Definition::parse`] and [`clean`] refuse; a definition that is refused is neither offered nor held.

use super::{
    Fingerprint, Kind,
    clean::clean,
    definition::{Definition, DefinitionFault, DefinitionName},
    flag::Flags,
    hints::Hints,
};
use serde_json::value::RawValue;

/// A definition that was looked at.
#[derive(Debug, Clone)]
pub struct Inspected {
    pub kind: Kind,
    pub name: DefinitionName,
    pub fingerprint: Fingerprint,
    pub flags: Flags,
    pub hints: Hints,
    /// As the upstream sent it: what is kept and compared.
    pub original: Box<RawValue>,
    /// What may be shown to a client; byte for byte the original where there was nothing to take out.
    pub cleaned: Box<RawValue>,
}

/// Looks at a definition.
pub fn inspect(kind: Kind, raw: &RawValue) -> Result<Inspected, DefinitionFault> {
    let definition = Definition::parse(kind, raw)?;
    let cleaned = clean(raw)?;
    Ok(Inspected {
        kind,
        name: definition.name().clone(),
        fingerprint: definition.fingerprint(),
        flags: cleaned.flags,
        hints: definition.hints(),
        original: raw.to_owned(),
        cleaned: cleaned.raw,
    })
}

#[cfg(test)]
mod tests {
    use super::super::flag::Flag;
    use super::*;

    #[test]
    fn the_original_is_kept_and_the_cleaned_is_shown() {
        let text = "{\"name\":\"add\",\"description\":\"a\u{200b}b\",\"annotations\":{\"readOnlyHint\":true}}";
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        let seen = inspect(Kind::Tool, &raw).unwrap();
        assert_eq!(seen.original.get(), text);
        assert_eq!(seen.cleaned.get(), text.replace('\u{200b}', ""));
        assert_eq!(seen.flags, Flags::from([Flag::HiddenCharacters]));
        assert!(seen.hints.read_only);
        let cleaned = inspect(Kind::Tool, &seen.cleaned).unwrap();
        assert_ne!(seen.fingerprint, cleaned.fingerprint, "what is hidden counts");
    }
}
