//! The guarded client against a real listener on loopback, which is just what it must not reach unasked.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use forebay_domain::{Code, Failure};
use forebay_runtime::{
    Tasks,
    http::{AllowList, Guarded, LookUp, Rules, Schemes},
};
use futures_util::stream;
use reqwest::{Method, Request, Url};
use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const BODY_BYTES_MAX: usize = 64 * 1024;

/// Counts who gets through.
#[derive(Clone, Default)]
struct Hits(Arc<AtomicUsize>);

impl Hits {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A server on loopback; its port and its hits.
async fn serve(tasks: &Tasks) -> (u16, Hits) {
    let hits = Hits::default();
    let routes = Router::new().fallback(any(answer)).with_state(hits.clone());
    let routes = routes.route("/to/{*target}", any(redirect));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(
        "server",
        |_| async move { axum::serve(listener, routes).await.unwrap() },
    );
    (port, hits)
}

async fn answer(State(hits): State<Hits>, headers: HeaderMap, request: axum::extract::Request) -> Response {
    hits.0.fetch_add(1, Ordering::SeqCst);
    match request.uri().path() {
        "/large" => Body::from_stream(stream::repeat_with(|| {
            Ok::<_, Infallible>(Bytes::from_static(&[0; 4096]))
        }))
        .into_response(),
        "/slow" => {
            let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"first"))]);
            Body::from_stream(stream::StreamExt::chain(first, stream::pending())).into_response()
        }
        "/silent" => std::future::pending().await,
        "/gone" => ([(header::CONNECTION, "close")], "gone").into_response(),
        path => {
            let method = request.method();
            format!(
                "{method} {path} {:?} {:?}",
                headers.get("x-canary"),
                headers.get(header::HOST)
            )
            .into_response()
        }
    }
}

async fn redirect(Path(target): Path<String>) -> impl IntoResponse {
    let (status, location) = target.split_once('/').unwrap();
    let status: u16 = status.parse().unwrap();
    (
        StatusCode::from_u16(status).unwrap(),
        [(header::LOCATION, location.to_owned())],
    )
}

fn rules(allow: &[&str]) -> Rules {
    let allow: Vec<String> = allow.iter().map(ToString::to_string).collect();
    Rules {
        schemes: Schemes::HttpAndHttps,
        allow: AllowList::try_from(allow).unwrap(),
        body_bytes_max: BODY_BYTES_MAX,
        deadline: Duration::from_secs(20),
    }
}

fn get(url: &str) -> Request {
    Request::new(Method::GET, Url::parse(url).unwrap())
}

async fn text(guarded: &Guarded, url: &str) -> String {
    let response = guarded.send(get(url)).await.unwrap();
    String::from_utf8(response.into_body().to_vec()).unwrap()
}

async fn failure(guarded: &Guarded, url: &str) -> Failure {
    guarded.send(get(url)).await.expect_err(url)
}

/// Names that lead where the test says; the last answer stays.
fn names(answers: &[&[&str]]) -> (LookUp, Hits) {
    let asked = Hits::default();
    let count = asked.0.clone();
    let answers: Vec<Vec<IpAddr>> = answers
        .iter()
        .map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect())
        .collect();
    let look_up: LookUp = Arc::new(move |_| {
        let turn = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let answer = answers[turn].clone();
        Box::pin(async move { Ok(answer) })
    });
    (look_up, asked)
}

#[tokio::test]
async fn loopback_is_refused_in_every_spelling() {
    let tasks = Tasks::new();
    let (port, hits) = serve(&tasks).await;
    let guarded = Guarded::new(rules(&[]));
    for host in [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "127\u{3002}0\u{3002}0\u{3002}1",
    ] {
        let failure = failure(&guarded, &format!("http://{host}:{port}/")).await;
        assert_eq!(failure.code, Code::AddressNotAllowed, "{host}: {}", failure.chain());
    }
    assert_eq!(hits.count(), 0);
}

#[tokio::test]
async fn what_is_listed_is_reached() {
    let tasks = Tasks::new();
    let (port, hits) = serve(&tasks).await;
    for (listed, host) in [
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.1", "127.1"),
        ("localhost", "localhost"),
    ] {
        let guarded = Guarded::new(rules(&[listed]));
        let answer = text(&guarded, &format!("http://{host}:{port}/a")).await;
        assert!(answer.starts_with("GET /a "), "{answer}");
    }
    assert_eq!(hits.count(), 3);
    let guarded = Guarded::new(rules(&["127.0.0.2", "other.example"]));
    let failure = failure(&guarded, &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(failure.code, Code::AddressNotAllowed);
}

#[tokio::test]
async fn schemes_and_credentials_are_refused_before_anything_is_looked_up() {
    let (look_up, asked) = names(&[&["127.0.0.1"]]);
    let https_only = Rules {
        schemes: Schemes::HttpsOnly,
        ..rules(&["127.0.0.1"])
    };
    let guarded = Guarded::with_look_up(https_only, look_up);
    for url in [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://user@example.com/",
        "https://:canary@example.com/",
    ] {
        let failure = failure(&guarded, url).await;
        assert_eq!(failure.code, Code::AddressNotAllowed, "{url}");
        assert!(!failure.chain().contains("canary"), "{}", failure.chain());
    }
    assert_eq!(asked.count(), 0);
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_what_was_checked_is_connected_to() {
    let tasks = Tasks::new();
    let (port, hits) = serve(&tasks).await;
    let (look_up, asked) = names(&[&["127.0.0.1"], &["127.0.0.66"]]);
    let guarded = Guarded::with_look_up(rules(&["127.0.0.1"]), look_up);
    let url = format!("http://rebinding.example:{port}/gone");
    assert_eq!(text(&guarded, &url).await, "gone");
    assert_eq!((asked.count(), hits.count()), (1, 1));

    let failure = failure(&guarded, &url).await;
    assert_eq!(
        failure.code,
        Code::AddressNotAllowed,
        "the next connection is checked afresh"
    );
    assert_eq!((asked.count(), hits.count()), (2, 1));
    assert!(!failure.chain().contains("127.0.0.66"), "{}", failure.chain());
}

#[tokio::test]
async fn one_inner_address_spoils_a_name() {
    let tasks = Tasks::new();
    let (port, hits) = serve(&tasks).await;
    let (look_up, _) = names(&[&["127.0.0.1", "10.0.0.1"]]);
    let guarded = Guarded::with_look_up(rules(&["127.0.0.1"]), look_up);
    let failure = failure(&guarded, &format!("http://mixed.example:{port}/")).await;
    assert_eq!(failure.code, Code::AddressNotAllowed);
    assert_eq!(hits.count(), 0);
}

#[tokio::test]
async fn the_host_header_is_the_host_that_was_checked() {
    let tasks = Tasks::new();
    let (port, _) = serve(&tasks).await;
    let guarded = Guarded::new(rules(&["127.0.0.1"]));
    let mut request = get(&format!("http://127.0.0.1:{port}/a"));
    request
        .headers_mut()
        .insert(header::HOST, "inner.example".parse().unwrap());
    let response = guarded.send(request).await.unwrap();
    assert!(
        response
            .body()
            .ends_with(format!("Some(\"127.0.0.1:{port}\")").as_bytes())
    );
}

#[tokio::test]
async fn an_answer_is_bounded_in_size_and_time() {
    let tasks = Tasks::new();
    let (port, _) = serve(&tasks).await;
    let guarded = Guarded::new(rules(&["127.0.0.1"]));
    let large = failure(&guarded, &format!("http://127.0.0.1:{port}/large")).await;
    assert_eq!(large.code, Code::UpstreamTruncated);
    assert!(large.message.contains("65536 bytes"), "{large}");

    let hurried = Guarded::new(Rules {
        deadline: Duration::from_millis(300),
        ..rules(&["127.0.0.1"])
    });
    for path in ["slow", "silent"] {
        let slow = failure(&hurried, &format!("http://127.0.0.1:{port}/{path}")).await;
        assert_eq!(slow.code, Code::UpstreamTimedOut, "{path}: {}", slow.chain());
    }
}

#[tokio::test]
async fn broken_answers_are_told_apart() {
    let tasks = Tasks::new();
    let guarded = Guarded::new(rules(&["127.0.0.1"]));
    for (wire, code) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
            Code::UpstreamTruncated,
        ),
        ("SSH-2.0-OpenSSH\r\n", Code::UpstreamFailed),
        ("", Code::UpstreamFailed),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tasks.spawn("raw_server", move |_| async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(socket.read(&mut request).await.unwrap() > 0);
            socket.write_all(wire.as_bytes()).await.unwrap();
        });
        let broken = failure(&guarded, &format!("http://127.0.0.1:{port}/?token=canary")).await;
        assert_eq!(broken.code, code, "{wire:?}: {}", broken.chain());
        assert!(!broken.chain().contains("canary"), "{}", broken.chain());
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let closed = failure(&guarded, &format!("http://127.0.0.1:{port}/?token=canary")).await;
    assert_eq!(closed.code, Code::UpstreamFailed);
    assert!(!closed.chain().contains("canary"), "{}", closed.chain());
}

#[tokio::test]
async fn redirects_are_answers_unless_followed_and_each_hop_is_checked() {
    let tasks = Tasks::new();
    let (port, hits) = serve(&tasks).await;
    let guarded = Guarded::new(rules(&["127.0.0.1"]));
    let base = format!("http://127.0.0.1:{port}");
    let response = guarded.send(get(&format!("{base}/to/302//a"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);

    let response = guarded.follow(get(&format!("{base}/to/302//a")), 1).await.unwrap();
    assert!(response.body().starts_with(b"GET /a "));
    assert_eq!(hits.count(), 1);

    for inner in [
        "http://127.0.0.2/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "file:///etc/passwd",
    ] {
        let refused = guarded
            .follow(get(&format!("{base}/to/307/{inner}")), 3)
            .await
            .expect_err(inner);
        assert_eq!(refused.code, Code::AddressNotAllowed, "{inner}: {}", refused.chain());
    }
    let twice = format!("{base}/to/302//to/302//a");
    let endless = guarded.follow(get(&twice), 1).await.unwrap_err();
    assert_eq!(endless.code, Code::UpstreamFailed);
    assert!(endless.message.contains("more than 1 times"), "{endless}");
    assert_eq!(hits.count(), 1);
}

#[tokio::test]
async fn a_redirect_elsewhere_drops_what_was_meant_for_the_first_host() {
    let tasks = Tasks::new();
    let ((port, _), (elsewhere, _)) = (serve(&tasks).await, serve(&tasks).await);
    let guarded = Guarded::new(rules(&["127.0.0.1"]));
    let ask = async |to: String| {
        let mut request = Request::new(
            Method::POST,
            Url::parse(&format!("http://127.0.0.1:{port}/to/{to}")).unwrap(),
        );
        request.headers_mut().insert("x-canary", "secret".parse().unwrap());
        *request.body_mut() = Some("body".into());
        let response = guarded.follow(request, 1).await.unwrap();
        String::from_utf8(response.into_body().to_vec()).unwrap()
    };
    assert!(ask("303//a".to_owned()).await.starts_with("GET /a Some(\"secret\")"));
    assert!(ask("308//a".to_owned()).await.starts_with("POST /a Some(\"secret\")"));
    let there = ask(format!("307/http://127.0.0.1:{elsewhere}/b")).await;
    assert!(there.starts_with("POST /b None"), "{there}");
}

/// Runs two of the tests above with proxy variables that lead nowhere: they fail if anybody heeds them.
#[test]
fn proxy_variables_are_ignored() {
    for test in [
        "guarded::what_is_listed_is_reached",
        "guarded::loopback_is_refused_in_every_spelling",
    ] {
        let nowhere = "http://127.0.0.1:1";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .envs(["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, nowhere)))
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }
}
