//! `file_reader` and files as resources: what is allowed is read, and nothing else is.

use crate::support::{Gate, Wish, principal, trace};
use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_domain::{Code, Role, event::Surface, port::Via};
use forebay_mcp::{CallContext, Client, Kind, Scope, tools};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Place {
    _folder: TempDir,
    allowed: std::path::PathBuf,
    gate: Gate,
}

async fn place(max_bytes: u32) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    let allowed = base.join("allowed");
    fs::create_dir_all(allowed.join("sub")).unwrap();
    fs::write(base.join("secret.txt"), "canary").unwrap();
    fs::write(allowed.join("a.txt"), "héllo").unwrap();
    fs::write(allowed.join("sub/b.bin"), [0xff, 0x00]).unwrap();
    symlink(base.join("secret.txt"), allowed.join("absolute-link")).unwrap();
    symlink("../secret.txt", allowed.join("relative-link")).unwrap();
    symlink("..", allowed.join("folder-link")).unwrap();
    symlink("a.txt", allowed.join("inner-link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, allowed.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let gate = Gate::open(Wish {
        tools: config(&allowed, max_bytes),
        ..Wish::default()
    })
    .await;
    Place {
        _folder: folder,
        allowed,
        gate,
    }
}

fn context() -> CallContext {
    CallContext {
        via: Via {
            surface: Surface::Mcp,
            trace: trace(),
            in_task: false,
        },
        cancel: CancellationToken::new(),
        deadline: None,
        client: Client::nobody(),
        retry: None,
        cost: None,
    }
}

fn config(path: &Path, max_bytes: u32) -> tools::Config {
    tools::Config {
        file_reader: tools::FileReaderConfig {
            allowed_paths: vec![path.to_owned()],
            max_bytes,
        },
        ..tools::Config::default()
    }
}

impl Place {
    async fn read(&self, arguments: Value) -> Result<Value, String> {
        let call = json!({"name": "file_reader", "arguments": arguments});
        let got = self.gate.modern(&principal(Role::User), "tools/call", call).await;
        let result = &got.body["result"];
        if result["isError"] == false {
            return Ok(result["structuredContent"].clone());
        }
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(!text.contains("canary"));
        Err(serde_json::from_str::<Value>(text).unwrap()["code"]
            .as_str()
            .unwrap()
            .to_owned())
    }
}

#[tokio::test]
async fn files_are_read_as_text_or_as_base64() {
    let place = place(1000).await;
    let absolute = place.allowed.join("a.txt");
    for path in ["a.txt", "./a.txt", "inner-link", absolute.to_str().unwrap()] {
        let read = place.read(json!({"path": path})).await.unwrap();
        let expected = json!({
            "path": path, "size": 6, "offset": 0, "length": 6, "truncated": false, "encoding": "utf-8", "content": "héllo",
        });
        assert_eq!(read, expected);
    }
    let binary = place.read(json!({"path": "sub/b.bin"})).await.unwrap();
    assert_eq!(
        (&binary["encoding"], &binary["content"]),
        (&json!("base64"), &json!(BASE64_STANDARD.encode([0xff, 0])))
    );
}

#[tokio::test]
async fn a_file_is_read_in_parts() {
    let place = place(4).await;
    let mut text = String::new();
    let mut offset = 0;
    loop {
        let part = place
            .read(json!({"path": "a.txt", "offset": offset, "length": 2}))
            .await
            .unwrap();
        text.push_str(part["content"].as_str().unwrap());
        assert!(part["length"].as_u64().unwrap() <= 2);
        offset += part["length"].as_u64().unwrap();
        if part["truncated"] == false {
            break;
        }
    }
    assert_eq!(text, "héllo", "a character cut in two comes with the next part");
    let whole = place.read(json!({"path": "a.txt", "length": 100})).await.unwrap();
    assert_eq!(
        (&whole["length"], &whole["truncated"]),
        (&json!(4), &json!(true)),
        "the bound of the configuration holds"
    );
    let dotted = place
        .read(json!({"path": "a.txt", "offset": 3.0, "length": 2.0}))
        .await
        .unwrap();
    assert_eq!(dotted["content"], "ll", "whole numbers, as some models write them");
    let large = place.read(json!({"path": "a.txt", "offset": 1e30})).await.unwrap_err();
    assert_eq!(large, "INVALID_ARGUMENTS");
    let beyond = place.read(json!({"path": "a.txt", "offset": 100})).await.unwrap();
    assert_eq!((&beyond["length"], &beyond["size"]), (&json!(0), &json!(6)));
}

#[tokio::test]
async fn nothing_outside_is_read() {
    let place = place(1000).await;
    let outside = place.allowed.parent().unwrap().join("secret.txt");
    for (path, code) in [
        (outside.to_str().unwrap(), "TOOL_REFUSED"),
        ("/etc/passwd", "TOOL_REFUSED"),
        ("../secret.txt", "TOOL_REFUSED"),
        ("sub/../../secret.txt", "TOOL_REFUSED"),
        ("absolute-link", "TOOL_REFUSED"),
        ("relative-link", "TOOL_REFUSED"),
        ("folder-link/secret.txt", "TOOL_REFUSED"),
        ("pipe", "TOOL_REFUSED"),
        ("sub", "TOOL_REFUSED"),
        ("nothing.txt", "UNKNOWN_RESOURCE"),
        ("a.txt/b", "UNKNOWN_RESOURCE"),
        ("a\u{0}b", "UNKNOWN_RESOURCE"),
    ] {
        assert_eq!(place.read(json!({"path": path})).await.unwrap_err(), code, "{path}");
    }
}

#[tokio::test]
async fn files_are_resources_under_the_same_rules() {
    let place = place(1000).await;
    let (user, viewer) = (principal(Role::User), principal(Role::Viewer));
    let templates = place.gate.modern(&user, "resources/templates/list", json!({})).await;
    assert_eq!(
        templates.body["result"]["resourceTemplates"][0]["uriTemplate"],
        "file:///{+path}"
    );
    let hidden = place.gate.modern(&viewer, "resources/templates/list", json!({})).await;
    assert_eq!(hidden.body["result"]["resourceTemplates"], json!([]));
    let uri = |name: &str| format!("file://{}", place.allowed.join(name).display());
    let got = place
        .gate
        .modern(&user, "resources/read", json!({"uri": uri("a.txt")}))
        .await;
    assert_eq!(got.body["result"]["contents"][0]["text"], "héllo");
    let got = place
        .gate
        .modern(&user, "resources/read", json!({"uri": uri("sub/b.bin")}))
        .await;
    assert_eq!(
        got.body["result"]["contents"][0]["blob"],
        BASE64_STANDARD.encode([0xff, 0])
    );
    for name in ["absolute-link", "../secret.txt", "nothing.txt"] {
        let got = place
            .gate
            .modern(&user, "resources/read", json!({"uri": uri(name)}))
            .await;
        assert_eq!(got.error(), (200, -32602, "unknown_resource".to_owned()), "{name}");
    }
    let got = place
        .gate
        .modern(&viewer, "resources/read", json!({"uri": uri("a.txt")}))
        .await;
    assert_eq!(got.error(), (403, -32000, "forbidden".to_owned()));
}

/// Under its own path the gateway's server is asked whatever the URI looks like.
#[tokio::test]
async fn no_spelling_of_a_uri_reads_a_file_without_its_tool() {
    let place = place(1000).await;
    let own = Scope::Server("forebay".into());
    let mut denied = principal(Role::User);
    denied.grants = ["resources:read", "!tool:file_reader"]
        .iter()
        .map(|grant| grant.parse().unwrap())
        .collect();
    let path = place.allowed.join("a.txt");
    let mut shown = 0;
    for start in [
        "file://",
        "FILE://",
        "FiLe://",
        "file:",
        "file://localhost",
        "\tfile://",
        " File:\n//",
    ] {
        let uri = format!("{start}{}", path.display());
        for (reader, may) in [(principal(Role::User), true), (denied.clone(), false)] {
            let read = place.gate.catalogue.read(&reader, &own, &uri, None, context()).await;
            let read = read.map(|outcome| format!("{outcome:?}"));
            shown += usize::from(may && read.is_ok());
            assert!(may || read.is_err(), "{uri:?}: {read:?}");
        }
    }
    assert!(shown > 1, "some of these spellings do mean the file");
}

#[tokio::test]
async fn the_tool_comes_and_goes_with_its_configuration() {
    let gate = Gate::open(Wish::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let offered = || {
        let user = principal(Role::User);
        let page = gate.catalogue.list(&user, &Scope::Whole, Kind::Tools, None).unwrap();
        page.items.contains("file_reader")
    };
    assert!(!offered());
    assert!(gate.catalogue.reconfigure(config(folder.path(), 10)).unwrap());
    assert!(offered());
    assert!(
        !gate.catalogue.reconfigure(config(folder.path(), 10)).unwrap(),
        "nothing changed"
    );
    for bad in [
        config(Path::new("/does/not/exist"), 10),
        config(folder.path(), 0),
        config(folder.path(), u32::MAX),
    ] {
        assert_eq!(gate.catalogue.reconfigure(bad).unwrap_err().code, Code::InvalidConfig);
        assert!(offered(), "the old configuration stays");
    }
}
