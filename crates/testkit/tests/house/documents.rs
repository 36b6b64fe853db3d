//! The documents say what is there: every error code has its page, every crate and decision its place on the map.

use forebay_domain::Code;
use std::{collections::BTreeSet, fs};

#[test]
fn every_error_code_has_its_page_and_every_page_its_code() {
    let pages: BTreeSet<String> = super::files(&super::root().join("docs/errors"), "md")
        .iter()
        .map(|page| page.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "README")
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(pages, codes);
}

#[test]
fn the_map_names_every_crate() {
    let map = fs::read_to_string(super::root().join("ARCHITECTURE.md")).unwrap();
    for folder in fs::read_dir(super::root().join("crates")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(
            map.contains(&format!("crates/{name}")),
            "ARCHITECTURE.md does not name crates/{name}"
        );
    }
}

#[test]
fn every_decision_says_context_choice_and_price() {
    let pages = super::files(&super::root().join("docs/adr"), "md");
    assert!(!pages.is_empty());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for part in ["## Context", "## Choice", "## Price"] {
            assert!(text.contains(part), "{} has no {part}", page.display());
        }
    }
}

#[test]
fn source_files_stay_readable() {
    const LINES_MAX: usize = 800;
    for file in super::files(&super::root().join("crates"), "rs") {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines; split it", file.display());
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for file in super::files(&super::root().join("crates"), "rs") {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} has no module document", file.display());
    }
}
