//! Edits of files of any shape: what others wrote stays, and an install can be undone.

use super::*;
use crate::cmd::mcp::{
    client::McpClient,
    entry::{Connection, Entry},
};
use proptest::prelude::*;
use url::Url;

const SLOT: Slot = Slot {
    section: "servers",
    name: "forebay",
};

fn entry(port: u16) -> Entry {
    let url = Url::parse(&format!("http://127.0.0.1:{port}/mcp")).unwrap();
    Entry::new(
        McpClient::VsCode,
        &Connection::Http { url },
        Some("${input:forebay-key}"),
    )
}

fn input() -> Input {
    Input {
        id: "forebay-key".to_owned(),
        description: "API key".to_owned(),
    }
}

/// What may stand between two tokens.
fn gap() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\n\t",
        "/*c1*/",
        " // c2\n",
        "\n  // c3\n  ",
    ])
    .prop_map(str::to_owned)
}

fn comma() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", ","])
}

/// Any value, spread over lines and commented upon as people do.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "-2.50e3",
        "true",
        "null",
        r#""t""#,
        r#""a\"\u00e9//""#,
        "{}",
        "[]",
        "{ }",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 24, 4, |inner| {
        let object = members(inner.clone(), "k");
        let list =
            (prop::collection::vec((gap(), inner, gap()), 1..4), comma(), gap()).prop_map(|(items, comma, end)| {
                let items: Vec<String> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
                format!("[{}{comma}{end}]", items.join(","))
            });
        prop_oneof![object, list]
    })
}

/// An object whose members are called `k0`, `k1` and so on.
fn members(inner: impl Strategy<Value = String>, name: &'static str) -> impl Strategy<Value = String> {
    let member = (gap(), gap(), gap(), inner, gap());
    (prop::collection::vec(member, 1..4), comma(), gap()).prop_map(move |(members, comma, end)| {
        let members: Vec<String> = members
            .into_iter()
            .enumerate()
            .map(|(n, (a, b, c, value, d))| format!("{a}\"{name}{n}\"{b}:{c}{value}{d}"))
            .collect();
        format!("{{{}{comma}{end}}}", members.join(","))
    })
}

/// A file: nothing, or an object that may have the section, and inputs, somewhere among its members.
fn file() -> impl Strategy<Value = String> {
    let servers = prop_oneof![
        Just(String::new()),
        members(value(), "s").prop_map(|object| format!("\"servers\":{object},")),
        Just("\"servers\": {},\n".to_owned()),
    ];
    let inputs = prop::sample::select(vec!["", "\"inputs\":[],", "\"inputs\": [ {\"id\": \"x\"} /*i*/ ],\n"]);
    let object = (gap(), servers, inputs, members(value(), "m"), gap())
        .prop_map(|(a, servers, inputs, object, end)| format!("{a}{{{servers}{inputs}{}{end}", &object[1..]));
    prop_oneof![1 => gap(), 8 => object]
}

fn comments(text: &str) -> Vec<&str> {
    let marks = ["/*c1*/", "// c2", "// c3", "/*i*/"];
    let mut found: Vec<(usize, &str)> = marks.into_iter().flat_map(|mark| text.match_indices(mark)).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, mark)| mark).collect()
}

proptest! {
    #[test]
    fn an_entry_goes_in_and_nothing_else_changes(before in file()) {
        let after = put(&before, SLOT, &entry(1), Former::Merge, Some(&input())).unwrap();
        let mut expected = entries(&before, SLOT.section).unwrap();
        expected.push((SLOT.name.to_owned(), serde_json::to_value(entry(1)).unwrap()));
        prop_assert_eq!(entries(&after, SLOT.section).unwrap(), expected);
        prop_assert_eq!(comments(&after), comments(&before), "{}", after);

        let again = put(&after, SLOT, &entry(1), Former::Merge, Some(&input())).unwrap();
        prop_assert_eq!(&again, &after, "what is right is not touched");
    }

    #[test]
    fn an_install_can_be_recognised_and_undone(before in file()) {
        let first = put(&before, SLOT, &entry(1), Former::Merge, Some(&input())).unwrap();
        let after = put(&first, SLOT, &entry(2), Former::Merge, Some(&input())).unwrap();
        let again = put_again(&before, &after, SLOT, Some(&input())).unwrap();
        prop_assert_eq!(again.as_deref(), Some(after.as_str()), "the former file leads here again");

        let left = take(&after, SLOT, Some(&input())).unwrap();
        prop_assert_eq!(entries(&left, SLOT.section).unwrap(), entries(&before, SLOT.section).unwrap());
        prop_assert!(!left.contains("forebay"), "{}", left);
    }
}

#[test]
fn doubtful_entries_are_refused() {
    for text in [
        r#"{"servers": {"forebay": {"url": "a", "url": "b"}}}"#,
        r#"{"servers": {}, "inputs": [], "inputs": []}"#,
        r#"{"servers": {}, "inputs": {}}"#,
        r#"{"servers": 1}"#,
        "[",
    ] {
        let refused = put(text, SLOT, &entry(1), Former::Merge, Some(&input()));
        assert!(refused.is_err(), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(put(&deep, SLOT, &entry(1), Former::Merge, None).is_err());
}
