//! What is read, and that writing changes nothing but `_meta`.

use super::*;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn check(text: &str) -> Vec<String> {
    let mut seen = Vec::new();
    read(text.as_bytes(), |arrived| {
        seen.push(match arrived {
            Ok(Arrived::Answer {
                id,
                outcome: Ok(result),
            }) => format!("result {id:?} {result}"),
            Ok(Arrived::Answer {
                id,
                outcome: Err(error),
            }) => {
                let data = error.data.map(|data| data.to_string());
                format!("error {id:?} {} {} {data:?}", error.code, error.message)
            }
            Ok(Arrived::Request { id, method, params }) => format!("request {id} {method} {params:?}"),
            Ok(Arrived::Notification { method, params }) => {
                format!("notification {method} {:?}", params.map(|params| params.to_string()))
            }
            Err(unreadable) => format!("unreadable {:?}", unreadable.id),
        });
    });
    seen
}

#[test]
fn what_an_upstream_says_is_sorted_and_its_bytes_are_kept() {
    for (text, expected) in [
        (
            r#"{"jsonrpc":"2.0","id":7,"result":{"a": 1.0,"x":[ ]},"extra":1}"#,
            r#"result Some(7) {"a": 1.0,"x":[ ]}"#,
        ),
        (r#" {"result":{},"jsonrpc":"2.0","id":"7"}"#, "result None {}"),
        (
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no","data":{"k": 1}}}"#,
            r#"error None -32000 no Some("{\"k\": 1}")"#,
        ),
        (r#"{"jsonrpc":"2.0","error":{"code":-1}}"#, "error None -1  None"),
        (
            r#"{"jsonrpc":"2.0","id":"q","method":"ping"}"#,
            "request \"q\" ping None",
        ),
        (
            r#"{"jsonrpc":"2.0","method":"n","params":{"b":2}}"#,
            r#"notification n Some("{\"b\":2}")"#,
        ),
    ] {
        assert_eq!(check(text), [expected], "{text}");
    }
    assert_eq!(
        check(r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","method":"n"},7]"#),
        ["result Some(1) {}", "notification n None", "unreadable None"]
    );
}

#[test]
fn what_cannot_be_used_names_its_request_where_it_can() {
    for (text, id) in [
        (r#"{"jsonrpc":"2.0","id":3,"result":{"a":1,"a":2}}"#, Some(3)),
        (r#"{"result":{"a":1,"a":2},"jsonrpc":"2.0","id": 4 }"#, Some(4)),
        (r#"{"jsonrpc":"2.0","id":5,"result":[]}"#, Some(5)),
        (r#"{"jsonrpc":"2.0","id":5,"result":null}"#, Some(5)),
        (r#"{"jsonrpc":"1.0","id":6,"result":{}}"#, Some(6)),
        (
            r#"{"jsonrpc":"2.0","id":6,"result":{},"error":{"code":1,"message":""}}"#,
            Some(6),
        ),
        (r#"{"jsonrpc":"2.0","id":8,"error":"odd"}"#, Some(8)),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, None),
        ("Listening on port 3000", None),
        ("7", None),
        ("", None),
        (&format!("[{}]", vec!["{}"; 300].join(",")), None),
    ] {
        let start: String = text.chars().take(70).collect();
        assert_eq!(check(text), [format!("unreadable {id:?}")], "{start}");
    }
}

const MODERN_META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"f"},"io.modelcontextprotocol/clientCapabilities":{}"#;

fn check_params(params: Option<&str>, stamp: &Stamp<'_>, expected: &str) {
    let params = params.map(raw);
    let written = request(9, "tools/call", params.as_deref(), stamp);
    let expected = format!(r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{expected}}}"#);
    assert_eq!(std::str::from_utf8(&written).unwrap(), expected, "{params:?}");
}

#[test]
fn a_legacy_request_is_left_alone_but_for_what_belongs_to_one_hop() {
    let plain = Stamp::default();
    check_params(None, &plain, "{}");
    check_params(
        Some(r#"{ "name" : "x", "n": 1.0 }"#),
        &plain,
        r#"{ "name" : "x", "n": 1.0 }"#,
    );
    check_params(
        Some(r#"{"name":"x","_meta":{"mine": [1 ]}, "z":1}"#),
        &plain,
        r#"{"name":"x","_meta":{"mine": [1 ]}, "z":1}"#,
    );
    check_params(
        Some(
            r#"{"name":"x","_meta":{"progressToken":"t","mine": [1 ],"io.modelcontextprotocol/logLevel":"debug"}, "z":1}"#,
        ),
        &plain,
        r#"{"name":"x","_meta":{"mine":[1 ]}, "z":1}"#,
    );
    check_params(
        Some(r#"{"name":"x","_meta":{"progressToken":"t"},"z":1}"#),
        &Stamp {
            progress: Some(9),
            ..plain
        },
        r#"{"name":"x","_meta":{"progressToken":9},"z":1}"#,
    );
    check_params(
        Some(r#"{"\u005fmeta":{"progressToken":"t"}}"#),
        &plain,
        r#"{"\u005fmeta":{}}"#,
    );
    check_params(
        Some(r#" {"name":"\"_meta\""}"#),
        &Stamp {
            trace: Some("00-a-b-01"),
            ..plain
        },
        r#"{"_meta":{"traceparent":"00-a-b-01"},"name":"\"_meta\""}"#,
    );
}

#[test]
fn a_modern_request_carries_our_version_and_never_the_callers() {
    let (info, caps) = (raw(r#"{"name":"f"}"#), raw("{}"));
    let stamp = Stamp {
        modern: Some(Modern {
            version: Version::V2026_07_28,
            client_info: &info,
            capabilities: &caps,
            log_level: None,
        }),
        ..Stamp::default()
    };
    check_params(None, &stamp, &format!(r#"{{"_meta":{{{MODERN_META}}}}}"#));
    check_params(Some("{ }"), &stamp, &format!(r#"{{"_meta":{{{MODERN_META}}} }}"#));
    check_params(
        Some(r#"{"name":"x","_meta":{"io.modelcontextprotocol/protocolVersion":"1999-01-01","mine":2}}"#),
        &stamp,
        &format!(r#"{{"name":"x","_meta":{{"mine":2,{MODERN_META}}}}}"#),
    );
}

#[test]
fn a_caller_wants_progress_where_it_named_a_token() {
    for (params, expected) in [
        (r#"{"_meta":{"progressToken":0}}"#, true),
        (r#"{"_meta":{}}"#, false),
        (r#"{"arguments":{"_meta":{"progressToken":0}}}"#, false),
        (r#"{"_meta":7}"#, false),
    ] {
        assert_eq!(wants_progress(Some(&raw(params))), expected, "{params}");
    }
    assert!(!wants_progress(None));
}

#[test]
fn an_error_ends_after_some_kilobytes() {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-1,"message":"x{}"}}}}"#,
        "é".repeat(1 << 20)
    );
    let mut seen = Vec::new();
    read(text.as_bytes(), |arrived| seen.push(arrived));
    let Some(Ok(Arrived::Answer {
        outcome: Err(error), ..
    })) = seen.pop()
    else {
        panic!("an error")
    };
    assert_eq!(error.message, format!("x{}…", "é".repeat(4095)));
}
