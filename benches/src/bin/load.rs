//! Sends one request over and over, and says how long the answers took.
//!
//! Two ways: *closed* (`--requests N`: as fast as so many connections can) for CPU per request, and *open*
//! (`--rate R --seconds S`: at fixed times, whether or not earlier answers are there) for latency. Open latencies count
//! from the time at which a request was due where an earlier answer kept it from being sent, so a stall is not hidden by
//! the requests that it held up. Where the connection was idle they count from the sending: the timer here is a
//! millisecond coarse, and that is no delay of the server's.
#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a harness that does not work shall stop")]
#![expect(
    clippy::disallowed_methods,
    reason = "measures on the machine's own clock, and its tasks end with it"
)]

use bytes::Bytes;
use clap::Parser;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpStream;
use url::Url;

#[derive(Parser, Clone)]
struct Options {
    #[arg(long)]
    url: Url,
    /// `name: value`, once for each.
    #[arg(long)]
    header: Vec<String>,
    #[arg(long)]
    body: String,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Closed: so many requests in all.
    #[arg(long, default_value_t = 0)]
    requests: u64,
    /// Open: so many a second …
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// … for so long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// A text that every answer must contain.
    #[arg(long)]
    expect: String,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    whole: Vec<Duration>,
    first_byte: Vec<Duration>,
    /// How long each piece was under way that tells when it was sent (`sent:MICROSECONDS `).
    pieces: Vec<Duration>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Arc::new(Options::parse());
    let total = if options.rate > 0 {
        options.rate * options.seconds
    } else {
        options.requests
    };
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let workers: Vec<_> = (0..options.connections)
        .map(|_| tokio::spawn(work(options.clone(), next.clone(), total, start)))
        .collect();
    let mut all = Seen::default();
    for worker in workers {
        let seen = worker.await.unwrap();
        all.whole.extend(seen.whole);
        all.first_byte.extend(seen.first_byte);
        all.pieces.extend(seen.pieces);
    }
    let seconds = start.elapsed().as_secs_f64();
    all.whole.sort_unstable();
    all.first_byte.sort_unstable();
    all.pieces.sort_unstable();
    let ms = |times: &[Duration], share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = (times.len().saturating_sub(1) as f64 * share) as usize;
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
    let per_second = all.whole.len() as f64 / seconds;
    let figures = serde_json::json!({
        "requests": all.whole.len(), "seconds": seconds, "per_second": per_second,
        "p50_ms": ms(&all.whole, 0.5), "p90_ms": ms(&all.whole, 0.9), "p99_ms": ms(&all.whole, 0.99),
        "first_byte_p50_ms": ms(&all.first_byte, 0.5), "first_byte_p99_ms": ms(&all.first_byte, 0.99),
        "piece_p50_ms": ms(&all.pieces, 0.5), "piece_p99_ms": ms(&all.pieces, 0.99),
    });
    println!("{figures}");
}

/// Takes the next request until there is none.
async fn work(options: Arc<Options>, next: Arc<AtomicU64>, total: u64, start: Instant) -> Seen {
    let mut sender = connect(&options.url).await;
    let mut seen = Seen::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= total {
            return seen;
        }
        let due = match (number * 1_000_000_000).checked_div(options.rate) {
            Some(nanoseconds) => wait_until(start + Duration::from_nanos(nanoseconds)).await,
            None => Instant::now(),
        };
        let first = send(&mut sender, &options, &mut seen.pieces).await;
        seen.first_byte.push(first.saturating_duration_since(due));
        seen.whole.push(due.elapsed());
    }
}

/// When the request that was due is sent: at its time, or at once where its time has passed.
async fn wait_until(due: Instant) -> Instant {
    if Instant::now() >= due {
        return due;
    }
    tokio::time::sleep_until(due.into()).await;
    Instant::now()
}

async fn connect(url: &Url) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect((url.host_str().unwrap(), url.port().unwrap()))
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends once, checks the answer, and says when its first byte of body came.
async fn send(sender: &mut SendRequest<Full<Bytes>>, options: &Options, pieces: &mut Vec<Duration>) -> Instant {
    let mut request = Request::post(options.url.path()).header(header::HOST, options.url.authority());
    for line in &options.header {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    sender.ready().await.unwrap();
    let response = sender
        .send_request(request.body(Full::from(options.body.clone())).unwrap())
        .await
        .unwrap();
    let status = response.status();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    let mut first = None;
    while let Some(frame) = body.frame().await {
        first.get_or_insert_with(Instant::now);
        if let Some(data) = frame.unwrap().data_ref() {
            pieces.extend(under_way(data));
            bytes.extend_from_slice(data);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        status.is_success() && text.contains(&options.expect),
        "{status}: {text}"
    );
    first.unwrap()
}

/// How long ago each piece in this frame was sent, where it says so.
fn under_way(frame: &[u8]) -> Vec<Duration> {
    let text = String::from_utf8_lossy(frame);
    let sent = text.split("sent:").skip(1);
    let sent = sent.map(|rest| Duration::from_micros(rest.split(' ').next().unwrap().parse().unwrap()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    sent.map(|sent| now.saturating_sub(sent)).collect()
}
