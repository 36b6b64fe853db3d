//! `forebay stdio --serve`: a whole gateway for whoever started it, that opens nothing and ends with its client.

use crate::{err, options};
use forebay_testkit::gateway::command;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Child,
    time::timeout,
};

/// What a process is waited for at most, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(1);

fn start(folder: &Path, more: &[&str]) -> Child {
    let mut command = command(&options(""), folder);
    command.args(["stdio", "--serve", "--data", "data"]).args(more);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Says all of these lines at once, and waits for what comes of it.
async fn say(folder: &Path, more: &[&str], lines: &[Value]) -> (Vec<Value>, Output) {
    let mut child = start(folder, more);
    let mut stdin = child.stdin.take().unwrap();
    for line in lines {
        // One that has refused to start does not read.
        let _closed = stdin.write_all(format!("{line}\n").as_bytes()).await;
    }
    drop(stdin);
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let text = crate::out(&output);
    let messages = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (messages.collect(), output)
}

fn initialize() -> Value {
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
}

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

#[tokio::test]
async fn it_answers_everything_and_ends_with_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let sum = json!({"name": "calculator", "arguments": {"expression": "6 * 7"}});
    let lines = [initialize(), request(2, "tools/call", &sum)];
    let (messages, output) = say(folder.path(), &[], &lines).await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(messages.len(), 2, "nothing but protocol messages: {messages:?}");
    assert_eq!(messages[1]["result"]["content"][0]["text"], "42");
    let log = err(&output);
    assert!(
        log.contains("open surfaces: none") && !log.contains("listening on"),
        "{log}"
    );
    assert!(!folder.path().join("data/gateway.url").exists());

    let status = json!({"name": "gateway_status", "arguments": {}});
    let lines = [
        initialize(),
        request(2, "tools/list", &json!({})),
        request(3, "tools/call", &status),
    ];
    let (messages, _) = say(folder.path(), &["--server", "forebay"], &lines).await;
    let tools = messages[1]["result"]["tools"].as_array().unwrap();
    assert!(
        tools
            .iter()
            .any(|tool| tool["name"] == "chat" || tool["name"] == "calculator")
    );
    assert_eq!(messages[2]["result"]["structuredContent"]["surfaces"], json!([]));
}

#[tokio::test]
async fn its_client_acts_with_the_key_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (messages, _) = say(folder.path(), &[], &[initialize()]).await;
    assert_eq!(messages.len(), 1);
    let (messages, output) = say(folder.path(), &["--key", "fb_wrong"], &[initialize()]).await;
    assert_eq!((messages.len(), output.status.code()), (0, Some(3)), "{}", err(&output));
    for (more, said) in [
        (["--server", "nobody"].as_slice(), "no server of that name"),
        (&["--url", "http://127.0.0.1:1"], "--url names another"),
    ] {
        let (messages, output) = say(folder.path(), more, &[initialize()]).await;
        assert!(messages.is_empty() && !output.status.success());
        assert!(err(&output).contains(said), "{}", err(&output));
    }
}

#[tokio::test]
async fn it_listens_only_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), &["--listen", "127.0.0.1:0"]);
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = async {
        loop {
            let line = log.next_line().await.unwrap().expect("it goes on");
            if let Some((_, rest)) = line.split_once("listening on ") {
                return rest.split_whitespace().next().unwrap().to_owned();
            }
        }
    };
    let url = timeout(PATIENCE, listening).await.unwrap();
    let ready = forebay_runtime::http::trusted().get(format!("{url}/readyz")).send();
    assert_eq!(ready.await.unwrap().status(), 200);
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    let ended = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0), "though standard input is still open");
}
