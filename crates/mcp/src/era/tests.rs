//! The tables of eras and headers.

use super::*;
use crate::envelope::Id;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// Headers as `name: value` lines; the outcome in one word or as a code.
fn check(headers: &str, method: &str, params: &str) -> String {
    let mut map = HeaderMap::new();
    for line in headers.split(';').filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let name: HeaderName = name.trim().parse().unwrap();
        map.append(name, HeaderValue::from_str(value.trim()).unwrap());
    }
    let request = Request {
        id: Id::parse("1").unwrap(),
        method: method.to_owned(),
        params: Some(Bytes::from(format!("{{{params}}}"))),
    };
    let params = Params::read(request.params.as_ref()).unwrap();
    match decide(&map, &request, &params) {
        Ok(Era::Handshake) => "handshake".to_owned(),
        Ok(Era::Legacy) => "legacy".to_owned(),
        Ok(Era::Modern(version)) => version.as_str().to_owned(),
        Err(refusal) => format!("{} {}", refusal.status.as_u16(), refusal.failure.code),
    }
}

#[test]
fn the_era_follows_from_method_header_and_body() {
    let v = "MCP-Protocol-Version";
    let modern = "MCP-Protocol-Version: 2026-07-28; Mcp-Method: tools/list";
    for (headers, method, params, expected) in [
        (
            String::new(),
            "initialize",
            r#""protocolVersion":"2025-11-25""#,
            "handshake",
        ),
        (
            String::new(),
            "initialize",
            r#""protocolVersion":"1999-01-01""#,
            "handshake",
        ),
        (
            format!("{v}: 2025-06-18"),
            "initialize",
            r#""protocolVersion":"2025-11-25""#,
            "400 header_mismatch",
        ),
        (
            "Mcp-Method: tools/list".to_owned(),
            "initialize",
            "",
            "400 header_mismatch",
        ),
        (String::new(), "tools/list", "", "legacy"),
        (format!("{v}: 2025-11-25"), "tools/list", "", "legacy"),
        (
            format!("{v}: 2025-11-25; Mcp-Method: tools/call"),
            "tools/list",
            "",
            "400 header_mismatch",
        ),
        (modern.to_owned(), "tools/list", META, "2026-07-28"),
        (modern.to_owned(), "tools/list", "", "400 invalid_params"),
        (String::new(), "tools/list", META, "400 header_mismatch"),
        (String::new(), "server/discover", "", "400 invalid_params"),
        (format!("{v}: 2026-07-28"), "tools/list", META, "400 header_mismatch"),
        (
            format!("{v}: 2026-07-28; Mcp-Method: tools/call"),
            "tools/list",
            META,
            "400 header_mismatch",
        ),
        (
            format!("{modern}; Mcp-Method: tools/list"),
            "tools/list",
            META,
            "400 header_mismatch",
        ),
        (
            format!("{v}: 2025-11-25; Mcp-Method: tools/list"),
            "tools/list",
            META,
            "400 header_mismatch",
        ),
        (
            format!("{v}: 1900-01-01"),
            "tools/list",
            "",
            "400 unsupported_protocol_version",
        ),
        (
            format!("{v}: 1900-01-01; Mcp-Method: tools/list"),
            "tools/list",
            r#""_meta":{"io.modelcontextprotocol/protocolVersion":"1900-01-01"}"#,
            "400 unsupported_protocol_version",
        ),
        (
            format!("{v}: 2025-11-25; Mcp-Method: tools/list"),
            "tools/list",
            r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}"#,
            "400 unsupported_protocol_version",
        ),
        (
            modern.to_owned(),
            "tools/list",
            r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
            "400 invalid_params",
        ),
        (
            modern.to_owned(),
            "tools/list",
            r#""_meta":{"io.modelcontextprotocol/protocolVersion":7}"#,
            "400 invalid_params",
        ),
    ] {
        assert_eq!(
            check(&headers, method, params),
            expected,
            "{headers} | {method} | {params}"
        );
    }
}

#[test]
fn a_handshake_that_says_that_it_is_modern_is_a_method_like_any_other() {
    let headers = "MCP-Protocol-Version: 2026-07-28; Mcp-Method: initialize";
    assert_eq!(check(headers, "initialize", META), "2026-07-28");
}

#[test]
fn the_name_header_repeats_the_target() {
    let start = "MCP-Protocol-Version: 2026-07-28; Mcp-Method";
    for (headers, method, target, expected) in [
        ("Mcp-Name: add", "tools/call", r#""name":"add""#, "2026-07-28"),
        ("Mcp-Name: sub", "tools/call", r#""name":"add""#, "400 header_mismatch"),
        ("", "tools/call", r#""name":"add""#, "400 header_mismatch"),
        (
            "Mcp-Name: add; Mcp-Name: add",
            "tools/call",
            r#""name":"add""#,
            "400 header_mismatch",
        ),
        ("Mcp-Name: =?base64?w6Q=?=", "tools/call", r#""name":"ä""#, "2026-07-28"),
        (
            "Mcp-Name: =?base64?!?=",
            "tools/call",
            r#""name":"ä""#,
            "400 header_mismatch",
        ),
        (
            "Mcp-Name: forebay://status",
            "resources/read",
            r#""uri":"forebay://status""#,
            "2026-07-28",
        ),
        (
            "Mcp-Name: forebay://models",
            "resources/read",
            r#""uri":"forebay://status""#,
            "400 header_mismatch",
        ),
        ("", "resources/list", r#""uri":"ignored""#, "2026-07-28"),
    ] {
        let params = format!("{target},{META}");
        assert_eq!(
            check(&format!("{start}: {method}; {headers}"), method, &params),
            expected,
            "{headers} {target}"
        );
    }
}

#[test]
fn versions_are_negotiated() {
    for (asked, answered) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("soon", "2025-11-25"),
    ] {
        assert_eq!(Version::negotiate(asked).as_str(), answered, "{asked}");
    }
}
