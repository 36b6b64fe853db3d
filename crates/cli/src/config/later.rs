//! What later versions bring. It is refused by name, so that nobody believes that it is in force.

const SECTIONS: &[&str] = &["nodes", "providers", "secrets_dir"];

/// The name under which this path belongs to a later version.
pub(super) fn section(path: &[String]) -> Option<&str> {
    match path {
        [name] if SECTIONS.contains(&name.as_str()) => Some(name.as_str()),
        _ => None,
    }
}
