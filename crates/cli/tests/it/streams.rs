//! Commands that stay: the MCP server on standard input and output, and the audit log that goes on.

use crate::{err, options};
use forebay_testkit::gateway::{Gateway, command};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

/// What a line is waited for at most, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(1);

/// A command with both its ends in our hands.
fn start(gateway: &Gateway, arguments: &[&str]) -> (Child, ChildStdin, Lines<BufReader<ChildStdout>>) {
    let mut command = command(&options(""), &gateway.data());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.envs([("FOREBAY_URL", gateway.url()), ("FOREBAY_KEY", gateway.admin_key())]);
    let mut child = command.spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    (child, stdin, BufReader::new(stdout).lines())
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = timeout(PATIENCE, lines.next_line())
        .await
        .expect("a line comes in time");
    let line = line.unwrap().expect("the command goes on");
    serde_json::from_str(&line).unwrap()
}

fn initialize() -> String {
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    format!(
        "{}\n",
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    )
}

#[tokio::test]
async fn stdio_answers_until_its_client_goes() {
    let gateway = Gateway::start(options("")).await;
    let (mut child, mut stdin, mut lines) = start(&gateway, &["stdio"]);
    stdin.write_all(initialize().as_bytes()).await.unwrap();
    assert_eq!(next(&mut lines).await["result"]["serverInfo"]["name"], "forebay");
    drop(stdin);
    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn stdio_goes_when_it_is_asked_to() {
    let gateway = Gateway::start(options("")).await;
    let (mut child, mut stdin, mut lines) = start(&gateway, &["stdio"]);
    stdin.write_all(initialize().as_bytes()).await.unwrap();
    next(&mut lines).await;
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn stdio_without_a_key_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(&options(""), folder.path())
        .arg("stdio")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(err(&output).contains("FOREBAY_KEY"), "{}", err(&output));
}

/// Makes a key, which leaves an audit event.
async fn make_key(gateway: &Gateway) {
    let output = gateway.cli(&["key", "create", "--role", "viewer"]).await;
    assert!(output.status.success(), "{}", err(&output));
}

/// The next event of a key that the administrator made: the gateway audits what it does by itself, too, at any time.
async fn next_made(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    loop {
        let event = next(lines).await;
        if event["action"] == "keys:write" && event["key"].is_string() {
            return event;
        }
    }
}

#[tokio::test]
async fn the_audit_log_is_followed() {
    let gateway = Gateway::start(options("")).await;
    make_key(&gateway).await;
    let (mut child, _stdin, mut lines) = start(&gateway, &["audit", "tail", "--follow", "-o", "json"]);
    let before = next_made(&mut lines).await;
    make_key(&gateway).await;
    let after = next_made(&mut lines).await;
    assert_ne!(before["trace_id"], after["trace_id"]);
    child.kill().await.unwrap();
}
