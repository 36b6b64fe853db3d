//! The forms in which tools may be written.

use super::*;
use serde_json::json;

fn read(section: Value) -> Config {
    serde_json::from_value(section).unwrap()
}

#[test]
fn the_three_forms_in_which_tools_are_written_mean_the_same() {
    let list = read(json!([{
        "name": "web_search", "description": "Search the web for current information",
        "parameters": {"query": {"type": "string", "description": "Search query", "required": true}},
        "security": {"allowedDomains": ["*.google.com", "*.bing.com"], "rateLimit": {"requests": 100, "window": "1m"}},
        "version": "v1",
        "monitoring": {"enabled": true, "metrics": ["executionLatency", "successRate", "rateLimitHits"]}
    }, {
        "name": "file_reader", "description": "Read files from the filesystem", "enabled": true,
        "config": {"allowedPaths": ["/workspace/data"]}
    }]));
    let map = read(json!({
        "web_search": {"enabled": true, "config": {
            "allowedDomains": ["*.google.com", "*.bing.com"], "rateLimit": {"requests": 100, "window": "1m"}}},
        "file_reader": {"enabled": true, "config": {"allowedPaths": ["/workspace/data"]}}
    }));
    let snake = read(json!({
        "web-search": {"security": {
            "allowed_domains": ["*.google.com", "*.bing.com"], "rate_limit": {"requests": 100, "window": 60}}},
        "file_reader": {"config": {"allowed_paths": ["/workspace/data"]}}
    }));
    for section in [list, map, snake] {
        let tools = section.onto(tools::Config::default()).unwrap();
        assert_eq!(tools.file_reader.allowed_paths, [PathBuf::from("/workspace/data")]);
        assert_eq!(tools.web_search.allowed_domains, ["*.google.com", "*.bing.com"]);
        let limit = tools.web_search.rate_limit.unwrap();
        assert_eq!((limit.requests.get(), limit.window.0.as_secs()), (100, 60));
        assert!(tools.disabled.is_empty());
    }
}

#[test]
fn a_built_in_tool_is_configured_once() {
    let refused = |section: Value, tools: &tools::Config| {
        let failure = read(section).onto(tools.clone()).unwrap_err();
        assert_eq!(failure.code, Code::InvalidConfig);
        failure.message
    };
    let plain = tools::Config::default();
    let mut other = plain.clone();
    other.file_reader.allowed_paths = vec!["/srv".into()];
    let paths = json!({"file_reader": {"config": {"allowedPaths": ["/data"]}}});
    assert!(refused(paths.clone(), &other).contains("differently"));
    assert!(refused(json!({"calculator": {"config": {"allowedPaths": ["/data"]}}}), &plain).contains("file_reader"));
    assert!(refused(json!({"chat": {"security": {"allowedDomains": ["a.b"]}}}), &plain).contains("web_search"));
    assert!(refused(json!({"web_search": {"endpoint": {"url": "https://a.b"}}}), &plain).contains("built in"));
    assert!(refused(json!({"web_search": {"trusted_output": true}}), &plain).contains("own"));
    let off = read(json!({"calculator": {"enabled": false}})).onto(plain).unwrap();
    assert_eq!(off.disabled.into_iter().collect::<Vec<_>>(), ["calculator"]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_reason() {
    for (section, says) in [
        (json!([{"description": "x"}]), "needs a `name`"),
        (json!([{"name": "a"}, {"name": "a"}]), "two tools"),
        (json!({"a": {"name": "b"}}), "another name"),
        (json!({"a": {"url": "x"}}), "unknown field `url`"),
        (json!({"a": {"parameters": {"q": {"type": "text"}}}}), "unknown variant"),
        (json!("a"), "a list of tools"),
    ] {
        let fault = serde_json::from_value::<Config>(section.clone())
            .unwrap_err()
            .to_string();
        assert!(fault.contains(says), "{section}: {fault}");
    }
}

#[test]
fn what_is_written_reads_back_alike() {
    let config = read(json!({"a": {
        "description": "d", "parameters": {"q": {"type": "string", "required": true, "maxLength": 5}},
        "endpoint": {"url": "https://a.b/{q}", "method": "post", "headers": {"x": "1", "y": {"env": "Y"}},
            "bearer": {"file": "/f"}, "body": {"q": "{q}"}, "result": "/a"},
        "security": {"allowedDomains": ["a.b"], "rateLimit": {"requests": 1, "window": "1m"}},
        "timeout": "5s", "effects": {"readOnly": true, "destructive": false}, "trustedOutput": true, "enabled": false
    }}));
    assert_eq!(read(serde_json::to_value(&config).unwrap()), config);
    assert_eq!(serde_json::to_value(read(json!({"a": {}}))).unwrap(), json!({"a": {}}));
}
