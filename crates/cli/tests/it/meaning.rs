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
fn what_a_turn_may_not_have_is_refused_where_it_stands() {
    check(
        "turns:\n  rounds_max: 8\n  calls_max: 1001",
        "3:3: `turns.calls_max`: expected a whole number from 1 to 1000, found 1001",
    );
    let words = refused("turns: {tainted: {deny: [effect:write, '!gpu:*']}}", &[]);
    assert!(
        words.contains("1:40: `turns.tainted.deny[1]`: is no action; one looks like"),
        "{words}"
    );
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
fn all_that_is_wrong_with_providers_and_tools_is_told_where_it_stands() {
    let yaml = "mcp:\n  providers:\n    facts:\n      type: postgresql\n      config: {host: db}\n    \
                pages:\n      type: rest\n      config: {path: /x}\n  tools:\n    bell:\n      \
                endpoint: {url: 'https://a.example'}\n    file_reader:\n      config:\n        allowed_paths: [/no/such]";
    let (sources, _data) = sources(yaml, &[]);
    let told = sources.load().err().unwrap().to_string();
    for line in [
        "5:7: `mcp.providers.facts.config.database`: ",
        "8:7: `mcp.providers.pages.config.base_url`: ",
        "10:5: `mcp.tools.bell`: it needs a `description`",
        "12:5: `mcp.tools.file_reader`: /no/such cannot be found",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert_eq!(told.matches("`mcp.").count(), 4, "{told}");
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

#[test]
fn an_upstream_that_could_not_be_reached_is_refused_where_it_stands() {
    let one = |upstream: &str| format!("upstreams:\n  docs: {{{upstream}}}");
    for (upstream, problem) in [
        ("timeout_s: 5", "it needs either `command` or `url`, and not both"),
        (
            "command: a, url: 'http://a'",
            "it needs either `command` or `url`, and not both",
        ),
        ("url: 'ftp://a'", "`url` must begin with http:// or https://"),
        (
            "command: a, headers: {x: one}",
            "`auth`, `headers` and `protocol: sse` are for servers with a `url`",
        ),
        (
            "url: 'http://a', headers: {mcp-x: one}",
            "the header `mcp-x` is set by the gateway",
        ),
    ] {
        check(&one(upstream), &format!("2:3: `upstreams.docs`: {problem}"));
    }
    let words = refused("upstreams:\n  a__b: {command: a}\n  tasks: {command: a}", &[]);
    assert!(words.contains("2:3: `upstreams.a__b`: "), "{words}");
    assert!(
        words.contains("3:3: `upstreams.tasks`: this name belongs to the gateway itself"),
        "{words}"
    );
    let words = refused(&one("url: 'http://me:hunter2@a'"), &[]);
    assert!(
        words.contains("must not hold a password") && !words.contains("hunter2"),
        "{words}"
    );
    check(
        &one("url: 'http://a', timeouts_s: 5"),
        "2:27: `upstreams.docs.timeouts_s`: there is no such key\n    Did you mean `timeout_s`?",
    );
    let auth = |auth: &str| one(&format!("url: 'http://a', auth: {{{auth}}}"));
    check(
        &auth("bearer: hunter2"),
        "2:34: `upstreams.docs.auth.bearer`: expected a reference to a secret, `{env: NAME}` or `{file: PATH}`, \
         found text",
    );
    for (name, written) in [
        ("none", "bearrer: {env: PATH}"),
        ("two", "bearer: {env: A}, oauth: {client_id: a}"),
    ] {
        let words = refused(&auth(written), &[("A", "x")]);
        let expected = "2:27: `upstreams.docs.auth`: expected exactly one of the keys `bearer`, `header`, `oauth`";
        assert!(words.contains(expected), "{name}: {words}");
    }
}

#[test]
fn a_secret_of_an_upstream_is_missed_at_its_own_key() {
    for (upstream, key) in [
        ("url: 'http://a', auth: {bearer: {env: UNSET}}", "auth.bearer"),
        (
            "url: 'http://a', auth: {header: {name: x, value: {env: UNSET}}}",
            "auth.header.value",
        ),
        (
            "url: 'http://a', auth: {oauth: {client_id: a, client_secret: {env: UNSET}}}",
            "auth.oauth.client_secret",
        ),
        ("command: a, env: {TOKEN: {env: UNSET}, PLAIN: text}", "env.TOKEN"),
    ] {
        let yaml = format!("upstreams: {{docs: {{{upstream}}}}}");
        let (sources, _data) = sources(&yaml, &[]);
        assert!(sources.load_without_secrets().is_ok(), "{yaml}");
        let words = refused(&yaml, &[]);
        assert!(words.starts_with("The configuration has a mistake:"), "{words}");
        assert!(
            words.contains(&format!(
                "`upstreams.docs.{key}`: environment variable UNSET is not set"
            )),
            "{words}"
        );
    }
}

#[test]
fn the_files_of_an_upstreams_secrets_are_followed() {
    let yaml = "upstreams: {docs: {url: 'http://a', auth: {bearer: {file: token}}}}";
    let (sources, data) = sources(yaml, &[]);
    let token = data.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    std::fs::write(
        data.path().join("forebay.yaml"),
        yaml.replace("file: token", &format!("file: '{}'", token.display())),
    )
    .unwrap();
    let loaded = sources.load().map_err(|mistakes| mistakes.to_string()).unwrap();
    assert_eq!(loaded.files(), [token]);
}
