//! Bad input on every surface: the error of its dialect, saying what was wrong and what to do.

use crate::rig::Rig;
use reqwest::Response;
use serde_json::{Value, json};

const LARGE: usize = 20 << 20;

/// Reads code and message out of an error.
type Read = fn(&Value) -> (&str, &str);

/// Where bodies are read: path, and how its errors look.
const SURFACES: [(&str, Read); 8] = [
    ("/api/v1/keys", problem),
    ("/v1/chat/completions", open_ai),
    ("/completions", open_ai),
    ("/v1/embeddings", open_ai),
    ("/v1/responses", open_ai),
    ("/v1/messages", open_ai),
    ("/mcp", rpc),
    ("/api/v1/mcp", rpc),
];

fn problem(body: &Value) -> (&str, &str) {
    (
        body["code"].as_str().unwrap_or_default(),
        body["detail"].as_str().unwrap_or_default(),
    )
}

fn open_ai(body: &Value) -> (&str, &str) {
    (
        body["error"]["forebay_code"].as_str().unwrap_or_default(),
        body["error"]["message"].as_str().unwrap_or_default(),
    )
}

fn rpc(body: &Value) -> (&str, &str) {
    (
        body["error"]["data"]["code"].as_str().unwrap_or_default(),
        body["error"]["message"].as_str().unwrap_or_default(),
    )
}

async fn send(rig: &Rig, path: &str, body: impl Into<reqwest::Body>) -> Response {
    let request = rig.request("POST", path, &rig.admin);
    let request = request
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    request.body(body).send().await.unwrap()
}

#[tokio::test]
async fn every_surface_refuses_what_is_no_strict_json() {
    let rig = Rig::start().await;
    let deep = "[".repeat(10_000);
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("malformed", b"{\"a\":".to_vec(), "malformed_json"),
        ("empty", Vec::new(), "malformed_json"),
        ("no UTF-8", b"{\"a\":\"\xff\"}".to_vec(), "malformed_json"),
        ("deep", deep.into_bytes(), "json_too_deep"),
        (
            "twice",
            br#"{"jsonrpc":"2.0","jsonrpc":"2.0","model":"stub","name":"n"}"#.to_vec(),
            "duplicate_key",
        ),
    ];
    for (path, read) in SURFACES {
        for (what, body, code) in &cases {
            let response = send(&rig, path, body.clone()).await;
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            let parsed: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path} {what}: {text}"));
            let (found, message) = read(&parsed);
            assert_eq!((status, found), (400, *code), "{path} {what}: {text}");
            assert!(
                !message.is_empty() && !text.contains("panicked") && !text.contains(".rs:"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn every_surface_refuses_a_body_of_20_mb() {
    let rig = Rig::start().await;
    for (path, read) in SURFACES {
        let stated = send(&rig, path, vec![b' '; LARGE]).await;
        assert_eq!(stated.status(), 413, "{path}");
        assert_eq!(read(&stated.json().await.unwrap()).0, "body_too_large", "{path}");
        let pieces = futures_util::stream::iter((0..LARGE >> 16).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 16])));
        let unstated = rig
            .request("POST", path, &rig.admin)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(reqwest::Body::wrap_stream(pieces))
            .send()
            .await;
        // The gateway answers before it has read all; a client may see the answer or the closed connection.
        if let Ok(response) = unstated {
            assert_eq!(response.status(), 413, "{path}");
        }
    }
    assert_eq!(rig.get("/livez").await.status(), 200);
}

#[tokio::test]
async fn strangers_are_refused_on_every_route() {
    let rig = Rig::start().await;
    for route in forebay_server::http::ROUTES {
        let path = route.path.replace("{id}", "x");
        for (header, value, code) in [
            ("host", "evil.example", "host_not_allowed"),
            ("origin", "https://evil.example", "origin_not_allowed"),
            ("origin", "null", "origin_not_allowed"),
        ] {
            let response = rig
                .request(route.method, &path, &rig.admin)
                .header(header, value)
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 403, "{} {path} {header}: {value}", route.method);
            let text = response.text().await.unwrap();
            assert!(text.contains(code), "{} {path}: {text}", route.method);
        }
    }
    let preflight = |origin: &'static str| {
        rig.request("OPTIONS", "/mcp", "")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "x-api-key, content-type")
            .send()
    };
    let known = preflight("http://localhost:5173").await.unwrap();
    assert_eq!(known.headers()["access-control-allow-origin"], "http://localhost:5173");
    let stranger = preflight("https://evil.example").await.unwrap();
    assert_eq!(stranger.status(), 403);
    assert!(!stranger.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn unknown_routes_methods_and_types_are_said_in_the_dialect_of_their_path() {
    let rig = Rig::start().await;
    let unknown = rig.get("/v1/nothing").await;
    assert_eq!(unknown.status(), 404);
    let body: Value = unknown.json().await.unwrap();
    assert_eq!(body["error"]["code"], "route_not_found");
    let body: Value = rig.get("/nothing").await.json().await.unwrap();
    assert_eq!(body["code"], "route_not_found");
    let wrong = rig.request("PUT", "/v1/models", &rig.admin).send().await.unwrap();
    assert_eq!(
        (wrong.status().as_u16(), wrong.headers()["allow"].to_str().unwrap()),
        (405, "GET,HEAD")
    );
    let typed = rig
        .request("POST", "/api/v1/keys", &rig.admin)
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(typed.status(), 415);
    let unfit = rig
        .post(
            "/api/v1/keys",
            &rig.admin,
            &json!({"name": "n", "role": "user", "rolle": 1}),
        )
        .await;
    assert_eq!(unfit.status(), 400);
    let body: Value = unfit.json().await.unwrap();
    assert!(
        body["detail"].as_str().unwrap().contains("rolle") && body["hint"].is_string(),
        "{body}"
    );
    for (field, value) in [
        ("role", json!("root")),
        ("grants", json!(["a b"])),
        ("tenant", json!("")),
        ("expires_in_s", json!(0)),
    ] {
        let mut wanted = json!({"name": "n", "role": "user"});
        wanted[field] = value;
        let body: Value = rig
            .post("/api/v1/keys", &rig.admin, &wanted)
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(
            (body["code"].as_str(), body["details"]["field"].as_str()),
            (Some("invalid_request"), Some(field))
        );
    }
    for query in ["?limit=x", "?lim=1", "?after=%20", "?tenant=a%20b"] {
        assert_eq!(rig.get(&format!("/api/v1/keys{query}")).await.status(), 400, "{query}");
    }
    for query in ["?after=nonsense", "?trace=1", "?limit=-1"] {
        assert_eq!(
            rig.get(&format!("/api/v1/events{query}")).await.status(),
            400,
            "{query}"
        );
    }
    for query in [
        "",
        "?action=x",
        "?action=tool:x&trace=1",
        "?trace=00000000000000000000000000000000",
    ] {
        assert_eq!(
            rig.get(&format!("/api/v1/explain{query}")).await.status(),
            400,
            "{query}"
        );
    }
}
