//! A fake engine in the form of OpenAI's API, as unkind as a real one can be.
//!
//! It speaks HTTP/1.1 over a bare socket on port 0, since no web framework is impolite enough: it stalls, resets,
//! announces more than it sends, cuts where it likes and never ends. Unless told otherwise it answers politely. It
//! keeps what it was sent, and notices when a client goes away.

mod reply;

pub use reply::{ANSWER, COMPLETION_TOKENS, End, PROMPT_TOKENS, Reply, chunk, event, polite_events, usage_chunk};

use bytes::Bytes;
use forebay_runtime::Tasks;
use reply::{Framing, Step};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Semaphore, watch},
};

const REQUEST_BYTES_MAX: usize = 64 << 20;

/// A running fake engine. Dropping it ends it.
pub struct Engine {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    script: Mutex<VecDeque<Reply>>,
    gate: Semaphore,
    log: watch::Sender<Log>,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    connections: usize,
    gone: usize,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the engine was sent JSON")
    }
}

/// The base address of an engine that is not there: connections to it are refused.
pub async fn absent_url() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    format!("http://{}/v1", listener.local_addr().expect("a bound listener"))
}

impl Engine {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let engine = Self {
            address: listener.local_addr().expect("a bound listener"),
            shared: Arc::new(Shared {
                script: Mutex::default(),
                gate: Semaphore::new(0),
                log: watch::Sender::default(),
            }),
            tasks: Tasks::new(),
        };
        let (shared, tasks) = (engine.shared.clone(), engine.tasks.clone());
        engine.tasks.spawn("fake engine", |_| async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.log.send_modify(|log| log.connections += 1);
                let shared = shared.clone();
                tasks.spawn("fake engine's connection", |_| serve(stream, shared));
            }
        });
        engine
    }

    /// The base address, as a configuration names it.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The next request that has no reply yet gets this one.
    pub fn will(&self, reply: Reply) {
        self.shared
            .script
            .lock()
            .expect("nobody panics with the script")
            .push_back(reply);
    }

    /// Lets one reply past its gate.
    pub fn open_gate(&self) {
        self.shared.gate.add_permits(1);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.log.borrow().seen.clone()
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.log.borrow().connections
    }

    /// Waits until so many requests have arrived.
    pub async fn asked(&self, count: usize) {
        self.wait_for(|log| log.seen.len() >= count).await;
    }

    /// Waits until so many clients have gone away in mid-answer.
    pub async fn left(&self, count: usize) {
        self.wait_for(|log| log.gone >= count).await;
    }

    async fn wait_for(&self, condition: impl Fn(&Log) -> bool) {
        let mut log = self.shared.log.subscribe();
        log.wait_for(|log| condition(log))
            .await
            .expect("the sender lives as long as the engine");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.tasks.stop().end();
    }
}

/// How the connection goes on after a reply.
enum Next {
    Request,
    Close,
    Reset,
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    loop {
        let (mut reader, mut writer) = stream.split();
        let Some(seen) = read_request(&mut reader).await else {
            return;
        };
        let scripted = shared.script.lock().expect("nobody panics with the script").pop_front();
        let reply = scripted.unwrap_or_else(|| default_reply(&seen));
        shared.log.send_modify(|log| log.seen.push(seen));
        let next = tokio::select! {
            next = write_reply(&mut writer, reply, &shared.gate) => next,
            () = hang_up(&mut reader) => None,
        };
        match next {
            Some(Next::Request) => {}
            Some(Next::Close) => return,
            Some(Next::Reset) => {
                // Whether or not the option takes, the connection closes in mid-answer.
                let _ = stream.set_zero_linger();
                return;
            }
            None => {
                shared.log.send_modify(|log| log.gone += 1);
                return;
            }
        }
    }
}

fn default_reply(seen: &Seen) -> Reply {
    if seen.method == "GET" {
        let list = json!({ "object": "list", "data": [{ "id": "fake", "object": "model", "owned_by": "testkit" }] });
        return Reply::json(200, &list);
    }
    Reply::polite(&serde_json::from_slice(&seen.body).unwrap_or_default())
}

/// Returns when the client closes or resets the connection.
async fn hang_up(reader: &mut ReadHalf<'_>) {
    let mut rest = [0; 1024];
    while let Ok(1..) = reader.read(&mut rest).await {}
}

/// `None` once the client is gone, or says what nobody understands.
async fn read_request(reader: &mut ReadHalf<'_>) -> Option<Seen> {
    let mut buffer = Vec::new();
    let head_length = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > REQUEST_BYTES_MAX || reader.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_length].to_vec()).ok()?;
    let mut lines = head.lines();
    let mut request_line = lines.next()?.split(' ').map(str::to_owned);
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Ok(0), |(_, value)| value.parse()).ok()?;
    while buffer.len() < head_length + length.min(REQUEST_BYTES_MAX) {
        if reader.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen {
        method: request_line.next()?,
        path: request_line.next()?,
        headers,
        body: Bytes::from(buffer.split_off(head_length)),
    })
}

/// `None` where the client went away meanwhile.
async fn write_reply(writer: &mut WriteHalf<'_>, reply: Reply, gate: &Semaphore) -> Option<Next> {
    let chunked = reply.framing == Framing::Chunked;
    let framing = if chunked { "transfer-encoding: chunked\r\n" } else { "" };
    let frame = |bytes: &Bytes| {
        if chunked {
            [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
        } else {
            bytes.to_vec()
        }
    };
    for step in reply.steps {
        match step {
            Step::Gate => gate.acquire().await.expect("the gate is never closed").forget(),
            Step::Head => {
                let head = format!("{}{framing}\r\n", reply.head);
                writer.write_all(head.as_bytes()).await.ok()?;
            }
            Step::Piece(bytes) => writer.write_all(&frame(&bytes)).await.ok()?,
        }
    }
    match reply.end {
        End::Properly => {
            if chunked {
                writer.write_all(b"0\r\n\r\n").await.ok()?;
            }
            Some(Next::Request)
        }
        End::Cut => Some(Next::Close),
        End::Reset => Some(Next::Reset),
        End::Never(piece) => {
            let piece = frame(&piece);
            loop {
                writer.write_all(&piece).await.ok()?;
            }
        }
    }
}
