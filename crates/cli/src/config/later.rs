//! What later versions bring. It is refused by name, so that nobody believes that it is in force.

const SECTIONS: &[&str] = &["nodes", "providers", "secrets_dir"];

/// Keys inside sections that this version has; `*` stands for any name.
const KEYS: &[&[&str]] = &[
    // Contexts: where their server is, how many there may be, and how long it may take.
    &["mcp", "server_url"],
    &["mcp", "serverUrl"],
    &["mcp", "api_version"],
    &["mcp", "apiVersion"],
    &["mcp", "max_contexts"],
    &["mcp", "maxContexts"],
    &["mcp", "timeout"],
];

/// The name under which this path belongs to a later version.
pub(super) fn section(path: &[String]) -> Option<String> {
    let name = path.first()?;
    if path.len() == 1 && SECTIONS.contains(&name.as_str()) {
        return Some(name.clone());
    }
    let same = |key: &&&[&str]| {
        key.len() == path.len() && key.iter().zip(path).all(|(known, part)| *known == "*" || known == part)
    };
    KEYS.iter().find(same).map(|_| path.join("."))
}
