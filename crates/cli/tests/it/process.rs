//! `forebay serve` as whoever runs it meets it: start, ready, first key, stop.

use crate::options;
use forebay_testkit::{
    gateway::{Gateway, command},
    openai::{Engine, Reply},
};
use rustix::process::Signal;
use std::{fs, os::unix::fs::PermissionsExt};

/// Asks the model in a way that keeps the gateway at work until the engine's gate opens.
fn ask(gateway: &Gateway) -> impl Future<Output = reqwest::Result<reqwest::Response>> + use<> {
    let body = serde_json::json!({"model": "stub", "messages": [{"role": "user", "content": "hi"}]});
    let url = format!("{}/v1/chat/completions", gateway.url());
    forebay_runtime::http::trusted()
        .post(url)
        .bearer_auth(gateway.admin_key())
        .json(&body)
        .send()
}

fn with_model(engine: &Engine) -> String {
    format!(
        "models: {{stub: {{backends: [{{url: '{}', api_key: {{env: BACKEND_KEY}}, probe: {{interval_s: 0}}}}]}}}}",
        engine.url()
    )
}

#[tokio::test]
async fn the_first_start_leaves_a_key_and_sigterm_leaves_nothing_running() {
    let gateway = Gateway::start(options("")).await;
    let key_file = gateway.data().join("admin.key");
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(gateway.data()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        fs::read_to_string(&key_file).unwrap(),
        format!("{}\n", gateway.admin_key())
    );
    let ready = forebay_runtime::http::trusted()
        .get(format!("{}/readyz", gateway.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
    assert!(
        gateway
            .log()
            .contains(&format!("open surfaces: mcp {}/mcp", gateway.url())),
        "{}",
        gateway.log()
    );
    assert_eq!(
        fs::read_to_string(gateway.data().join("gateway.url")).unwrap().trim(),
        gateway.url()
    );

    let key = gateway.admin_key().to_owned();
    let ended = gateway.stop().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(!ended.folder.path().join("data/gateway.url").exists());
    assert!(
        !ended.log.contains(key.rsplit_once('_').unwrap().1),
        "a log keeps no key"
    );

    let again = Gateway::again(options(""), ended.folder).await;
    assert_eq!(again.admin_key(), key, "a second start makes no second key");
    assert_eq!(again.stop().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_stop_waits_for_what_is_under_way() {
    let engine = Engine::start().await;
    let gateway = Gateway::start(options(&with_model(&engine)).env("BACKEND_KEY", "sk-canary-4711")).await;
    engine.will(
        Reply::json(
            200,
            &serde_json::json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
        )
        .hold_head(),
    );
    let asked = ask(&gateway);
    let (answer, ended) = tokio::join!(asked, async {
        engine.asked(1).await;
        gateway.signal(Signal::TERM);
        gateway.logged("draining").await;
        engine.open_gate();
        gateway.ended().await
    });
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(!ended.log.contains("sk-canary-4711"));
    for file in fs::read_dir(ended.folder.path().join("data")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(14).any(|window| window == b"sk-canary-4711"));
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let engine = Engine::start().await;
    let gateway = Gateway::start(options(&with_model(&engine)).env("BACKEND_KEY", "k")).await;
    engine.will(Reply::json(200, &serde_json::json!({})).hold_head());
    let asked = ask(&gateway);
    let (answer, ended) = tokio::join!(asked, async {
        engine.asked(1).await;
        gateway.signal(Signal::TERM);
        gateway.logged("draining").await;
        gateway.signal(Signal::INT);
        gateway.ended().await
    });
    assert!(answer.is_err(), "the work under way was dropped");
    assert_eq!(ended.status.code(), Some(4), "{}", ended.log);
    assert!(ended.log.contains("a second signal came"), "{}", ended.log);
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let listener = tokio::net::TcpListener::bind(taken).await.unwrap();
    let serve = |yaml: &str, more: &[&str]| {
        fs::write(folder.path().join("forebay.yaml"), yaml).unwrap();
        let mut command = command(&options(""), folder.path());
        command.args(["serve", "--data", "data"]).args(more).output()
    };
    let told = |output: std::process::Output| (output.status.code(), crate::out(&output), crate::err(&output));

    let (code, out, err) = told(serve("limits:\n  request_per_minute: 5\n", &[]).await.unwrap());
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("forebay.yaml:2:3: `limits.request_per_minute`"), "{err}");
    assert!(!folder.path().join("data").exists(), "nothing was begun");

    let (code, _, err) = told(serve("", &["--listen", &taken.to_string()]).await.unwrap());
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains(&taken.to_string()) && err.contains("port 0 takes a free one"),
        "{err}"
    );
    drop(listener);

    let (code, _, err) = told(
        serve(
            "store: {url: 'postgres://nobody@127.0.0.1:1/x'}",
            &["--listen", "127.0.0.1:0"],
        )
        .await
        .unwrap(),
    );
    assert_eq!(code, Some(4), "{err}");
    let (code, _, err) = told(serve("", &["--listen", "nonsense"]).await.unwrap());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("--listen"), "{err}");
}
