//! The log as it is written, and spans as a collector gets them.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri},
    routing::any,
};
use forebay_runtime::{
    Entropy, Tasks,
    secret::SecretReader,
    telemetry::{Colour, Config, Filter, Telemetry, TraceContext, build, names},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    io,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc};
use tracing::{Dispatch, debug, dispatcher::with_default, error, info, info_span, trace};

/// A log that a test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(config: Value) -> (Dispatch, Telemetry, Log) {
    let config: Config = serde_json::from_value(config).unwrap();
    let secrets = SecretReader::new(|name| (name == "TOKEN").then(|| "canary-token".to_owned()));
    let log = Log::default();
    let writer = log.clone();
    let (dispatch, telemetry) = build(&config, &secrets, move || writer.clone(), Colour::No).unwrap();
    (dispatch, telemetry, log)
}

#[test]
fn the_filter_changes_while_it_runs_and_libraries_never_show_their_insides() {
    let (dispatch, telemetry, log) = start(json!({}));
    let everything = Filter::try_from("trace".to_owned()).unwrap();
    with_default(&dispatch, || {
        debug!(target: "forebay_llm::router", "ours, too early");
        info!(target: "h2::codec", "theirs, on info");
        telemetry.set_filter(&everything).unwrap();
        debug!(target: "forebay_llm::router", "ours, on debug");
        debug!(target: "h2::codec", authorization = "canary", "theirs, on debug");
        trace!(target: "hyper::proto", body = "canary", "theirs, on trace");
        telemetry
            .set_filter(&Filter::try_from("off".to_owned()).unwrap())
            .unwrap();
        error!(target: "forebay_llm::router", "ours, too late");
    });
    let text = log.text();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("theirs, on info") && text.contains("ours, on debug"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn json_is_one_object_a_line_whatever_is_in_it() {
    let (dispatch, _telemetry, log) = start(json!({"log": {"format": "json"}}));
    with_default(&dispatch, || {
        let _span = info_span!(target: "forebay_server", "request", { names::HTTP_ROUTE } = "/v1/models").entered();
        info!(target: "forebay_server", node = "n1", "two\nlines \u{1b}[31m");
    });
    let text = log.text();
    let line: Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(line["message"], "two\nlines \u{1b}[31m");
    assert_eq!(line["node"], "n1");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["span"][names::HTTP_ROUTE], "/v1/models");
}

#[test]
fn a_text_line_cannot_be_forged() {
    let (dispatch, _telemetry, log) = start(json!({}));
    with_default(&dispatch, || {
        info!(target: "forebay_server", name = "a\nERROR forged", "said \u{1b}[2J");
    });
    let text = log.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

/// What a collector got.
struct Export {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Export {
    fn holds(&self, needle: &[u8]) -> bool {
        self.body.windows(needle.len()).any(|window| window == needle)
    }
}

/// A collector on loopback.
async fn collector(tasks: &Tasks) -> (u16, mpsc::UnboundedReceiver<Export>) {
    let (exports, received) = mpsc::unbounded_channel();
    let take =
        async |State(exports): State<mpsc::UnboundedSender<Export>>, uri: Uri, headers: HeaderMap, body: Bytes| {
            let path = uri.path().to_owned();
            exports.send(Export { path, headers, body }).unwrap();
        };
    let routes = Router::new().fallback(any(take)).with_state(exports);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(
        "collector",
        |_| async move { axum::serve(listener, routes).await.unwrap() },
    );
    (port, received)
}

#[tokio::test]
async fn a_span_arrives_at_the_collector_below_its_caller() {
    let tasks = Tasks::new();
    let (port, mut received) = collector(&tasks).await;
    let otlp = json!({"endpoint": format!("http://127.0.0.1:{port}"), "headers": {"authorization": {"env": "TOKEN"}}});
    let (dispatch, telemetry, log) = start(json!({"otlp": otlp, "log": {"filter": "trace"}}));
    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let caller = TraceContext::parse(caller).unwrap();
    let ours = with_default(&dispatch, || {
        let span = info_span!(target: "forebay_server", "request", { names::MCP_METHOD_NAME } = "tools/call");
        let ours = TraceContext::begin(&span, Some(caller), Timestamp::UNIX_EPOCH, &Entropy::seeded(1));
        span.in_scope(|| {
            info!(target: "forebay_server", "canary-event");
            info_span!(target: "hyper::client", "canary-library").in_scope(|| ());
            assert_eq!(TraceContext::of(&tracing::Span::current()), Some(ours));
        });
        ours
    });
    assert_eq!(ours.trace, caller.trace);
    telemetry.shut_down().await;

    let export = received.recv().await.unwrap();
    assert_eq!(export.path, "/v1/traces");
    assert_eq!(export.headers["content-type"], "application/x-protobuf");
    assert_eq!(export.headers["authorization"], "canary-token");
    for expected in ["request", "mcp.method.name", "tools/call", "service.name", "forebay"] {
        assert!(export.holds(expected.as_bytes()), "{expected}");
    }
    let trace_id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    assert!(export.holds(&trace_id), "the caller's trace goes on");
    assert!(
        export.holds(&0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()),
        "below the caller's span"
    );
    let our_span = &ours.to_string()[36..52];
    let our_span = u64::from_str_radix(our_span, 16).unwrap().to_be_bytes();
    assert!(
        export.holds(&our_span),
        "what goes upstream names the span that was sent"
    );
    for canary in ["canary-event", "canary-library", "canary-token"] {
        assert!(!export.holds(canary.as_bytes()), "{canary}");
    }
    assert!(!log.text().contains("canary-token"), "{}", log.text());
}

#[tokio::test]
async fn without_a_caller_the_root_is_sampled_by_ratio_and_has_a_trace_id_all_the_same() {
    let tasks = Tasks::new();
    let (port, mut received) = collector(&tasks).await;
    let otlp = json!({"endpoint": format!("http://127.0.0.1:{port}"), "sample_ratio": 0.0});
    let (dispatch, telemetry, _log) = start(json!({"otlp": otlp}));
    let root = with_default(&dispatch, || {
        let span = info_span!(target: "forebay_server", "request");
        TraceContext::begin(&span, None, Timestamp::UNIX_EPOCH, &Entropy::seeded(1))
    });
    assert_eq!(TraceContext::parse(&root.to_string()), Some(root));
    assert!(root.to_string().ends_with("-00"));
    telemetry.shut_down().await;
    tasks.stop().end();
    tasks.finished().await;
    assert!(received.recv().await.is_none(), "nothing was sent");
}

#[tokio::test]
async fn a_collector_that_is_gone_stops_nothing_and_is_told_about() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let endpoint = format!("http://127.0.0.1:{port}");
    let (dispatch, telemetry, log) = start(json!({"otlp": {"endpoint": endpoint}}));
    let _guard = tracing::dispatcher::set_default(&dispatch);
    info_span!(target: "forebay_server", "request").in_scope(|| ());
    telemetry.shut_down().await;
    let text = log.text();
    assert_eq!(
        text.matches("spans cannot be sent to the collector").count(),
        1,
        "{text}"
    );
}
