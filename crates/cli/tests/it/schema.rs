//! The schema of the configuration: its copy is current, and every key says when a change of it takes effect.

use crate::{options, out};
use forebay_cli::config::{Reload, Schema};
use std::path::Path;

#[tokio::test]
async fn the_copy_of_the_schema_is_current() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = forebay_testkit::gateway::command(&options(""), folder.path());
    let printed = command.args(["config", "schema"]).output().await.unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/config.schema.json");
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == out(&printed),
        "schema/config.schema.json has drifted: run `make schema`"
    );
}

#[test]
fn every_key_says_when_a_change_takes_effect() {
    let leaves = Schema::of_config().leaves();
    let unmarked: Vec<String> = leaves
        .iter()
        .filter(|leaf| leaf.reload.is_none())
        .map(|leaf| leaf.path.join("."))
        .collect();
    assert!(unmarked.is_empty(), "without `x-forebay-reload`: {unmarked:?}");
    let of = |path: &str| leaves.iter().find(|leaf| leaf.path.join(".") == path).unwrap().reload;
    assert_eq!(of("server.listen"), Some(Reload::Restart));
    assert_eq!(of("limits.requests_per_minute"), Some(Reload::Live));
    assert_eq!(of("models.*.backends.*.url"), Some(Reload::Live));
    assert_eq!(of("auth.jwt.claims.roles"), Some(Reload::Live));
    assert_eq!(of("store.url"), Some(Reload::Restart));
}
