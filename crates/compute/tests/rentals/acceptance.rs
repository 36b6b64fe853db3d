//! The table of acceptance cases names tests that are there.

use std::{collections::BTreeSet, fs, path::Path};

const TABLE: &str = include_str!("../acceptance.md");
const CASES: usize = 9;

/// What stands between backticks, in its order.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_of_the_table_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let rows: Vec<&str> = TABLE
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| case"))
        .collect();
    assert_eq!(rows.len(), CASES);
    let mut named = BTreeSet::new();
    for (number, row) in (1..).zip(rows) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells[0].trim(), number.to_string());
        let (mut file, mut tests) = (String::new(), 0);
        for word in quoted(cells[2]) {
            if word.contains('/') {
                file = fs::read_to_string(root.join(word)).unwrap_or_else(|_| panic!("{word} is not there"));
                continue;
            }
            let is_there = ["fn ", "def "]
                .iter()
                .any(|kind| file.contains(&format!("{kind}{word}(")));
            assert!(is_there, "case {number}: {word}");
            assert!(named.insert(word.to_owned()), "{word} stands there twice");
            tests += 1;
        }
        assert!(tests > 0, "case {number} is shown by nothing");
    }
}
