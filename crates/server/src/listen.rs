//! Listening: accept, serve, drain. Every connection has limits, and small answers leave at once.

use crate::own_wakes;
use axum::{Router, body::Body, response::Response};
use forebay_runtime::{Stop, Tasks};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::{Service, ServiceExt};

const CONNECTIONS_MAX: usize = 10_000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const HEADER_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
const HTTP2_STREAMS_MAX: u32 = 250;
/// After a failed accept, mostly for want of file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Binds, naming the address in the error.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))
}

/// Serves until draining begins, then finishes the requests under way. A connection that becomes something else than
/// HTTP is handed over to whoever agreed to that, and no longer counts here.
pub fn serve(tasks: &Tasks, listener: TcpListener, router: Router) {
    let connections = tasks.clone();
    tasks.spawn("listener", move |stop| async move {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let permit = tokio::select! {
                permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
                () = stop.draining() => return,
            };
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.draining() => return,
            };
            match stream {
                Ok((stream, _)) => {
                    let router = router.clone();
                    connections.spawn("connection", move |stop| async move {
                        own_wakes::kept(connection(stream, router, stop)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    });
}

async fn connection(stream: TcpStream, router: Router, stop: Stop) {
    // An SSE answer leaves in small writes; without this the second waits for an acknowledgement, some 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).expect("64 KiB fit"))
        .keep_alive_interval(Some(HEADER_TIMEOUT));
    let asked = Arc::new(AtomicBool::new(false));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), noting(router, asked.clone()));
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = silence(&asked) => return tracing::debug!("a connection asked nothing and was closed"),
        () = stop.draining() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The router, noting that a request has come.
fn noting(
    router: Router,
    asked: Arc<AtomicBool>,
) -> TowerToHyperService<impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone>
{
    TowerToHyperService::new(tower::service_fn(move |request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        router.clone().oneshot(request.map(Body::new))
    }))
}

/// Completes where no request comes in time. hyper's own timeout begins only once it knows the version of HTTP, and a
/// connection that says nothing, or not enough to tell, would stay for ever.
async fn silence(asked: &AtomicBool) {
    tokio::time::sleep(HEADER_TIMEOUT).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}
