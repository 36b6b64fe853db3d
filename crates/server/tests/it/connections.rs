//! Connections that ask nothing do not stay.

use axum::{Router, routing::get};
use forebay_runtime::Tasks;
use forebay_server::listen;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

/// The time is paused, so that it jumps ahead whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn whoever_says_too_little_is_hung_up_on() {
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    listen::serve(&tasks, listener, Router::new().route("/", get(async || "hello")));
    for said in [
        "",
        "P",
        "PRI * HTTP/2",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n",
    ] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert!(
            begun.elapsed() <= Duration::from_secs(61),
            "{said:?} was left open for {:?}",
            begun.elapsed()
        );
    }
    tasks.shut_down(Duration::from_secs(1)).await;
}
