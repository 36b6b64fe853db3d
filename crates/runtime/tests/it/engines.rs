//! The client for engines against servers that are not as they should be.

use bytes::Bytes;
use forebay_runtime::http::{
    Engines,
    engines::{Answer, SendFault},
};
use http::Request;
use http_body_util::Full;
use std::{future::pending, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// A server that does this with its first connection.
async fn server<F>(then: impl FnOnce(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    forebay_runtime::Tasks::new().spawn("engine", |_| async move {
        let (stream, _) = listener.accept().await.unwrap();
        then(stream).await;
    });
    at
}

async fn ask(address: String) -> Result<Answer, SendFault> {
    let mut request = Request::post(address)
        .body(Full::from(Bytes::from_static(b"{}")))
        .unwrap();
    request.headers_mut().insert("x-asked", "yes".parse().unwrap());
    Engines::new().send(request).await
}

/// Reads a request's head, and answers so.
async fn answer(mut stream: TcpStream, text: &'static str) {
    let mut head = vec![0; 4096];
    let length = stream.read(&mut head).await.unwrap();
    assert!(
        String::from_utf8_lossy(&head[..length]).starts_with("POST /v1 HTTP/1.1\r\nx-asked: yes\r\nhost: 127.0.0.1:")
    );
    stream.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn an_answer_is_read_as_it_comes_and_trailers_are_no_part_of_it() {
    let at = server(|stream| {
        answer(
            stream,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\nx: y\r\n\r\n",
        )
    })
    .await;
    let mut got = ask(format!("http://{at}/v1")).await.unwrap();
    assert_eq!((got.status().as_u16(), got.content_length()), (200, None));
    let mut all = Vec::new();
    while let Some(piece) = got.chunk().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    assert_eq!(all, b"onetwo");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nothing_to_follow() {
    let at = server(|stream| {
        answer(
            stream,
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        )
    })
    .await;
    let got = ask(format!("http://{at}/v1")).await.unwrap();
    assert_eq!((got.status().as_u16(), got.content_length()), (307, Some(0)));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let at = server(|stream| answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")).await;
    let mut got = ask(format!("http://{at}/v1")).await.unwrap();
    assert_eq!(got.chunk().await.unwrap().unwrap(), "half");
    got.chunk().await.unwrap_err();
}

#[tokio::test]
async fn where_no_connection_comes_about_nothing_was_sent() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = ask(format!("http://{closed}/v1")).await.err().unwrap();
    assert!(refused.is_connect() && !refused.is_timeout(), "{refused:?}");
    // Who speaks no TLS gets no request either.
    let plain = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let no_tls = ask(format!("https://{plain}/v1")).await.err().unwrap();
    assert!(no_tls.is_connect(), "{no_tls:?}");
}

#[tokio::test]
async fn a_connection_that_was_made_and_lost_is_another_thing() {
    let at = server(|stream| async move { drop(stream) }).await;
    let lost = ask(format!("http://{at}/v1")).await.err().unwrap();
    assert!(!lost.is_connect(), "{lost:?}");
}

#[tokio::test]
async fn tls_that_never_comes_about_is_given_up() {
    let silent = server(|stream| async move {
        let _open = stream;
        pending::<()>().await;
    })
    .await;
    let begun = Instant::now();
    let late = timeout(Duration::from_secs(20), ask(format!("https://{silent}/v1"))).await;
    let late = late.expect("it gives up by itself").err().unwrap();
    assert!(late.is_connect() && late.is_timeout(), "{late:?}");
    assert!(begun.elapsed() >= Duration::from_secs(5));
}
