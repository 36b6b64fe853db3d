//! Standard input and output of a gateway in the same process.
#![expect(clippy::disallowed_methods, reason = "a test ends with its runtime")]

use crate::{
    actor::Actor,
    support::{Gate, Wish, modern_request, principal, request, trace},
};
use forebay_domain::{Role, id::KeyId};
use forebay_mcp::{Scope, stdio};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf},
    task::JoinHandle,
};

struct Client {
    input: WriteHalf<DuplexStream>,
    output: Lines<BufReader<ReadHalf<DuplexStream>>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Client {
    fn open(gate: &Gate) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(theirs);
        let user = principal(Role::User);
        let (handle, messages) = gate.front.connect(user, Scope::Whole, trace()).unwrap();
        let serving = tokio::spawn(stdio::serve(read, write, handle, messages));
        let (output, input) = tokio::io::split(ours);
        Self {
            input,
            output: BufReader::new(output).lines(),
            serving,
        }
    }

    async fn write(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn read(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(Duration::from_secs(20), self.output.next_line()).await;
        let line = line.expect("something comes").unwrap()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Ends the input and waits for the end; what was still written comes back.
    async fn finish(mut self) -> Vec<Value> {
        self.input.shutdown().await.unwrap();
        let mut rest = Vec::new();
        while let Some(message) = self.read().await {
            rest.push(message);
        }
        self.serving.await.unwrap().unwrap();
        rest
    }
}

fn call(id: u64, name: &str) -> String {
    request(id, "tools/call", &json!({"name": name, "arguments": {}}))
}

fn initialize() -> String {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "t", "version": "0"}});
    request(1, "initialize", &params)
}

#[tokio::test]
async fn all_answers_are_out_before_it_ends() {
    let gate = Gate::open(Wish::default()).await;
    let actor = Actor::join(&gate);
    let mut client = Client::open(&gate);
    client.write(&initialize()).await;
    client.write("").await;
    for id in 2..40 {
        client.write(&call(id, "wait")).await;
    }
    client.write("{").await;
    assert_eq!(client.read().await.unwrap()["id"], 1);
    assert_eq!(client.read().await.unwrap()["error"]["code"], -32700);
    actor.release.add_permits(38);
    let rest = client.finish().await;
    let mut ids: Vec<u64> = rest.iter().filter_map(|message| message["id"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (2..40).collect::<Vec<_>>());
    assert_eq!(gate.sessions.count(), 0, "its session ends with it");
}

#[tokio::test]
async fn nothing_keeps_it_that_only_its_client_could_end() {
    let gate = Gate::open(Wish::default()).await;
    Actor::join(&gate);
    let mut client = Client::open(&gate);
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    client.write(&modern_request("subscriptions/listen", wanted).1).await;
    let opening = client.read().await.unwrap();
    assert_eq!(opening["method"], "notifications/subscriptions/acknowledged");
    assert!(client.finish().await.is_empty());

    let mut client = Client::open(&gate);
    client.write(&initialize()).await;
    client.read().await;
    client.write(&call(2, "ask")).await;
    assert_eq!(client.read().await.unwrap()["method"], "elicitation/create");
    let rest = client.finish().await;
    assert_eq!(
        rest.len(),
        1,
        "the question fails, since nobody can answer it: {rest:?}"
    );
    assert_eq!(rest[0]["id"], 2);
}

#[tokio::test]
async fn a_line_that_is_none_is_refused_and_the_next_one_served() {
    let gate = Gate::open(Wish::default()).await;
    let mut client = Client::open(&gate);
    client.write(&"x".repeat((16 << 20) + 1)).await;
    assert_eq!(client.read().await.unwrap()["error"]["data"]["code"], "body_too_large");
    client.input.write_all(b"\xff\n").await.unwrap();
    assert_eq!(client.read().await.unwrap()["error"]["code"], -32700);
    client.write(&initialize()).await;
    assert_eq!(client.read().await.unwrap()["id"], 1);
    assert!(client.finish().await.is_empty());
}

#[tokio::test]
async fn a_revoked_key_ends_it() {
    let gate = Gate::open(Wish::default()).await;
    let mut client = Client::open(&gate);
    client.write(&initialize()).await;
    client.read().await;
    gate.front.close_key(&KeyId::try_from("k1").unwrap());
    assert_eq!(client.read().await, None);
    client.serving.await.unwrap().unwrap();
}
