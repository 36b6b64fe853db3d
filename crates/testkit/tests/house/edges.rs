//! Arrows point upward only, never sideways between capabilities, and each heavy dependency lives in its own room.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// Which crates each crate may depend on. A new row or entry needs an ADR.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("api", &["domain"]),
    ("runtime", &["domain"]),
    ("store", &["domain", "runtime"]),
    ("llm", &["domain", "api", "runtime", "store"]),
    ("mcp", &["domain", "api", "runtime", "store"]),
    ("context", &["domain", "api", "runtime", "store"]),
    ("compute", &["domain", "api", "runtime", "store"]),
    ("work", &["domain", "runtime", "store"]),
    (
        "server",
        &[
            "domain", "api", "runtime", "store", "llm", "mcp", "context", "compute", "work",
        ],
    ),
    (
        "cli",
        &[
            "domain", "api", "runtime", "store", "llm", "mcp", "context", "compute", "work", "server",
        ],
    ),
    ("testkit", &["domain", "runtime", "store"]),
    // The official suite's fixture: a gateway for tests, which nothing else may use.
    ("fixture", &["domain", "runtime", "store", "mcp", "server"]),
    // Harnesses measure the finished binary from outside, and the ledger as those call it who hold.
    ("benches", &["domain", "runtime", "store"]),
];

/// Which crates alone may use a heavy dependency. (Tests may use what they like, and so may the harnesses.)
const CONFINED: &[(&str, &[&str])] = &[
    ("sqlx", &["store", "testkit"]),
    ("rmcp", &["mcp"]),
    ("axum", &["server", "testkit"]),
    ("clap", &["cli", "testkit"]),
    ("jsonwebtoken", &["mcp", "server", "testkit"]),
    ("opentelemetry", &["runtime"]),
    ("governor", &["runtime"]),
    ("hickory-resolver", &["runtime"]),
];

type Uses = BTreeMap<String, BTreeSet<String>>;

/// What each of our crates depends on outside its tests.
fn uses() -> Uses {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(super::root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"].is_null())
            .map(name)
            .collect()
    };
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (name(package), normal(package)))
        .collect()
}

#[test]
fn crates_use_only_what_their_row_allows() {
    let uses = uses();
    let ours: BTreeSet<&str> = uses.keys().map(String::as_str).collect();
    let rows: BTreeSet<String> = MAY_USE.iter().map(|(folder, _)| format!("forebay-{folder}")).collect();
    assert_eq!(
        ours,
        rows.iter().map(String::as_str).collect(),
        "a crate without a row, or a row without a crate"
    );
    for (folder, allowed) in MAY_USE {
        for used in uses[&format!("forebay-{folder}")]
            .iter()
            .filter_map(|name| name.strip_prefix("forebay-"))
        {
            assert!(allowed.contains(&used), "{folder} must not use {used}");
        }
    }
}

#[test]
fn heavy_dependencies_stay_in_their_room() {
    for (package, dependencies) in uses() {
        let folder = package.strip_prefix("forebay-").unwrap();
        if folder == "benches" {
            continue;
        }
        for (heavy, rooms) in CONFINED {
            assert!(
                !dependencies.contains(*heavy) || rooms.contains(&folder),
                "{folder} must not use {heavy}"
            );
        }
    }
}

#[test]
fn the_domain_reads_nothing_of_the_world() {
    let uses = uses();
    for banned in ["tokio", "reqwest", "sqlx", "rand", "tracing", "http"] {
        assert!(!uses["forebay-domain"].contains(banned), "domain must not use {banned}");
    }
}
