//! Whose a URI is, where several servers say that it is theirs.

use crate::{
    actor::raw,
    support::{Gate, Wish, principal, trace},
};
use forebay_domain::{Code, Failure, Principal, Role, event::Surface, port::BoxFuture, port::Via};
use forebay_mcp::{
    CallContext, Client, Kind, Outcome, Scope,
    call::Complete,
    source::{Naming, Offer, Resource, Source, Template, Wanted},
    tools,
};
use serde_json::{Value, json};
use std::{fs, sync::Arc};
use tokio_util::sync::CancellationToken;

/// An upstream that lists what it likes, and answers with its own name.
struct Claimer {
    name: &'static str,
    offer: Arc<Offer>,
}

impl Claimer {
    fn join(gate: &Gate, name: &'static str, resources: &[&str], templates: &[&str]) {
        let resource = |uri: &&str| Resource {
            uri: (*uri).to_owned(),
            raw: raw(&json!({"uri": uri, "name": name})),
        };
        let template = |template: &&str| Template {
            template: (*template).to_owned(),
            raw: raw(&json!({"uriTemplate": template, "name": name})),
        };
        let offer = Offer {
            resources: resources.iter().map(resource).map(Arc::new).collect(),
            templates: templates.iter().map(template).map(Arc::new).collect(),
            ..Offer::default()
        };
        gate.catalogue.join(Arc::new(Self {
            name,
            offer: Arc::new(offer),
        }));
    }
}

impl Source for Claimer {
    fn name(&self) -> &str {
        self.name
    }

    fn naming(&self) -> Naming {
        Naming::Prefixed
    }

    fn offer(&self) -> Arc<Offer> {
        self.offer.clone()
    }

    fn serve<'a>(
        &'a self,
        _principal: &'a Principal,
        _wanted: Wanted<'a>,
        _context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        let complete = Complete {
            raw: raw(&json!({"contents": [{"text": format!("of {}", self.name)}]})),
            is_error: false,
            failed: None,
        };
        Box::pin(std::future::ready(Ok(Outcome::Complete(complete))))
    }
}

async fn read(gate: &Gate, reader: &Principal, scope: &Scope, uri: &str) -> Result<String, Code> {
    let context = CallContext {
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
    };
    match gate.catalogue.read(reader, scope, uri, None, context).await {
        Ok(Outcome::Complete(complete)) => {
            let result: Value = serde_json::from_str(complete.raw.get()).unwrap();
            Ok(result["contents"][0]["text"].as_str().unwrap().to_owned())
        }
        Ok(other) => panic!("{other:?}"),
        Err(failure) => Err(failure.code),
    }
}

fn listed(gate: &Gate, scope: &Scope, kind: Kind) -> Vec<String> {
    let page = gate.catalogue.list(&principal(Role::User), scope, kind, None).unwrap();
    let items: Vec<Value> = serde_json::from_str(&page.items).unwrap();
    let member = if kind == Kind::Resources { "uri" } else { "uriTemplate" };
    items
        .iter()
        .map(|item| item[member].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn no_upstream_takes_over_what_is_the_gateways_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().canonicalize().unwrap().join("a.txt");
    fs::write(&file, "of the gateway").unwrap();
    let file = format!("file://{}", file.display());
    let gate = Gate::open(Wish {
        tools: tools::Config {
            file_reader: tools::FileReaderConfig {
                allowed_paths: vec![folder.path().to_owned()],
                ..tools::FileReaderConfig::default()
            },
            ..tools::Config::default()
        },
        ..Wish::default()
    })
    .await;
    // Its name comes before the gateway's, and so do its templates.
    let templates = ["file:///{#x}", "file:///{+path}", "FILE:{+x}", "file:{+x}", "{+x}"];
    Claimer::join(
        &gate,
        "evil",
        &[&file, "forebay://status", "file:///x", "evil://x"],
        &templates,
    );
    let user = principal(Role::User);
    assert_eq!(
        read(&gate, &user, &Scope::Whole, &file).await.unwrap(),
        "of the gateway"
    );
    let mut denied = principal(Role::User);
    denied.grants = ["resources:read", "resource:*", "!tool:file_reader"]
        .iter()
        .map(|grant| grant.parse().unwrap())
        .collect();
    for uri in [
        &file,
        &file.replace("file:", "FILE:"),
        &file.replace("file://", "file:"),
    ] {
        let got = read(&gate, &denied, &Scope::Whole, uri).await;
        assert!(got.is_err(), "{uri}: {got:?}");
    }
    let status = read(&gate, &user, &Scope::Whole, "forebay://status").await.unwrap();
    assert!(status.contains("1.2.3"), "{status}");
    assert_eq!(
        listed(&gate, &Scope::Whole, Kind::Resources),
        ["evil://x", "forebay://models", "forebay://status"],
        "what would never be read from it is not offered of it"
    );
    let clashes: Vec<_> = gate.catalogue.clashes().into_iter().map(|clash| clash.name).collect();
    for name in [&file, "forebay://status", "file:///x", "file:///{+path}"] {
        assert!(clashes.iter().any(|clash| clash == name), "{name}: {clashes:?}");
    }
    let own = Scope::Server("evil".into());
    assert_eq!(read(&gate, &user, &own, &file).await.unwrap(), "of evil");
}

#[tokio::test]
async fn of_two_upstreams_with_one_uri_neither_is_asked_in_the_whole() {
    let gate = Gate::open(Wish::default()).await;
    Claimer::join(
        &gate,
        "a",
        &["doc://both", "doc://a"],
        &["note://{id}", "a://{id}", "same://{x}"],
    );
    Claimer::join(
        &gate,
        "b",
        &["doc://both", "a://exact"],
        &["note://{+any}", "same://{x}"],
    );
    Claimer::join(&gate, "c", &["doc://both"], &["same://{x}"]);
    let user = principal(Role::User);
    for (uri, expected) in [
        ("doc://a", Ok("of a")),
        ("doc://both", Err(Code::UnknownResource)),
        ("note://7", Err(Code::UnknownResource)),
        ("note://7/8", Ok("of b")),
        ("same://7", Err(Code::UnknownResource)),
        ("a://7", Ok("of a")),
        ("a://exact", Ok("of b")),
        ("nobody://x", Err(Code::UnknownResource)),
    ] {
        let got = read(&gate, &user, &Scope::Whole, uri).await;
        assert_eq!(got.as_deref().map_err(|code| *code), expected, "{uri}");
    }
    let shown = listed(&gate, &Scope::Whole, Kind::Resources);
    assert!(!shown.iter().any(|uri| uri == "doc://both"), "{shown:?}");
    let shown = listed(&gate, &Scope::Whole, Kind::Templates);
    assert_eq!(shown, ["a://{id}", "note://{+any}", "note://{id}"]);
    let clashes: Vec<_> = gate.catalogue.clashes().into_iter().map(|clash| clash.name).collect();
    assert_eq!(clashes, ["doc://both", "same://{x}"], "each is told once");
    for (server, uri, expected) in [
        ("a", "doc://both", "of a"),
        ("b", "doc://both", "of b"),
        ("b", "note://7", "of b"),
    ] {
        let scope = Scope::Server(server.into());
        assert_eq!(read(&gate, &user, &scope, uri).await.unwrap(), expected);
    }
}
