//! `forebay mcp list` and `export`, and installs that ask a gateway or a person.

use crate::{
    err,
    mcp_install::{Home, KEY},
    options, out,
};
use forebay_testkit::gateway::{Gateway, command};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Child,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn each_form_says_the_same_and_holds_no_key() {
    let home = Home::new();
    let export = async |client: &str, more: &[&str]| {
        let arguments = [&["export", client, "--key", KEY][..], more].concat();
        let output = home.run(&arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", err(&output));
        assert!(!out(&output).contains(KEY), "{arguments:?}");
        out(&output)
    };
    for (client, form, expected) in [
        (
            "claude-code",
            "shell",
            "claude mcp add --scope user --transport http forebay http://127.0.0.1:8080/mcp --header \
             'Authorization: Bearer ${FOREBAY_KEY}'\n",
        ),
        (
            "crush",
            "shell",
            "mcp add forebay --type http --url http://127.0.0.1:8080/mcp --header Authorization \
             \"Bearer $FOREBAY_KEY\"\n",
        ),
        (
            "vscode",
            "link",
            "vscode:mcp/install?%7B%22name%22%3A%22forebay%22%2C%22type%22%3A%22http%22%2C%22url%22%3A%22http%3A%2F%2F\
             127.0.0.1%3A8080%2Fmcp%22%2C%22headers%22%3A%7B%22Authorization%22%3A%22Bearer%20%24%7Binput%3A\
             forebay-key%7D%22%7D%2C%22inputs%22%3A%5B%7B%22description%22%3A%22API%20key%20of%20forebay%22%2C%22id%22%3A\
             %22forebay-key%22%2C%22password%22%3Atrue%2C%22type%22%3A%22promptString%22%7D%5D%7D\n",
        ),
        (
            "cursor",
            "link",
            "cursor://anysphere.cursor-deeplink/mcp/install?name=forebay&config=eyJ1cmwiOiJodHRwOi8vMTI3LjAuMC4xOjgw\
             ODAvbWNwIiwiaGVhZGVycyI6eyJBdXRob3JpemF0aW9uIjoiQmVhcmVyICR7ZW52OkZPUkVCQVlfS0VZfSJ9fQ%3D%3D\n",
        ),
        (
            "crush",
            "file",
            "{\n  \"mcp\": {\n    \"forebay\": {\n      \"type\": \"http\",\n      \
             \"url\": \"http://127.0.0.1:8080/mcp\",\n      \"headers\": {\n        \
             \"Authorization\": \"Bearer $FOREBAY_KEY\"\n      }\n    }\n  }\n}\n",
        ),
    ] {
        assert_eq!(export(client, &["--form", form]).await, expected, "{client} {form}");
    }
    let desktop: Value = serde_json::from_str(&export("claude-desktop", &[]).await).unwrap();
    assert_eq!(
        desktop["mcpServers"]["forebay"]["env"],
        json!({"FOREBAY_KEY": "YOUR_FOREBAY_KEY"})
    );
    let all: Value = serde_json::from_str(&export("vscode", &["-o", "json"]).await).unwrap();
    assert!(
        all["shell"]
            .as_str()
            .unwrap()
            .starts_with("code --add-mcp '{\"name\":\"forebay\""),
        "{all}"
    );
    assert_eq!(all["content"]["inputs"][0]["type"], "promptString", "{all}");
    let embedded = home.run(&["export", "crush", "--embed-key", "--key", KEY]).await;
    assert!(out(&embedded).contains(KEY));
    assert_eq!(fs::read_dir(home.path(".")).unwrap().count(), 0, "nothing is written");
}

#[tokio::test]
async fn a_list_says_who_is_here_and_what_is_installed() {
    let home = Home::new();
    let row = |listed: &Value, client: &str, scope: &str| {
        let rows = listed.as_array().unwrap().iter();
        let mut found = rows.filter(|row| row["client"] == client && row["scope"] == scope);
        found.next().unwrap().clone()
    };
    fs::create_dir(home.path(".cursor")).unwrap();
    fs::write(home.path("crush.json"), "{]").unwrap();
    let embed = ["--embed-key", "--key", KEY, "--url", "http://127.0.0.1:8080"];
    home.done(&[&["install", "vscode"][..], &embed].concat()).await;
    let listed = home.done(&["list"]).await;
    assert_eq!(
        listed.as_array().unwrap().len(),
        9,
        "five of the user, four of the project"
    );
    let cursor = row(&listed, "cursor", "user");
    assert_eq!((&cursor["found"], &cursor["exists"]), (&json!(true), &json!(false)));
    assert_eq!(row(&listed, "claude-desktop", "user")["found"], false);
    assert_eq!(
        row(&listed, "vscode", "user")["installed"],
        json!([{"name": "forebay", "url": "http://127.0.0.1:8080/mcp", "key": "0123456789abcdef"}])
    );
    let broken = row(&listed, "crush", "project");
    assert!(
        broken["fault"].as_str().unwrap().starts_with("line 1, column 2"),
        "{broken}"
    );
    let table = home.run(&["list"]).await;
    assert!(
        out(&table).contains("forebay → http://127.0.0.1:8080/mcp"),
        "{}",
        out(&table)
    );
    assert!(!out(&table).contains(KEY));
}

/// Runs a command as the administrator of a gateway, with a home of its own.
async fn as_admin(home: &Home, gateway: &Gateway, arguments: &[&str]) -> Value {
    let admin = ["--url", gateway.url(), "--key", gateway.admin_key()];
    home.done(&[arguments, &admin].concat()).await
}

async fn keys(gateway: &Gateway) -> Vec<Value> {
    let listed = gateway.cli(&["key", "list", "-o", "json"]).await;
    let keys: Vec<Value> = serde_json::from_str(&out(&listed)).unwrap();
    keys.into_iter()
        .filter(|key| key["name"].as_str().unwrap().starts_with("mcp:"))
        .collect()
}

fn bearer(home: &Home) -> String {
    let header = &home.json(".cursor/mcp.json")["mcpServers"]["forebay"]["headers"]["Authorization"];
    header.as_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned()
}

#[tokio::test]
async fn a_client_gets_a_key_of_its_own_that_goes_with_it() {
    let gateway = Gateway::start(options("")).await;
    let home = Home::new();
    let dry = as_admin(&home, &gateway, &["install", "cursor", "--dry-run"]).await;
    assert_eq!((&dry["done"], keys(&gateway).await.len()), (&json!("dry_run"), 0));
    let first = as_admin(&home, &gateway, &["install", "cursor"]).await;
    let key = bearer(&home);
    assert_ne!(key, gateway.admin_key(), "the administrator's key stays where it is");
    let made = keys(&gateway).await;
    assert_eq!(
        (&made[0]["name"], &made[0]["role"], &made[0]["id"]),
        (&json!("mcp:cursor"), &json!("user"), &first["key"])
    );
    let called = gateway
        .cli(&["tool", "call", "calculator", r#"{"expression":"6 * 7"}"#, "--key", &key])
        .await;
    assert!(out(&called).contains("42"), "{}", err(&called));

    assert_eq!(
        as_admin(&home, &gateway, &["install", "cursor"]).await["done"],
        "nothing"
    );
    assert_eq!(keys(&gateway).await.len(), 1, "the key that is there is used again");

    let narrowed = as_admin(&home, &gateway, &["install", "cursor", "--grant", "tool:calc*"]).await;
    assert_eq!(
        (&narrowed["done"], &narrowed["revoked"]),
        (&json!("updated"), &first["key"])
    );
    let now = keys(&gateway).await;
    assert_eq!((now.len(), &now[1]["grants"]), (2, &json!(["tool:calc*"])));
    assert!(now[0]["revoked_at"].is_string(), "{now:?}");

    let gone = as_admin(&home, &gateway, &["uninstall", "cursor"]).await;
    assert_eq!(
        (&gone["done"], &gone["revoked"]),
        (&json!("restored"), &narrowed["key"])
    );
    assert!(keys(&gateway).await.iter().all(|key| key["revoked_at"].is_string()));

    let anew = as_admin(&home, &gateway, &["install", "cursor"]).await;
    gateway.cli(&["key", "revoke", anew["key"].as_str().unwrap()]).await;
    let mended = as_admin(&home, &gateway, &["install", "cursor"]).await;
    assert_eq!(mended["done"], "updated", "a key that has ended is no key");
}

#[tokio::test]
async fn who_may_not_make_keys_gives_the_client_the_own_one() {
    let gateway = Gateway::start(options("")).await;
    let made = gateway
        .cli(&["key", "create", "--role", "user", "--name", "ada", "-o", "json"])
        .await;
    let key = serde_json::from_str::<Value>(&out(&made)).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let home = Home::new();
    let install = ["install", "cursor", "--url", gateway.url(), "--key", &key];
    let output = home.run(&install).await;
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("gets your own"), "{}", err(&output));
    assert_eq!(bearer(&home), key);
    assert_eq!(home.done(&install).await["done"], "nothing");
    let uninstall = ["uninstall", "cursor", "--url", gateway.url(), "--key", &key];
    assert!(home.done(&uninstall).await["revoked"].is_null());
    let still = gateway.cli(&["tool", "list", "--key", &key]).await;
    assert!(still.status.success(), "a key that was not made here is not revoked");
}

#[tokio::test]
async fn what_claude_desktop_starts_reaches_the_gateway_without_a_key_in_the_file() {
    let gateway = Gateway::start(options("")).await;
    let home = Home::new();
    let data = gateway.data().display().to_string();
    home.done(&["install", "claude-desktop", "--data", &data]).await;
    let file = ".config/Claude/claude_desktop_config.json";
    assert!(!home.read(file).contains("fb_"), "{}", home.read(file));
    let entry = home.json(file)["mcpServers"]["forebay"].clone();
    let arguments = entry["args"].as_array().unwrap().iter();
    let folder = tempfile::tempdir().unwrap();
    let mut desktop = command(&options(""), folder.path());
    assert_eq!(entry["command"], env!("CARGO_BIN_EXE_forebay"));
    desktop
        .args(arguments.map(|argument| argument.as_str().unwrap()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = desktop.spawn().unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{hello}\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    timeout(PATIENCE, stdout.read_line(&mut line)).await.unwrap().unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["result"]["protocolVersion"], "2025-06-18", "{answer}");
}

/// A person at a terminal.
pub(crate) struct Person {
    terminal: tokio::fs::File,
    pub(crate) heard: String,
    child: Child,
}

impl Person {
    /// Starts the command on a terminal of its own; only its data goes elsewhere.
    pub(crate) fn start(mut command: tokio::process::Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let open = || OwnedFd::from(OpenOptions::new().read(true).write(true).open(path).unwrap());
        command.stdin(open()).stderr(open()).stdout(Stdio::piped());
        Self {
            child: command.spawn().unwrap(),
            terminal: tokio::fs::File::from_std(File::from(master)),
            heard: String::new(),
        }
    }

    /// Reads until the question has been asked so often.
    pub(crate) async fn asked(&mut self, times: usize) {
        while self.heard.matches("[y/N]").count() < times {
            let mut bytes = [0; 4096];
            let read = timeout(PATIENCE, self.terminal.read(&mut bytes)).await;
            let count = read.expect("it asks in time").expect("it has not ended");
            self.heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    pub(crate) async fn says(&mut self, answer: &str) {
        self.terminal.write_all(answer.as_bytes()).await.unwrap();
        self.terminal.flush().await.unwrap();
    }

    pub(crate) async fn code(mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code()
    }
}

#[tokio::test]
async fn a_person_is_asked_and_may_say_no() {
    let home = Home::new();
    let install = ["install", "cursor", "--embed-key", "--key", KEY];
    let mut person = Person::start(home.command(&install));
    person.asked(1).await;
    assert!(person.heard.contains("+      \"url\""), "{}", person.heard);
    person.says("\n").await;
    assert_eq!(person.code().await, Some(5));
    assert!(!home.path(".cursor").exists());
    let mut person = Person::start(home.command(&install));
    person.asked(1).await;
    person.says("y\n").await;
    assert_eq!(person.code().await, Some(0));
    assert_eq!(bearer(&home), KEY);
    let unasked = Person::start(home.command(&[&["uninstall", "cursor", "--yes"][..]].concat()));
    assert_eq!(unasked.code().await, Some(0));
}

#[tokio::test]
async fn what_was_written_while_a_person_thought_is_kept_and_shown() {
    let home = Home::new();
    fs::create_dir(home.path(".cursor")).unwrap();
    fs::write(home.path(".cursor/mcp.json"), "{}").unwrap();
    let mut person = Person::start(home.command(&["install", "cursor", "--embed-key", "--key", KEY]));
    person.asked(1).await;
    fs::write(home.path(".cursor/mcp.json"), "{\"theirs\": 1}").unwrap();
    person.says("y\n").await;
    person.asked(2).await;
    assert!(person.heard.contains("beginning anew"), "{}", person.heard);
    person.says("y\n").await;
    assert_eq!(person.code().await, Some(0));
    assert_eq!(home.json(".cursor/mcp.json")["theirs"], 1);
    assert_eq!(bearer(&home), KEY);
}
