//! Which configurations of a provider can be used, and what is said of the others.

use super::*;
use serde_json::json;

#[expect(clippy::needless_pass_by_value, reason = "rows of a table read better")]
fn check(origin: Origin, kind: &str, config: Value, expected: Result<(), &str>) {
    let reader = SecretReader::new(|name| match name {
        "DB_CREDENTIALS" => Some("reader:s3cret".to_owned()),
        "PASSWORD" => Some("s3cret".to_owned()),
        "API_TOKEN" | "FOREBAY_PROVIDER_TOKEN" => Some("tok".to_owned()),
        "NO_LOGIN" => Some(r#"{"token": "s3cret"}"#.to_owned()),
        "BROKEN" => Some("a\u{1}b".to_owned()),
        _ => None,
    });
    let whole = json!({ "type": kind, "config": config });
    let config: ProviderConfig = serde_json::from_value(whole.clone()).unwrap();
    match (parse("p", &config, origin, &reader, None), expected) {
        (Ok(settings), Ok(())) => {
            let shown = format!("{settings:?}");
            assert!(!shown.contains("s3cret") && !shown.contains("tok\""), "{shown}");
        }
        (Err(failure), Err(expected)) => {
            assert!(failure.message.contains(expected), "{whole}: {}", failure.message);
            assert!(!failure.message.contains("s3cret"), "{}", failure.message);
        }
        (found, _) => panic!("{whole}: {found:?}"),
    }
}

fn file(kind: &str, config: Value, expected: Result<(), &str>) {
    check(Origin::File, kind, config, expected);
}

#[test]
fn postgresql() {
    let with = |more: Value| {
        let mut all = json!({ "host": "db", "database": "d", "credentials": { "secret_name": "db-credentials" } });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    file("postgresql", with(json!({})), Ok(()));
    file(
        "postgresql",
        json!({ "host": "db", "database": "d", "user": "u", "password": { "env": "PASSWORD" } }),
        Ok(()),
    );
    file("postgresql", json!({ "host": "db", "database": "d" }), Ok(()));
    file(
        "postgresql",
        json!({ "host": "db", "database": "d", "password": { "env": "PASSWORD" } }),
        Err("mcp.providers.p.config.user: is needed, here or in the secret"),
    );
    file(
        "postgresql",
        json!({ "host": "db", "database": "d", "credentials": { "secret_name": "no-login" } }),
        Err("mcp.providers.p.config.user: is needed, here or in the secret"),
    );
    file(
        "postgresql",
        with(json!({ "password": { "env": "PASSWORD" } })),
        Err("two ways to say the same"),
    );
    file(
        "postgresql",
        with(json!({ "query": "SELECT 1" })),
        Err("config.query: has no `$1`"),
    );
    file(
        "postgresql",
        with(json!({ "query": "SELECT $1", "tables": ["a"] })),
        Err("two ways to look"),
    );
    file(
        "postgresql",
        with(json!({ "vector_query": "SELECT $1" })),
        Err("needs an `embedding_model`"),
    );
    file(
        "postgresql",
        with(json!({ "embedding_model": "m", "query": "SELECT $1" })),
        Err("of no use beside `query` without a `vector_query`"),
    );
    file("postgresql", with(json!({ "embedding_model": "m" })), Ok(()));
    file("postgresql", with(json!({ "tables": [" "] })), Err("has an empty name"));
    file(
        "postgresql",
        with(json!({ "collection": "c" })),
        Err("a provider of type `postgresql` has no such key"),
    );
    let missing = json!({ "host": "db", "database": "d", "credentials": { "secret_name": "nowhere" } });
    file(
        "postgresql",
        missing,
        Err("config.credentials: the secret `nowhere` is nowhere"),
    );
    file(
        "postgresql",
        with(json!({ "timeout_ms": 999_999 })),
        Err("config.timeout_ms: is at most 120000"),
    );
}

#[test]
fn rest() {
    let at = "https://api.example.com/v1";
    file(
        "rest",
        json!({ "base_url": at, "auth": { "type": "bearer", "secret_name": "api-token" } }),
        Ok(()),
    );
    file(
        "rest",
        json!({ "base_url": at, "path": "/find", "body": { "q": "{query}" } }),
        Ok(()),
    );
    file(
        "rest",
        json!({ "base_url": at, "path": "/all" }),
        Err("config.path: has no `{query}`"),
    );
    file(
        "rest",
        json!({ "base_url": at, "path": "/a?q={words}" }),
        Err("knows no `{words}`"),
    );
    file(
        "rest",
        json!({ "base_url": "https://u:s3cret@h/" }),
        Err("must not hold a password"),
    );
    file("rest", json!({ "base_url": "ftp://h/" }), Err("must begin with http"));
    file("rest", json!({}), Err("config.base_url: is needed"));
    file(
        "rest",
        json!({ "base_url": at, "items": "results" }),
        Err("is a JSON pointer"),
    );
    file(
        "rest",
        json!({ "base_url": at, "headers": { "x-key": { "env": "BROKEN" } } }),
        Err("`x-key` cannot be sent"),
    );
    file(
        "rest",
        json!({ "base_url": at, "headers": { "host": "evil" } }),
        Err("is set by the gateway"),
    );
    file(
        "rest",
        json!({ "base_url": at, "auth": { "type": "bearer" } }),
        Err("needs either `secret_name` or `token`"),
    );
    let named = json!({ "base_url": at, "headers": { "x-key": { "secret_name": "api-token" }, "x-a": "b" } });
    file("rest", named, Ok(()));
}

#[test]
fn chroma_files_and_mcp() {
    file(
        "chroma",
        json!({ "host": "localhost", "port": 8000, "collection": "documents" }),
        Ok(()),
    );
    file("chroma", json!({ "host": "::1", "collection": "documents" }), Ok(()));
    file(
        "chroma",
        json!({ "host": "a/b", "collection": "c" }),
        Err("config.host: is no host name"),
    );
    file(
        "chroma",
        json!({ "host": "u:p@h", "collection": "c" }),
        Err("config.host: is no host name"),
    );
    file(
        "chroma",
        json!({ "host": "h", "collection": "c", "tenant": ".." }),
        Err("config.tenant: is no name"),
    );
    file("chroma", json!({ "host": "h" }), Err("config.collection: is needed"));
    file("files", json!({ "folder": "/srv/docs", "extensions": [".MD"] }), Ok(()));
    file("files", json!({}), Err("config.folder: is needed"));
    file(
        "files",
        json!({ "folder": "/srv", "passage_bytes_max": 10 }),
        Err("must be from 200 to 8000"),
    );
    file(
        "mcp",
        json!({ "tool": "docs__search", "arguments": { "n": 5 } }),
        Ok(()),
    );
    file("mcp", json!({ "uri": "docs://search/{query}" }), Ok(()));
    file(
        "mcp",
        json!({ "tool": "a", "uri": "b" }),
        Err("or `uri` is needed, and not both"),
    );
    file("mcp", json!({ "uri": "b", "argument": "q" }), Err("is for a `tool`"));
}

#[test]
fn what_comes_over_the_api_may_less() {
    let api = |kind, config, expected| check(Origin::Api, kind, config, expected);
    api("files", json!({ "folder": "/etc" }), Err("cannot be set over the API"));
    let token = |reference: Value| json!({ "base_url": "https://h", "auth": { "type": "bearer", "token": reference } });
    api(
        "rest",
        token(json!({ "env": "API_TOKEN" })),
        Err("may not be read for a provider that is registered"),
    );
    api(
        "rest",
        token(json!({ "file": "/etc/passwd" })),
        Err("may not be read for a provider that is registered"),
    );
    api("rest", token(json!({ "env": "FOREBAY_PROVIDER_TOKEN" })), Ok(()));
    let named = json!({ "base_url": "https://h", "auth": { "type": "bearer", "secret_name": "api-token" } });
    api("rest", named, Err("is nowhere"));
}

#[test]
fn a_name_is_one_that_a_grant_can_name() {
    let config: ProviderConfig = serde_json::from_value(json!({ "type": "mcp", "config": { "tool": "t" } })).unwrap();
    let reader = SecretReader::new(|_| None);
    for bad in ["", "a b", "a/b", "*", "..", "ü", &"x".repeat(65)] {
        let failure = parse(bad, &config, Origin::File, &reader, None).unwrap_err();
        assert!(
            failure.message.contains("is no name for a provider"),
            "{}",
            failure.message
        );
    }
    for good in ["postgres-db", "vector_store", "v1.2"] {
        assert!(parse(good, &config, Origin::File, &reader, None).is_ok());
    }
}

#[test]
fn a_new_secret_is_a_change() {
    let config = json!({ "type": "rest", "config": { "base_url": "https://h",
        "auth": { "type": "bearer", "token": { "env": "T" } } } });
    let config: ProviderConfig = serde_json::from_value(config).unwrap();
    let with = |token: &'static str| {
        let reader = SecretReader::new(move |_| Some(token.to_owned()));
        parse("p", &config, Origin::File, &reader, None).unwrap()
    };
    assert!(with("one").is_same(&with("one")));
    assert!(!with("one").is_same(&with("two")));
}
