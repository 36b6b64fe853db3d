//! The section as the seed and others write it.

use super::*;
use serde_json::json;
use std::time::Duration;

fn read(value: Value) -> Result<Config, String> {
    serde_json::from_value(value).map_err(|fault| fault.to_string())
}

#[test]
fn a_list_and_a_map_in_either_spelling_are_the_same() {
    let list = json!({ "providers": [
        { "name": "database", "type": "postgresql", "config": {
            "host": "localhost", "port": 5432, "database": "ai_context", "credentials": { "secret_name": "db" } } },
        { "name": "api", "type": "rest", "config": {
            "base_url": "https://api.example.com", "auth": { "type": "bearer", "secret_name": "api-token" } } },
        { "name": "vector_store", "type": "chroma", "config": {
            "host": "localhost", "port": 8000, "collection": "documents" } },
    ], "context": {
        "max_length": 8192, "retrieval_strategy": "semantic_search", "cache_enabled": true, "cache_ttl": "1h" } });
    let map = json!({ "providers": {
        "database": { "type": "postgresql", "config": {
            "host": "localhost", "port": 5432, "database": "ai_context", "credentials": { "secretName": "db" } } },
        "api": { "type": "rest", "config": {
            "baseUrl": "https://api.example.com", "auth": { "type": "bearer", "secretName": "api-token" } } },
        "vector_store": { "type": "chroma", "name": "vector_store", "config": {
            "host": "localhost", "port": 8000, "collection": "documents" } },
    }, "context": {
        "maxLength": 8192, "retrievalStrategy": "semantic_search", "cacheEnabled": true, "cacheTTL": "1h" } });
    let (list, map) = (read(list).unwrap(), read(map).unwrap());
    assert_eq!(list, map);
    assert_eq!(list.providers.0.len(), 3);
    assert_eq!(list.context.cache_ttl, Ttl(Duration::from_hours(1)));
    assert_eq!(list.context.max_length.get(), 8192);
    // What is written back is read again.
    let written = serde_json::to_value(&list).unwrap();
    assert_eq!(read(written).unwrap(), list);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let check = |value: Value, expected: &str| {
        let fault = read(value).unwrap_err();
        assert!(fault.contains(expected), "{fault}");
    };
    check(json!({ "providers": [{ "type": "rest" }] }), "missing field `name`");
    check(
        json!({ "providers": { "a": { "type": "rest", "name": "b" } } }),
        "says that its name is `b`",
    );
    let twice = json!([{ "name": "a", "type": "rest" }, { "name": "a", "type": "mcp" }]);
    check(json!({ "providers": twice }), "two providers `a`");
    check(
        json!({ "providers": { "a": { "type": "oracle" } } }),
        "unknown variant `oracle`",
    );
    check(
        json!({ "providers": { "a": { "type": "rest", "config": { "hots": "x" } } } }),
        "unknown field `hots`",
    );
    check(
        json!({ "context": { "cache_ttl": "soon" } }),
        "`soon` is no time such as `5m` or `1h`",
    );
    check(json!({ "context": { "cache_ttl": "0s" } }), "is no time");
    check(json!({ "context": { "cache_ttl": "-1h" } }), "is no time");
    check(json!({ "context": { "cache_ttl": "8d" } }), "is no time");
    let both = json!({ "context": { "maxLength": 1, "max_length": 2 } });
    check(both, "duplicate field `max_length`");
}

/// What the schema lets through has to be what the types take, and each leaf says what a change of it means.
#[test]
fn every_leaf_says_that_it_is_live_and_every_spelling_is_in_the_schema() {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    let mut leaves = 0;
    walk("Config", &schema, &mut leaves);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        if name != "SecretRef" {
            walk(name, definition, &mut leaves);
        }
    }
    assert!(leaves > 60, "{leaves}");
    let section = json!({ "context": { "cacheTTL": "1h", "onFailure": "fail" }, "secretsDir": "/run/secrets",
        "providers": [{ "name": "p", "type": "postgresql", "config": { "host": "h", "database": "d",
            "username": "u", "credentials": { "secretName": "s" }, "timeoutMs": 5, "vectorQuery": "$1" } }] });
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(
        validator.is_valid(&section),
        "{:?}",
        validator.iter_errors(&section).next()
    );
    assert!(read(section).is_ok());
    assert!(!validator.is_valid(&json!({ "context": { "cacheTLT": "1h" } })));
}

fn walk(name: &str, schema: &Value, leaves: &mut usize) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (key, property) in properties {
        assert!(property["description"].is_string(), "{name}.{key}");
        assert!(property["x-forebay-spellings"].is_null(), "{name}.{key}");
        let is_section = property["$ref"]
            .as_str()
            .is_some_and(|to| to.ends_with("Config") || to.ends_with("ContextProviders"));
        let is_optional_section = property["anyOf"][0]["$ref"]
            .as_str()
            .is_some_and(|to| to.ends_with("AuthConfig") || to.ends_with("NamedSecret"));
        if property["x-forebay-reload"] == "live" {
            *leaves += 1;
        } else {
            assert!(
                is_section || is_optional_section,
                "{name}.{key} says nothing of reloading: {property}"
            );
        }
    }
}
