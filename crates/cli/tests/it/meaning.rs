//! Configurations that are well written, and that the parts behind them refuse: with a line, before anything is started.

use crate::config::{check, refused, sources};

#[test]
fn an_address_that_is_not_of_the_web_is_refused() {
    check(
        "server: {public_url: 'mailto:me@example.com'}",
        "1:10: `server.public_url`: must begin with http:// or https://, not mailto:",
    );
    check(
        "telemetry:\n  otlp:\n    endpoint: ftp://a",
        "3:5: `telemetry.otlp.endpoint`: must begin with http:// or https://, not ftp:",
    );
    check(
        "auth: {jwt: {issuer: a, audience: b, jwks_url: 'file:///etc/keys'}}",
        "1:38: `auth.jwt.jwks_url`: must begin with http:// or https://, not file:",
    );
    let words = refused("telemetry: {otlp: {endpoint: 'http://me:hunter2@a'}}", &[]);
    assert!(
        words.contains("1:20: `telemetry.otlp.endpoint`: must not contain"),
        "{words}"
    );
    assert!(!words.contains("hunter2"), "{words}");
}

#[test]
fn a_header_has_to_be_one() {
    let otlp = |headers: &str| format!("telemetry: {{otlp: {{endpoint: 'http://a', headers: {headers}}}}}");
    let words = refused(&otlp("{'two words': {env: KEY}}"), &[("KEY", "x")]);
    assert!(
        words.contains("`telemetry.otlp.headers.two words`: it is no name of a header"),
        "{words}"
    );
    let words = refused(&otlp("{a: {env: KEY}}"), &[("KEY", "x\ny")]);
    assert!(
        words.contains("`telemetry.otlp.headers.a`: environment variable KEY holds characters"),
        "{words}"
    );
}

#[test]
fn an_origin_is_refused_where_it_stands() {
    check(
        "auth:\n  origins:\n    - https://app.example.com\n    - app.example.com",
        "4:7: `auth.origins[1]`: it is no web origin\n    \
         A web origin looks like `https://app.example.com` or `http://localhost:*`.",
    );
}

#[test]
fn tokens_that_could_not_be_verified_are_refused_at_their_section() {
    let jwt = |rest: &str| format!("auth:\n  jwt: {{issuer: a, audience: b{rest}}}");
    let url = "jwks_url: 'https://a/keys'";
    check(
        &jwt(""),
        "2:3: `auth.jwt`: `auth.jwt` needs exactly one of `jwks_url`, `jwks_file` and `secret`",
    );
    let words = refused(&jwt(&format!(", {url}, algorithms: [HS256]")), &[]);
    assert!(
        words.contains("2:3: `auth.jwt`: `auth.jwt.algorithms` does not fit the keys"),
        "{words}"
    );
    let words = refused(&jwt(", jwks_file: /no/such"), &[]);
    assert!(
        words.contains("2:3: `auth.jwt`: `auth.jwt.jwks_file` cannot be read"),
        "{words}"
    );
    let words = refused(&jwt(", secret: {env: KEY}"), &[("KEY", "short")]);
    assert!(
        words.contains("2:3: `auth.jwt`: `auth.jwt.secret` is too weak"),
        "{words}"
    );
    // One mistake is not told twice, nor as the lack of what it is about.
    for yaml in [
        jwt(", secret: {env: KEY}"),
        jwt(", secret: hunter2"),
        jwt(", jwks_url: 5"),
    ] {
        let words = refused(&yaml, &[]);
        assert!(words.starts_with("The configuration has a mistake:"), "{words}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_refused_where_it_stands() {
    check(
        "tools: {file_reader: {allowed_paths: [/, /no/such]}}",
        "1:42: `tools.file_reader.allowed_paths[1]`: /no/such cannot be found\n    \
         Name folders that exist and that the gateway may read.",
    );
}

#[test]
fn what_needs_no_machine_is_checked_without_it() {
    for yaml in [
        "server: {public_url: 'mailto:me@example.com'}",
        "telemetry: {otlp: {endpoint: 'ftp://a', headers: {a: {env: UNSET}}}}",
        "auth: {origins: [app.example.com]}",
        "auth: {jwt: {issuer: '', audience: b, jwks_url: 'https://a/keys'}}",
        "store: {url: 'mysql://a', password: {env: UNSET}}",
        "models: {a: {backends: [{url: 'ftp://a', api_key: {env: UNSET}}]}}",
    ] {
        let (sources, _data) = sources(yaml, &[]);
        let mistakes = sources.load_without_secrets().err().expect(yaml).list;
        assert_eq!(mistakes.len(), 1, "{yaml}: {mistakes:?}");
    }
    for yaml in [
        "auth: {jwt: {issuer: a, audience: b, secret: {env: UNSET}}}",
        "auth: {jwt: {issuer: a, audience: b, jwks_file: /no/such}}",
        "store: {url: 'postgres://a', password: {env: UNSET}}",
        "models: {a: {backends: [{url: 'http://a', api_key: {file: /no/such}}]}}",
        "tools: {file_reader: {allowed_paths: [/no/such]}}",
    ] {
        let (sources, _data) = sources(yaml, &[]);
        assert!(sources.load_without_secrets().is_ok(), "{yaml}");
        assert!(sources.load().is_err(), "{yaml}");
    }
}
