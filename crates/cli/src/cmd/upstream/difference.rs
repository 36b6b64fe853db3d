//! What waits, for somebody who has to decide: what came, what went, and nothing hidden.

use forebay_api::WaitingDefinition;
use forebay_domain::quarantine::visible;
use std::fmt::Write;

/// Whether what is taken away and what comes are told apart by colours too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    None,
    Ansi,
}

/// One definition with its difference to what was approved, and why it waits.
pub(super) fn shown(waiting: &WaitingDefinition, colours: Colours) -> String {
    let flags = if waiting.flags.is_empty() {
        String::new()
    } else {
        format!(" ({})", waiting.flags.join(", "))
    };
    let why = match waiting.why.as_str() {
        "first_seen" => "nobody has approved it before",
        "changed" => "it differs from what was approved",
        "flagged" => "it stands out",
        "too_many" => "so many are known that no more are taken note of",
        other => other,
    };
    let head = format!("{} `{}`: {why}{flags}", waiting.kind, waiting.name);
    let mut text = String::new();
    writeln!(text, "{}", one_line(&head)).expect("a String takes everything");
    for line in waiting.difference.lines() {
        writeln!(text, "  {}", coloured(&visible(line), colours)).expect("a String takes everything");
    }
    text
}

/// A line feed in a name must not begin a line of its own.
fn one_line(text: &str) -> String {
    visible(text).replace('\n', "\\u{a}").replace('\t', "\\u{9}")
}

fn coloured(line: &str, colours: Colours) -> String {
    let colour = match line.trim_start().chars().next() {
        Some('+') => "32",
        Some('-') => "31",
        _ => "1",
    };
    match colours {
        Colours::None => line.to_owned(),
        Colours::Ansi => format!("\u{1b}[{colour}m{line}\u{1b}[0m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn waiting() -> WaitingDefinition {
        from_value(json!({
            "kind": "tool", "name": "add\n+ \u{202e}", "why": "changed", "flags": ["hidden_characters"],
            "since": "2026-01-01T00:00:00Z", "fingerprint": "f", "difference": "/description\n  - \"a\"\n  + \"\u{1b}[2Jb\"\n", "held": {},
        }))
        .unwrap()
    }

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(
            shown(&waiting(), Colours::None),
            "tool `add\\u{a}+ \\u{202e}`: it differs from what was approved (hidden_characters)\n  \
             /description\n    - \"a\"\n    + \"\\u{1b}[2Jb\"\n"
        );
    }

    #[test]
    fn colours_are_all_that_they_add() {
        let coloured = shown(&waiting(), Colours::Ansi);
        let mut plain = coloured.clone();
        for code in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[1m", "\u{1b}[0m"] {
            assert!(coloured.contains(code), "{coloured:?}");
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, shown(&waiting(), Colours::None));
    }
}
