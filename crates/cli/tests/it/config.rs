//! Configurations as people write them: what is taken, what is refused, and in which words.

use forebay_cli::{
    Env,
    config::{FlagValue, Loaded, Sources},
};
use forebay_server::config::ContextsConfig;
use std::{fmt::Write, path::Path, time::Duration};
use tempfile::TempDir;

/// A file, an environment and the data directory that they are read in.
pub(crate) fn sources(yaml: &str, env: &[(&str, &str)]) -> (Sources, TempDir) {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("forebay.yaml"), yaml).unwrap();
    let sources = Sources {
        named: Some(data.path().join("forebay.yaml")),
        data: data.path().to_owned(),
        env: env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        flags: Vec::new(),
    };
    (sources, data)
}

fn loaded(yaml: &str, env: &[(&str, &str)]) -> Loaded {
    let (sources, _data) = sources(yaml, env);
    sources.load().map_err(|mistakes| mistakes.to_string()).unwrap()
}

/// The mistakes as people read them, without the name of the folder.
pub(crate) fn refused(yaml: &str, env: &[(&str, &str)]) -> String {
    let (sources, data) = sources(yaml, env);
    let folder = format!("{}/", data.path().display());
    sources
        .load()
        .err()
        .expect("it is refused")
        .to_string()
        .replace(&folder, "")
}

/// The one mistake, after its place.
pub(crate) fn check(yaml: &str, expected: &str) {
    let words = refused(yaml, &[]);
    let words = words
        .strip_prefix("The configuration has a mistake:\n  forebay.yaml:")
        .unwrap_or(&words);
    assert_eq!(words, expected, "{yaml}");
}

#[test]
fn a_mistake_has_its_line_its_key_and_what_was_expected() {
    check(
        "limits: {requests_per_minute: many}",
        "1:10: `limits.requests_per_minute`: expected a whole number of at least 1, found text",
    );
    check(
        "\nlimits:\n  requests_per_minute: 0",
        "3:3: `limits.requests_per_minute`: expected a whole number of at least 1, found 0",
    );
    check(
        "server: {public_url: nonsense}",
        "1:10: `server.public_url`: expected a URL, found text",
    );
    check(
        "server: {listen: localhost}",
        "1:10: `server.listen`: invalid socket address syntax",
    );
    check(
        "server: {hosts: one}",
        "1:10: `server.hosts`: expected a list, found text",
    );
    check(
        "auth: strict",
        "1:1: `auth`: expected keys such as `jwt`, `origins`, found text",
    );
    check(
        "models: {a: {}}",
        "1:10: `models.a.backends`: it is missing; expected a list",
    );
    check(
        "models: {a: {backends: []}}",
        "1:14: `models.a.backends`: needs at least one backend",
    );
    check(
        "models: {a: {backends: [{url: 'http://a/v1'}, {url: 'ftp://a'}]}}",
        "1:48: `models.a.backends[1].url`: must begin with http:// or https://, not ftp:",
    );
    check(
        "telemetry: {log: {format: xml}}",
        "1:19: `telemetry.log.format`: expected one of `text`, `json`, found text",
    );
    let words = refused("store: {url: 'mysql://a'}", &[]);
    assert!(
        words.contains("1:9: `store.url`") && words.contains("postgres:"),
        "{words}"
    );
}

#[test]
fn an_unknown_key_gets_a_suggestion() {
    let no_such = |place: &str, hint: &str| format!("{place}: there is no such key\n    {hint}");
    check(
        "limits:\n  request_per_minute: 5",
        &no_such(
            "2:3: `limits.request_per_minute`",
            "Did you mean `requests_per_minute`?",
        ),
    );
    check(
        "limits: {requestsPerMinute: 5}",
        &no_such(
            "1:10: `limits.requestsPerMinute`",
            "Did you mean `requests_per_minute`?",
        ),
    );
    check(
        "requests_per_minute: 5",
        &no_such(
            "1:1: `requests_per_minute`",
            "Did you mean `limits.requests_per_minute`?",
        ),
    );
    check("sever: {}", &no_such("1:1: `sever`", "Did you mean `server`?"));
    check(
        "limits: {colour: red}",
        &no_such(
            "1:10: `limits.colour`",
            "Here may stand: `requests_per_minute`, `tool_calls_per_minute`.",
        ),
    );
    check(
        "xyz:",
        &no_such(
            "1:1: `xyz`",
            "Here may stand: `alerts`, `auth`, `budgets`, `contexts`, `limits`, `markets`, `mcp`, `metrics`, `models`, `prices`, `rentals`, `responses`, `server`, `store`, `tasks`, `telemetry`, `tools`, `turns`, `upstreams`.",
        ),
    );
}

#[test]
fn what_a_later_version_brings_is_refused_by_name() {
    for section in ["nodes", "providers", "secrets_dir"] {
        for value in ["[]", "{a: {}}", ""] {
            let words = refused(&format!("server: {{}}\n{section}: {value}"), &[]);
            assert!(
                words.contains(&format!(
                    "forebay.yaml:2:1: `{section}`: `{section}` is not in this version"
                )),
                "{words}"
            );
        }
    }
}

#[test]
fn budgets_are_read_and_refused_by_their_place() {
    let design =
        "budgets: [ { scope: tenant, window: 60m, limit_usd: 50 }, { scope: tenant, window: 1440m, limit_usd: 1000 } ]";
    let rules = loaded(design, &[]).config.budgets.rules().unwrap();
    assert_eq!(
        rules.iter().map(|rule| rule.window.minutes).collect::<Vec<_>>(),
        [60, 1440]
    );
    check(
        "budgets:\n- {scope: tenant, window: 60m, limit_usd: 50}\n- {scope: key, id: k1, window: 1h, limit_usd: 1}",
        "3:3: `budgets[1].tenant`: which tenant's key it is has to be said",
    );
    check(
        "budgets: [{scope: tenant, window: soon, limit_usd: 50}]",
        "1:27: `budgets[0].window`: expected text such as `60m`, `24h`, `7d`, found text",
    );
    check(
        "budgets: [{scope: tenant, window: 60m, limit_usd: -1}]",
        "1:40: `budgets[0].limit_usd`: expected a number of at least 0, found -1",
    );
    check(
        "budgets: [{scope: galaxy, window: 60m, limit_usd: 1}]",
        "1:12: `budgets[0].scope`: expected one of `tenant`, `project`, `key`, `session`, found text",
    );
}

#[test]
fn webhooks_are_checked_with_their_secrets() {
    let hook =
        |more: &str| format!("alerts: {{webhooks: {{ops: {{url: 'https://a.example/', secret: {{env: S}}{more}}}}}}}");
    let good = format!("whsec_{}", "A".repeat(32));
    loaded(&hook(""), &[("S", &good)]);
    let words = refused(&hook(""), &[("S", "sesame")]);
    assert!(
        words.contains("`alerts.webhooks.ops`: `secret`: it is no `whsec_`"),
        "{words}"
    );
    assert!(!words.contains("sesame"), "{words}");
    let words = refused(&hook(""), &[]);
    assert!(
        words.contains("`alerts.webhooks.ops.secret`: environment variable S is not set"),
        "{words}"
    );
    let words = refused(&hook(", events: [spending.soft]"), &[("S", &good)]);
    assert!(words.contains("there is no alert \"spending.soft\""), "{words}");
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let yaml = "limits: {requests_per_minute: x}\nnodes: []\nserver:\n  listen: here\n  typo: 1\n\
                models:\n  a: {backends: []}\n  b: {backends: [{url: 'ftp://b', api_key: {env: UNSET}}]}\n";
    let words = refused(yaml, &[]);
    let lines: Vec<&str> = words
        .lines()
        .filter_map(|line| line.strip_prefix("  forebay.yaml:"))
        .collect();
    let places: Vec<&str> = lines.iter().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        places,
        [
            "`limits.requests_per_minute`",
            "`nodes`",
            "`server.listen`",
            "`server.typo`",
            "`models.a.backends`",
            "`models.b.backends[0].api_key`",
            "`models.b.backends[0].url`"
        ],
        "{words}"
    );
    assert!(words.starts_with("The configuration has 7 mistakes:"), "{words}");
}

#[test]
fn a_file_that_is_no_configuration_is_refused_with_its_line() {
    check("server: {}\nserver: {}", "2:1: the key `server` stands twice here");
    check("models: {a: {b: 1, b: 2}}", "1:20: the key `b` stands twice here");
    check(
        "server: {}\n---\nlimits: {}",
        "2:1: a second document begins here; the file has to be one",
    );
    check("- a", "1:1: the file has to hold keys such as `server:` and `models:`");
    assert!(refused("server: {listen: 'a", &[]).contains("forebay.yaml:1:"));
    let deep = format!("a: {}", "[".repeat(5000));
    assert!(refused(&deep, &[]).contains("forebay.yaml:1:"));
    let mut bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n".to_owned();
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g"])
    {
        writeln!(bomb, "{name}: &{name} [{}]", vec![format!("*{before}"); 9].join(",")).unwrap();
    }
    assert!(refused(&bomb, &[]).contains("forebay.yaml:"));
    assert!(refused(&" ".repeat((1 << 20) + 1), &[]).contains("it has more than 1048576 bytes"));
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let nothing = loaded("", &[]).config;
    for yaml in [
        "# nothing\n",
        "server:\nlimits:\nauth:\n  jwt:\n",
        "{}",
        "---\n",
        "server: {public_url: null}",
    ] {
        assert_eq!(loaded(yaml, &[]).config, nothing, "{yaml}");
    }
}

#[test]
fn a_secret_stands_elsewhere_and_is_never_shown() {
    let form = "expected a reference to a secret, `{env: NAME}` or `{file: PATH}`, found ";
    check(
        "store: {password: hunter2}",
        &format!("1:9: `store.password`: {form}text"),
    );
    check(
        "store: {password: {env: A, file: b}}",
        &format!("1:9: `store.password`: {form}keys"),
    );
    check(
        "store: {password: {value: hunter2}}",
        &format!("1:9: `store.password`: {form}keys"),
    );
    for yaml in [
        "store: {password: hunter2}",
        "store: {url: [hunter2]}",
        "server: {listen: hunter2, public_url: hunter2}",
    ] {
        assert!(!refused(yaml, &[]).contains("hunter2"), "{yaml}");
    }
    let backend = |key: &str| format!("models: {{a: {{backends: [{{url: 'http://a/v1', api_key: {key}}}]}}}}");
    let words = refused(&backend("{env: NOPE}"), &[]);
    assert!(
        words.contains("`models.a.backends[0].api_key`: environment variable NOPE is not set"),
        "{words}"
    );
    let words = refused(&backend("{file: /no/such}"), &[]);
    assert!(words.contains("file /no/such cannot be read"), "{words}");
    let config = loaded(&backend("{env: KEY}"), &[("KEY", "hunter2")]);
    assert!(!format!("{:?} {}", config.shown(), config.effective()).contains("hunter2"));
    let url = loaded("store: {url: 'postgres://me:hunter2@db/x'}", &[]);
    assert!(!format!("{:?} {}", url.shown(), url.effective()).contains("hunter2"));
}

/// `key value origin` of one key.
fn origin(loaded: &Loaded, key: &str) -> String {
    let shown = loaded.shown().into_iter().find(|shown| shown.key == key).unwrap();
    let file = loaded
        .file
        .as_deref()
        .and_then(Path::parent)
        .map_or(String::new(), |dir| format!("{}/", dir.display()));
    format!("{} {}", shown.value, shown.origin.replace(&file, ""))
}

#[test]
fn the_environment_overrides_the_file_and_a_flag_overrides_both() {
    let yaml = "server: {listen: '127.0.0.1:1'}\nlimits: {requests_per_minute: 5}\nmodels:\n  qwen-2.5: {backends: [{url: 'http://a/v1'}]}";
    let env = [
        ("FOREBAY__SERVER__LISTEN", "127.0.0.1:2"),
        ("FOREBAY__SERVER__HOSTS", "[a.example, b.example]"),
        ("FOREBAY__MODELS__QWEN_2_5__BACKENDS__0__URL", "http://b/v1"),
        ("FOREBAY__MODELS__QWEN_2_5__BACKENDS__0__MODEL", "0123"),
        ("FOREBAY__MODELS__QWEN_2_5__BACKENDS__0__API_KEY__ENV", "KEY"),
        ("FOREBAY_DATA", "none of these"),
        ("KEY", "secret"),
    ];
    let (mut sources, _data) = sources(yaml, &env);
    let before = sources.load().unwrap();
    assert_eq!(
        origin(&before, "server.listen"),
        "\"127.0.0.1:2\" env FOREBAY__SERVER__LISTEN"
    );
    assert_eq!(
        origin(&before, "server.hosts"),
        "[\"a.example\",\"b.example\"] env FOREBAY__SERVER__HOSTS"
    );
    assert_eq!(origin(&before, "limits.requests_per_minute"), "5 forebay.yaml:2");
    assert_eq!(origin(&before, "limits.tool_calls_per_minute"), "100 default");
    let backend = &before.config.models.0["qwen-2.5"].backends[0];
    assert_eq!(
        (backend.url.as_str(), backend.model.as_deref()),
        ("http://b/v1", Some("0123")),
        "text stays text"
    );
    sources.flags = vec![FlagValue {
        flag: "--listen",
        path: &["server", "listen"],
        value: "127.0.0.1:3".into(),
    }];
    let after = sources.load().unwrap();
    assert_eq!(origin(&after, "server.listen"), "\"127.0.0.1:3\" --listen");
    assert_eq!(after.awaiting_restart(&before.config), ["server.listen"]);
}

#[test]
fn a_mistake_in_the_environment_names_its_variable() {
    let words = refused(
        "",
        &[
            ("FOREBAY__LIMITS__REQUESTS_PER_MINUTE", "many"),
            ("FOREBAY__LIMIT__X", "1"),
            ("FOREBAY__SERVER__HOSTS", "[a"),
        ],
    );
    assert!(
        words.contains("FOREBAY__LIMITS__REQUESTS_PER_MINUTE: `limits.requests_per_minute`: expected a whole number"),
        "{words}"
    );
    assert!(
        words.contains("FOREBAY__LIMIT__X: `limit`: there is no such key\n    Did you mean `limits`?"),
        "{words}"
    );
    assert!(
        words.contains("FOREBAY__SERVER__HOSTS: `server.hosts`: its value cannot be read"),
        "{words}"
    );
    let words = refused("", &[("RUST_LOG", "loud")]);
    assert!(
        words.contains("RUST_LOG: `telemetry.log.filter`: `loud` is not a log level"),
        "{words}"
    );
}

#[test]
fn a_file_is_looked_for_where_the_design_says() {
    let data = tempfile::tempdir().unwrap();
    let sources = Sources {
        named: None,
        data: data.path().to_owned(),
        env: Env::default(),
        flags: Vec::new(),
    };
    assert_eq!(sources.file(), None);
    std::fs::write(data.path().join("forebay.yaml"), "").unwrap();
    assert_eq!(sources.file(), Some(data.path().join("forebay.yaml")));
    let named = Sources {
        named: Some("/no/such.yaml".into()),
        ..sources
    };
    assert!(
        named
            .load()
            .err()
            .unwrap()
            .to_string()
            .contains("/no/such.yaml: the file cannot be read")
    );
}

#[test]
fn contexts_are_configured_as_another_gateway_writes_it() {
    let (written, in_camel_case) = (
        include_str!("../seed/contexts.yaml").to_owned(),
        "mcp: {serverUrl: 'http://localhost:8001/', apiVersion: v1, maxContexts: 100, timeout: 1m}".to_owned(),
    );
    for text in [written, in_camel_case] {
        let mcp = loaded(&text, &[]).config.mcp;
        assert!(mcp.enabled);
        assert_eq!(mcp.models_url().unwrap().as_str(), "http://localhost:8001/v1");
        let settings = mcp.contexts(ContextsConfig::default());
        assert_eq!(
            (settings.contexts_max.get(), settings.timeout),
            (100, Duration::from_mins(1))
        );
    }
    let whole = "mcp: {server_url: 'http://localhost:8001/v1'}";
    assert_eq!(
        loaded(whole, &[]).config.mcp.models_url().unwrap().as_str(),
        "http://localhost:8001/v1"
    );
    for (wrong, words) in [
        ("mcp: {api_version: v2}", "forebay.yaml:1:7: `mcp.api_version`"),
        ("mcp: {max_contexts: 0}", "forebay.yaml:1:7: `mcp.max_contexts`"),
        ("mcp: {timeout: soon}", "`soon` is no time such as `5m`"),
        (
            "mcp: {server_url: 'ftp://localhost'}",
            "must begin with http:// or https://",
        ),
        ("contexts: {on_full: explode}", "`refuse`, `evict_oldest`"),
        ("contexts: {nodes_max: 1}", "from 2 to 10000"),
    ] {
        let told = refused(wrong, &[]);
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn what_other_gateways_are_configured_with_is_taken_as_it_is_written() {
    for (text, providers, tools) in [
        (include_str!("../seed/mcp_config.yaml"), 3, 2),
        (include_str!("../seed/endpoint.yaml"), 2, 2),
        (include_str!("../seed/helm.yaml"), 2, 2),
    ] {
        let (sources, _data) = sources(text, &[]);
        let loaded = sources
            .load_without_secrets()
            .map_err(|mistakes| mistakes.to_string())
            .unwrap();
        let mcp = &loaded.config.mcp;
        assert_eq!((mcp.providers.0.len(), mcp.tools.0.len()), (providers, tools), "{text}");
    }
    let helm = sources(include_str!("../seed/helm.yaml"), &[])
        .0
        .load_without_secrets()
        .ok()
        .unwrap();
    assert_eq!(
        (
            helm.config.mcp.port.unwrap().get(),
            helm.config.mcp.context.max_length.get()
        ),
        (8001, 8192)
    );
    let wrong = refused("aim_engine: {mcp: {providr: {}}, services: {}}", &[]);
    assert!(
        wrong.contains("`mcp.providr`: there is no such key") && wrong.contains("`services`: there is no such key"),
        "{wrong}"
    );
    let wrong = refused("{aim_engine: {mcp: {}}, models: {}}", &[]);
    assert!(
        wrong.contains("`aim_engine`: there is no such key") && wrong.contains("stands alone and holds `mcp`"),
        "{wrong}"
    );
    let unfilled = r#"aim_engine: {mcp: {providers: {docs: {type: chroma, config: {host: "{{ .Values.chroma.host }}", collection: "{{ .Values.docs }}"}}}}}"#;
    assert!(sources(unfilled, &[]).0.load_without_secrets().is_ok());
    assert!(refused(unfilled, &[]).contains("`mcp.providers.docs.config.host`"));
    let wrong = refused("mcp: {providr: {}}", &[]);
    assert!(
        wrong.contains("`mcp.providr`: there is no such key") && wrong.contains("`providers`"),
        "{wrong}"
    );
}
