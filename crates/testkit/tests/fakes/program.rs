//! `forebay-fakes` as a program.

use forebay_testkit::markets::{ionet, runpod};
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-fakes"));
    command.args(arguments).kill_on_drop(true);
    command
}

async fn started(arguments: &[&str]) -> (Child, String) {
    let mut child = program(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("it says where it listens");
    let said: Value = serde_json::from_str(&line).unwrap();
    (child, said["url"].as_str().unwrap().to_owned())
}

async fn ran(arguments: &[&str]) -> (Output, String) {
    let output = program(arguments).output().await.unwrap();
    let text = String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned();
    (output, text)
}

#[tokio::test]
async fn it_says_where_it_listens_does_what_it_was_told_and_goes_when_asked() {
    let arguments = [
        "vast",
        "--key",
        "k1",
        "--offers",
        "7",
        "--set",
        "list_lag=2",
        "--fault",
        "user=empty-503:2",
    ];
    let (mut child, url) = started(&arguments).await;
    let client = forebay_runtime::http::trusted();
    let user = async || {
        client
            .get(format!("{url}/api/v0/users/current/"))
            .bearer_auth("k1")
            .send()
            .await
            .unwrap()
    };
    assert_eq!(
        [user().await.status(), user().await.status(), user().await.status()].map(|s| s.as_u16()),
        [503, 503, 200]
    );
    let search = client
        .post(format!("{url}/api/v0/bundles/"))
        .bearer_auth("k1")
        .json(&json!({}));
    let found: Value = search.send().await.unwrap().json().await.unwrap();
    assert_eq!(found["offers"].as_array().unwrap().len(), 7);

    let id = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn every_provider_starts_and_tells_what_it_knows() {
    for provider in ["vast", "ionet", "runpod"] {
        let (_child, url) = started(&[provider]).await;
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        let (output, help) = ran(&[provider, "--help"]).await;
        assert!(output.status.success());
        for word in ["Routes:", "drop-after", "Faults of this one:", "Settings:"] {
            assert!(help.contains(word), "{provider} says nothing of {word}");
        }
    }
}

/// As many as somebody wants, and each of them to be told from the others.
#[tokio::test]
async fn every_provider_has_as_many_offers_as_it_is_told_to() {
    let client = forebay_runtime::http::trusted();
    let kinds = [
        (
            "ionet",
            ("x-api-key", ionet::KEY.to_owned()),
            "/enterprise/v1/io-cloud/vmaas/hardware",
            "/data/hardware",
        ),
        (
            "runpod",
            ("authorization", format!("Bearer {}", runpod::KEY)),
            "/v2/catalog/gpus",
            "/gpus",
        ),
    ];
    for (provider, (header, key), path, rows) in kinds {
        let (_child, url) = started(&[provider, "--offers", "1234"]).await;
        let asked = client.get(format!("{url}{path}")).header(header, key);
        let told: Value = asked.send().await.unwrap().json().await.unwrap();
        let rows = told.pointer(rows).and_then(Value::as_array);
        assert_eq!(rows.map(Vec::len), Some(1_234), "{provider}");
    }
}

#[tokio::test]
async fn what_it_does_not_know_it_refuses() {
    for arguments in [
        vec!["lambda"],
        vec!["vast", "--fault", "create"],
        vec!["vast", "--fault", "nowhere=empty"],
        vec!["vast", "--fault", "create=nothing"],
        vec!["vast", "--set", "nothing=1"],
        vec!["vast", "--port", "x"],
    ] {
        let (output, said) = ran(&arguments).await;
        assert!(
            !output.status.success() && said.contains("error"),
            "{arguments:?}: {said}"
        );
    }
}
