//! What is taken, what is refused, and where.

use super::*;

fn parse(json: &str) -> Result<Settings, String> {
    let config: Config = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let secrets = SecretReader::new(|name| match name {
        "GOOD" => Some("sk-good".to_owned()),
        "BAD" => Some("sk\u{1}bad".to_owned()),
        _ => None,
    });
    Settings::parse(&config, &TurnsConfig::default(), &secrets).map_err(|fault| fault.to_string())
}

fn check_url(url: &str, expected: Result<&str, &str>) {
    let parsed = parse(&format!(r#"{{"m":{{"backends":[{{"url":"{url}"}}]}}}}"#));
    match (parsed, expected) {
        (Ok(settings), Ok(expected)) => {
            assert_eq!(
                settings.models["m"].backends[0].uri(Endpoint::Chat).to_string(),
                expected
            );
        }
        (Err(problem), Err(expected)) => {
            assert!(problem.starts_with("models.m.backends[0].url: "), "{problem}");
            assert!(problem.contains(expected), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        (parsed, expected) => panic!("{url}: {parsed:?}, expected {expected:?}"),
    }
}

#[test]
fn addresses_are_checked_and_completed() {
    check_url("http://h:1/v1", Ok("http://h:1/v1/chat/completions"));
    check_url("http://h:1/v1/", Ok("http://h:1/v1/chat/completions"));
    check_url("https://h/a/b//", Ok("https://h/a/b/chat/completions"));
    check_url("http://[::1]:8001", Ok("http://[::1]:8001/chat/completions"));
    check_url("ftp://h/v1", Err("must begin with http:// or https://"));
    check_url("http://me:hunter2@h/v1", Err("must not contain a user name"));
    check_url("http://hunter2@h/v1", Err("must not contain a user name"));
    check_url("http://h/v1?key=hunter2", Err("must not contain `?`"));
    check_url("127.0.0.1:8001/hunter2", Err("is not an address"));
    check_url("", Err("is not an address"));
}

#[test]
fn faults_name_their_place() {
    for (json, expected) in [
        (
            r#"{"m":{"backends":[]}}"#,
            "models.m.backends: needs at least one backend",
        ),
        (
            r#"{"a b":{"backends":[{"url":"http://h"}]}}"#,
            "models: the name \"a b\" may contain only",
        ),
        (
            r#"{"":{"backends":[{"url":"http://h"}]}}"#,
            "models: the name \"\" must not be empty",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h"},{"url":"http://h","model":"a\nb"}]}}"#,
            "models.m.backends[1].model: must not contain control",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h","api_key":{"env":"NONE"}}]}}"#,
            "models.m.backends[0].api_key: environment variable NONE is not set",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h","api_key":{"env":"BAD"}}]}}"#,
            "models.m.backends[0].api_key: environment variable BAD holds characters",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h"}],"cost":{"input":1}}}"#,
            "unknown field `cost`",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h"}],"price":{"input":1}}}"#,
            "missing field `output`",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h"}],"price":{"input":-1,"output":0}}}"#,
            "-1.00 is below zero, and no price is",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h"}],"price":{"input":0.30000000000000004,"output":0}}}"#,
            "0.30000000000000004 has more than six digits behind the point",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h"}],"price":{"input":null,"output":0}}}"#,
            "no decimal number of US dollars",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h"}],"output_tokens_max":16777217}}"#,
            "models.m.output_tokens_max: must be from 1 to 16777216, and is 16777217",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h","engine":"tgi"}]}}"#,
            "unknown variant `tgi`",
        ),
        (
            r#"{"m":{"backends":[{"url":"http://h"}],"timeouts":{"idle_s":0}}}"#,
            "nonzero",
        ),
    ] {
        let problem = parse(json).unwrap_err();
        assert!(
            problem.starts_with(expected) || problem.contains(expected),
            "{json}: {problem}"
        );
    }
}

#[test]
fn a_secret_is_read_and_never_shown() {
    let settings =
        parse(r#"{"m":{"backends":[{"url":"http://h","model":"org/\"M\"","api_key":{"env":"GOOD"}}]}}"#).unwrap();
    let backend = &settings.models["m"].backends[0];
    assert_eq!(backend.credential.as_ref().unwrap().header, "Bearer sk-good");
    assert_eq!(backend.model_json, r#""org/\"M\"""#);
    assert!(!format!("{settings:?}").contains("sk-good"));
}

#[test]
fn what_is_out_of_bounds_or_leads_nowhere_is_refused_at_its_place() {
    let backend = |more: &str| format!(r#"{{"m":{{"backends":[{{"url":"http://h"{more}}}]}}}}"#);
    let model = |more: &str| format!(r#"{{"m":{{"backends":[{{"url":"http://h"}}]{more}}}}}"#);
    let many = vec![r#"{"url":"http://h"}"#; 33].join(",");
    for (json, expected) in [
        (
            backend(r#","weight":1001"#),
            "models.m.backends[0].weight: must be from 1 to 1000, and is 1001",
        ),
        (backend(r#","weight":0"#), "nonzero"),
        (backend(r#","max_concurrency":0"#), "nonzero"),
        (
            backend(r#","probe":{"interval_s":3601}"#),
            "models.m.backends[0].probe.interval_s: must be from 0 to 3600",
        ),
        (
            backend(r#","probe":{"timeout_s":61}"#),
            "models.m.backends[0].probe.timeout_s: must be from 1 to 60",
        ),
        (
            backend(r#","probe":{"path":"health"}"#),
            "models.m.backends[0].probe.path: must begin with `/`",
        ),
        (
            backend(r#","probe":{"path":"/a?b"}"#),
            "models.m.backends[0].probe.path: must begin with `/`",
        ),
        (
            format!(r#"{{"m":{{"backends":[{many}]}}}}"#),
            "models.m.backends: must be from 1 to 32, and is 33",
        ),
        (
            model(r#","queue":{"max":10001}"#),
            "models.m.queue.max: must be from 0 to 10000",
        ),
        (
            model(r#","retry":{"attempts":33}"#),
            "models.m.retry.attempts: must be from 1 to 32",
        ),
        (
            model(r#","affinity_bound_percent":99"#),
            "models.m.affinity_bound_percent: must be from 100 to 1000",
        ),
        (
            model(r#","fallbacks":["m"]"#),
            "models.m.fallbacks[0]: must not be the model itself",
        ),
        (
            model(r#","fallbacks":["n"]"#),
            "models.m.fallbacks[0]: there is no model \"n\"",
        ),
    ] {
        let problem = parse(&json).unwrap_err();
        assert!(problem.contains(expected), "{json}: {problem}");
    }
}

#[test]
fn an_engine_tells_whose_api_it_speaks_and_how_it_is_probed() {
    for (engine, url, key_header, messages, probe) in [
        (
            "vllm",
            "http://h:1/v1",
            "authorization",
            "http://h:1/v1/messages",
            Some("http://h:1/health"),
        ),
        (
            "sglang",
            "http://h/a/v1/",
            "authorization",
            "http://h/a/v1/messages",
            Some("http://h/a/health"),
        ),
        (
            "llamacpp",
            "http://h",
            "authorization",
            "http://h/messages",
            Some("http://h/health"),
        ),
        (
            "openai",
            "https://h/v1",
            "authorization",
            "https://h/v1/messages",
            Some("https://h/v1/models"),
        ),
        ("anthropic", "https://h/v1", "x-api-key", "https://h/v1/messages", None),
    ] {
        let json =
            format!(r#"{{"m":{{"backends":[{{"url":"{url}","engine":"{engine}","api_key":{{"env":"GOOD"}}}}]}}}}"#);
        let settings = parse(&json).unwrap();
        let backend = &settings.models["m"].backends[0];
        assert_eq!(backend.uri(Endpoint::Messages).to_string(), messages);
        assert_eq!(
            backend.credential.as_ref().unwrap().name.as_str(),
            key_header,
            "{engine}"
        );
        assert_eq!(
            backend.probe.as_ref().map(|probe| probe.uri.to_string()).as_deref(),
            probe,
            "{engine}"
        );
    }
    let own = parse(r#"{"m":{"backends":[{"url":"http://h/v1","probe":{"path":"/up/now"}}]}}"#).unwrap();
    let probe = own.models["m"].backends[0].probe.clone();
    assert_eq!(probe.unwrap().uri, "http://h/up/now");
    let none = parse(r#"{"m":{"backends":[{"url":"http://h","probe":{"interval_s":0}}]}}"#).unwrap();
    assert!(none.models["m"].backends[0].probe.is_none());
}

#[test]
fn each_endpoint_has_its_address() {
    let settings = parse(r#"{"m":{"backends":[{"url":"http://h/v1"}]}}"#).unwrap();
    for endpoint in Endpoint::ALL {
        let uri = settings.models["m"].backends[0].uri(endpoint);
        assert_eq!(uri.to_string(), format!("http://h/v1/{}", endpoint.path()));
    }
}

#[test]
fn every_leaf_says_that_it_is_live() {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    for (kind, leaves) in [
        ("BackendConfig", 7),
        ("ProbeConfig", 3),
        ("ModelConfig", 10),
        ("PriceConfig", 5),
        ("QueueConfig", 2),
        ("RetryConfig", 2),
        ("TimeoutsConfig", 3),
    ] {
        let properties = schema["$defs"][kind]["properties"].as_object().unwrap();
        assert_eq!(properties.len(), leaves, "{kind}");
        for (name, property) in properties {
            let is_branch = ["probe", "backends", "price", "queue", "retry", "timeouts"].contains(&name.as_str());
            assert!(is_branch || property["x-forebay-reload"] == "live", "{kind}.{name}");
            assert!(property["description"].is_string(), "{kind}.{name}");
        }
    }
}
