//! A running gateway follows its file: a good one is taken, a bad one is told and left.

use crate::{err, options, out};
use forebay_testkit::gateway::Gateway;
use rustix::process::Signal;
use serde_json::Value;
use std::{fs, time::Duration};

/// What is waited for at most, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(1);

/// What `forebay status` says about the configuration.
async fn last_error(gateway: &Gateway) -> Option<String> {
    let output = gateway.cli(&["status", "-o", "json"]).await;
    assert!(output.status.success(), "{}", err(&output));
    let status: Value = serde_json::from_str(&out(&output)).unwrap();
    status["config"]["last_error"].as_str().map(str::to_owned)
}

async fn limit(gateway: &Gateway) -> u64 {
    let output = gateway.cli(&["explain", "status:read", "-o", "json"]).await;
    let told: Value = serde_json::from_str(&out(&output)).unwrap();
    told["limit"]["per_minute"].as_u64().unwrap()
}

#[tokio::test]
async fn a_good_file_is_taken_and_a_bad_one_is_left() {
    let gateway = Gateway::start(options("limits: {requests_per_minute: 200}")).await;
    gateway.logged("following the configuration").await;
    assert_eq!(limit(&gateway).await, 200);

    fs::write(
        gateway.config_file(),
        "limits: {requests_per_minute: 300}\nserver: {drain_seconds: 9}",
    )
    .unwrap();
    gateway.signal(Signal::HUP);
    let line = gateway.logged("the configuration was read again").await;
    assert!(
        line.contains("server.drain_seconds"),
        "what needs a restart is named: {line}"
    );
    assert_eq!(limit(&gateway).await, 300);

    fs::write(gateway.config_file(), "limits: {requests_per_minute: 400}\nnodes: []\n").unwrap();
    gateway.logged("the configuration was not taken").await;
    assert!(
        last_error(&gateway)
            .await
            .unwrap()
            .contains("`nodes` is not in this version")
    );
    assert_eq!(limit(&gateway).await, 300, "the one before stays in force");
    assert!(gateway.log().contains("forebay.yaml:2:1"), "{}", gateway.log());

    fs::write(gateway.config_file(), "limits: {requests_per_minute: 500}").unwrap();
    gateway.signal(Signal::HUP);
    let limits = async {
        while limit(&gateway).await != 500 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, limits).await.unwrap();
    assert_eq!(last_error(&gateway).await, None);
    assert_eq!(
        gateway.log().matches("was not taken").count(),
        1,
        "a bad file is told once"
    );
    assert_eq!(gateway.stop().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_changed_secret_is_taken_too() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "one").unwrap();
    let yaml = format!(
        "models: {{m: {{backends: [{{url: 'http://127.0.0.1:1/v1', api_key: {{file: '{}'}}}}]}}}}",
        secret.display()
    );
    let gateway = Gateway::start(options(&yaml)).await;
    gateway.logged("following the configuration").await;
    fs::write(&secret, "two").unwrap();
    gateway.logged("the configuration was read again").await;
    fs::remove_file(&secret).unwrap();
    gateway.logged("was not taken").await;
    assert!(last_error(&gateway).await.unwrap().contains("api_key"));
}

/// Puts a file in place at once, so that nobody sees a part of it.
fn put(gateway: &Gateway, yaml: &str) {
    let whole = gateway.config_file().with_extension("new");
    fs::write(&whole, yaml).unwrap();
    fs::rename(&whole, gateway.config_file()).unwrap();
}

/// Waits until the gateway says so of its configuration.
async fn until_last_error(gateway: &Gateway, is_right: impl Fn(Option<&str>) -> bool) {
    let looking = async {
        while !is_right(last_error(gateway).await.as_deref()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap();
}

#[tokio::test]
async fn a_file_that_goes_away_changes_nothing() {
    let gateway = Gateway::start(options("limits: {requests_per_minute: 3000}")).await;
    gateway.logged("following the configuration").await;
    let (file, aside) = (gateway.config_file(), gateway.config_file().with_extension("aside"));
    fs::rename(&file, &aside).unwrap();
    let line = gateway.logged("the configuration was not taken").await;
    assert!(line.contains("the one before stays in force"), "{line}");
    assert!(last_error(&gateway).await.unwrap().contains("the file cannot be read"));
    assert_eq!(limit(&gateway).await, 3000);
    // Whoever asks for it is answered, though nothing has changed.
    gateway.signal(Signal::HUP);
    let told_again = async {
        while gateway.log().matches("was not taken").count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told_again).await.unwrap();

    fs::rename(&aside, &file).unwrap();
    until_last_error(&gateway, |error| error.is_none()).await;
    assert_eq!(limit(&gateway).await, 3000);
    assert_eq!(gateway.log().matches("was not taken").count(), 2, "{}", gateway.log());
}

#[tokio::test]
async fn a_file_that_comes_is_taken_and_kept() {
    let gateway = Gateway::start(options("")).await;
    gateway.logged("following the configuration").await;
    put(&gateway, "limits: {requests_per_minute: 3000}");
    gateway.logged("read again and is in force").await;
    assert_eq!(limit(&gateway).await, 3000);
    fs::remove_file(gateway.config_file()).unwrap();
    gateway.logged("was not taken").await;
    assert_eq!(limit(&gateway).await, 3000);
}

#[tokio::test]
async fn what_was_missing_is_waited_for_and_told_once() {
    let gateway = Gateway::start(options("limits: {requests_per_minute: 3000}")).await;
    gateway.logged("following the configuration").await;
    let secret = gateway.data().join("secret");
    let yaml = format!(
        "limits: {{requests_per_minute: 4000}}\nmodels: {{m: {{backends: [{{url: 'http://127.0.0.1:1/v1', api_key: {{file: '{}'}}}}]}}}}",
        secret.display()
    );
    put(&gateway, &yaml);
    gateway.logged("the configuration was not taken").await;
    until_last_error(&gateway, |error| error.is_some_and(|error| error.contains("api_key"))).await;

    // The file stays as it is; only what it refers to comes, in two steps, of which the first is another mistake.
    fs::write(&secret, "").unwrap();
    until_last_error(&gateway, |error| error.is_some_and(|error| error.contains("is empty"))).await;
    fs::write(&secret, "key").unwrap();
    until_last_error(&gateway, |error| error.is_none()).await;
    assert_eq!(limit(&gateway).await, 4000);
    let log = gateway.log();
    assert_eq!(log.matches("was not taken").count(), 2, "{log}");
    assert_eq!(log.matches("read again and is in force").count(), 1, "{log}");
}
