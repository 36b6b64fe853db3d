//! Opening a connection: which era an upstream speaks, over which transport, and what it says of itself.
//!
//! The newest era is asked for first. Only an answer that a modern server could not have given leads back to the older
//! handshake, and only an address where nobody takes messages leads back to HTTP+SSE.

use super::{
    ClientFault, Hello, Hooks, HttpTarget, Limits, Mode, Parts, Target,
    core::{Core, Gone, empty},
    http::Caller,
    link::{Asking, Link, Speaking},
    pipe::Pipe,
    sse::SsePair,
    streamable::Streamable,
};
use crate::era::Version;
use bytes::Bytes;
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

const MODERN: Version = Version::V2026_07_28;
const OUT_MAX: usize = 64;

const HEADER_MISMATCH: i64 = -32020;
const MISSING_CAPABILITY: i64 = -32021;
const UNSUPPORTED_VERSION: i64 = -32022;

/// What an upstream says of itself.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) version: Version,
    pub(super) capabilities: Box<RawValue>,
    pub(super) server_info: Option<Box<RawValue>>,
    pub(super) instructions: Option<String>,
}

/// A connection that was opened.
pub(super) struct Opened {
    pub(super) link: Link,
    pub(super) core: Arc<Core>,
    pub(super) peer: Peer,
}

pub(super) async fn open(target: Target, hello: &Hello, parts: Parts) -> Result<Opened, ClientFault> {
    let limits = parts.limits;
    let opening = async {
        match target {
            Target::Pipe { reader, writer } => over_pipe(Pipe::start(reader, writer, parts), hello).await,
            Target::Http(target) => over_http(*target, hello, parts).await,
        }
    };
    // Boxed: it is large, and rare.
    tokio::time::timeout(limits.opening_wait, Box::pin(opening))
        .await
        .unwrap_or(Err(ClientFault::TimedOut(limits.opening_wait)))
}

/// Ends what was begun when opening fails or is given up.
struct Unopened(Option<Arc<Core>>);

impl Unopened {
    fn new(core: &Arc<Core>) -> Self {
        Self(Some(core.clone()))
    }

    fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unopened {
    fn drop(&mut self) {
        if let Some(core) = &self.0 {
            core.end(Gone::Closed);
        }
    }
}

async fn over_pipe(core: Arc<Core>, hello: &Hello) -> Result<Opened, ClientFault> {
    let mut unopened = Unopened::new(&core);
    let link = Link::Pipe;
    let asker = Asker {
        link: &link,
        core: &core,
        hello,
    };
    let peer = match hello.mode {
        Mode::Legacy | Mode::Sse => asker.initialize().await?,
        Mode::Modern => asker.discover(asker.limits().opening_wait).await?.or_fault()?,
        Mode::Auto => asker.find_out_over_pipe().await?,
    };
    asker.settle(&peer).await?;
    unopened.keep();
    Ok(Opened { link, core, peer })
}

async fn over_http(target: HttpTarget, hello: &Hello, parts: Parts) -> Result<Opened, ClientFault> {
    let (out, messages) = mpsc::channel(OUT_MAX);
    let core = Core::new(parts, out);
    let mut unopened = Unopened::new(&core);
    let opened = match hello.mode {
        Mode::Sse => over_sse(target, core, messages, hello).await,
        Mode::Auto | Mode::Legacy | Mode::Modern => over_streamable(target, core, messages, hello).await,
    }?;
    unopened.keep();
    Ok(opened)
}

async fn over_streamable(
    target: HttpTarget,
    core: Arc<Core>,
    messages: mpsc::Receiver<Bytes>,
    hello: &Hello,
) -> Result<Opened, ClientFault> {
    let streamable = Streamable::new(Caller::new(target.clone())?, core.clone());
    let link = Link::Streamable(streamable.clone());
    let asker = Asker {
        link: &link,
        core: &core,
        hello,
    };
    let peer = match hello.mode {
        Mode::Modern => asker.discover(asker.limits().opening_wait).await?.or_fault()?,
        Mode::Legacy | Mode::Sse => asker.initialize().await?,
        Mode::Auto => match asker.discover(asker.limits().probe_wait).await? {
            Found::Modern(peer) => peer,
            Found::Older(_) => match asker.initialize().await {
                Ok(peer) => peer,
                Err(fault) if nobody_takes_messages(&fault) => {
                    return match over_sse(target, core, messages, hello).await {
                        // An address where there is no stream either: what the post said is the better explanation.
                        Err(ClientFault::Protocol(_)) => Err(fault),
                        outcome => outcome,
                    };
                }
                Err(fault) => return Err(fault),
            },
        },
    };
    let posting = (streamable.clone(), core.clone());
    core.tasks.spawn("mcp-post", move |_stop| async move {
        let (streamable, core) = posting;
        tokio::select! {
            biased;
            () = core.ended.cancelled() => {}
            () = streamable.post_all(messages) => {}
        }
    });
    asker.settle(&peer).await?;
    if !peer.version.is_modern() {
        let hearing = core.clone();
        core.tasks.spawn("mcp-hear", move |_stop| async move {
            tokio::select! {
                biased;
                () = hearing.ended.cancelled() => {}
                () = streamable.hear() => {}
            }
        });
    }
    Ok(Opened { link, core, peer })
}

async fn over_sse(
    target: HttpTarget,
    core: Arc<Core>,
    messages: mpsc::Receiver<Bytes>,
    hello: &Hello,
) -> Result<Opened, ClientFault> {
    let pair = SsePair::open(Caller::new(target)?, core.clone()).await?;
    let posting = (pair.clone(), core.clone());
    core.tasks.spawn("mcp-post", move |_stop| async move {
        let (pair, core) = posting;
        tokio::select! {
            biased;
            () = core.ended.cancelled() => {}
            () = pair.post_all(messages) => {}
        }
    });
    let link = Link::Sse(pair);
    let asker = Asker {
        link: &link,
        core: &core,
        hello,
    };
    let peer = asker.initialize().await?;
    asker.settle(&peer).await?;
    Ok(Opened { link, core, peer })
}

/// Whether a handshake failed because nothing at that address takes messages.
fn nobody_takes_messages(fault: &ClientFault) -> bool {
    match fault {
        ClientFault::Protocol(_) | ClientFault::SessionExpired => true,
        ClientFault::Refused(_)
        | ClientFault::Unauthorized(_)
        | ClientFault::Busy { .. }
        | ClientFault::TimedOut(_)
        | ClientFault::TooLarge { .. }
        | ClientFault::Unreachable { .. }
        | ClientFault::Broken { .. }
        | ClientFault::Version(_)
        | ClientFault::Cancelled
        | ClientFault::EndedOnProbe
        | ClientFault::Misconfigured(_) => false,
    }
}

/// What the question for the modern era found.
enum Found {
    Modern(Peer),
    /// A server of before, and what it said.
    Older(ClientFault),
}

impl Found {
    fn or_fault(self) -> Result<Peer, ClientFault> {
        match self {
            Self::Modern(peer) => Ok(peer),
            Self::Older(fault) => Err(fault),
        }
    }
}

/// Asks the questions of an opening.
struct Asker<'a> {
    link: &'a Link,
    core: &'a Arc<Core>,
    hello: &'a Hello,
}

impl Asker<'_> {
    fn limits(&self) -> Limits {
        self.core.limits
    }

    async fn ask(
        &self,
        speaking: Speaking,
        method: &str,
        params: Option<&RawValue>,
        wait: Duration,
    ) -> Result<Box<RawValue>, ClientFault> {
        let hooks = Hooks::within(wait);
        let asking = Asking {
            speaking,
            method,
            params,
            hooks: &hooks,
        };
        self.link.ask(self.core, self.hello, asking).await
    }

    async fn discover(&self, wait: Duration) -> Result<Found, ClientFault> {
        let answer = self.ask(Speaking::Modern(MODERN), "server/discover", None, wait).await;
        sort(answer)
    }

    /// A server may answer an error, or nothing at all, or only after it has been asked for the older handshake, since
    /// a program may take long to start. So the first question stays open while the second is asked.
    async fn find_out_over_pipe(&self) -> Result<Peer, ClientFault> {
        let discovering = self.discover(self.limits().opening_wait);
        tokio::pin!(discovering);
        let found = tokio::time::timeout(self.limits().probe_wait, &mut discovering).await;
        match found {
            Ok(_) if !self.core.is_open() => return Err(ClientFault::EndedOnProbe),
            Ok(Ok(Found::Modern(peer))) => return Ok(peer),
            Ok(Ok(Found::Older(_))) => return self.initialize().await,
            Ok(Err(fault)) => return Err(fault),
            Err(_) => {}
        }
        let outcome = self.initialize().await;
        // Messages are answered in their order, mostly: by now the first question has its answer, if it will have one.
        match (outcome, discovering.now_or_never()) {
            (Err(ClientFault::Refused(_)), Some(Ok(Found::Modern(peer)))) => Ok(peer),
            (Err(_), _) if !self.core.is_open() => Err(ClientFault::EndedOnProbe),
            (outcome, _) => outcome,
        }
    }

    async fn initialize(&self) -> Result<Peer, ClientFault> {
        let params = json!({
            "protocolVersion": Version::LEGACY_NEWEST.as_str(),
            "capabilities": self.hello.capabilities,
            "clientInfo": self.hello.client_info,
        });
        let params = serde_json::value::to_raw_value(&params).expect("a JSON value is JSON");
        let answer = self
            .ask(
                Speaking::Handshake,
                "initialize",
                Some(&params),
                self.limits().opening_wait,
            )
            .await?;
        let said: Initialized = serde_json::from_str(answer.get())
            .map_err(|_| ClientFault::Protocol("it answered the handshake with something else".to_owned()))?;
        let version = Version::parse(&said.protocol_version)
            .filter(|version| !version.is_modern())
            .ok_or_else(|| ClientFault::Version(shortened(&said.protocol_version)))?;
        Ok(Peer {
            version,
            capabilities: object_or_empty(said.capabilities),
            server_info: said.server_info,
            instructions: said.instructions,
        })
    }

    /// Fixes the version; in the older era the server is told so.
    async fn settle(&self, peer: &Peer) -> Result<(), ClientFault> {
        self.link.settle_version(self.core, peer.version);
        if peer.version.is_modern() {
            return Ok(());
        }
        self.link
            .notify(self.core, Speaking::Legacy, "notifications/initialized", None)
            .await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
    capabilities: Option<Box<RawValue>>,
    server_info: Option<Box<RawValue>>,
    instructions: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    supported_versions: Vec<String>,
    capabilities: Option<Box<RawValue>>,
    instructions: Option<String>,
    server_info: Option<Box<RawValue>>,
    #[serde(rename = "_meta")]
    meta: Option<DiscoveredMeta>,
}

#[derive(Deserialize)]
struct DiscoveredMeta {
    #[serde(rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Supported {
    #[serde(default)]
    supported: Vec<String>,
}

/// Decides what the answer to `server/discover` says about the era.
fn sort(answer: Result<Box<RawValue>, ClientFault>) -> Result<Found, ClientFault> {
    match answer {
        Ok(result) => sort_result(&result),
        Err(ClientFault::Refused(error)) => match error.code {
            UNSUPPORTED_VERSION => {
                let supported: Option<Supported> = error
                    .data
                    .as_ref()
                    .and_then(|data| serde_json::from_str(data.get()).ok());
                choose(&supported.map_or(Vec::new(), |data| data.supported))
            }
            HEADER_MISMATCH | MISSING_CAPABILITY => Err(ClientFault::Refused(error)),
            _ => Ok(Found::Older(ClientFault::Refused(error))),
        },
        Err(fault) => match fault {
            // Among them a status of 500, which some older servers answer to what they do not know.
            ClientFault::Broken { source: None, .. }
            | ClientFault::Protocol(_)
            | ClientFault::TimedOut(_)
            | ClientFault::SessionExpired
            | ClientFault::TooLarge { .. } => Ok(Found::Older(fault)),
            ClientFault::Refused(_)
            | ClientFault::Unauthorized(_)
            | ClientFault::Busy { .. }
            | ClientFault::Unreachable { .. }
            | ClientFault::Broken { .. }
            | ClientFault::Version(_)
            | ClientFault::Cancelled
            | ClientFault::EndedOnProbe
            | ClientFault::Misconfigured(_) => Err(fault),
        },
    }
}

fn sort_result(result: &RawValue) -> Result<Found, ClientFault> {
    let Ok(said) = serde_json::from_str::<Discovered>(result.get()) else {
        return Ok(Found::Older(ClientFault::Protocol(
            "it answered `server/discover` with something else".to_owned(),
        )));
    };
    if !said.supported_versions.iter().any(|version| version == MODERN.as_str()) {
        return choose(&said.supported_versions);
    }
    let in_meta = said.meta.and_then(|meta| meta.server_info);
    Ok(Found::Modern(Peer {
        version: MODERN,
        capabilities: object_or_empty(said.capabilities),
        server_info: in_meta.or(said.server_info),
        instructions: said.instructions,
    }))
}

/// What follows from the versions that a server says it speaks, where it does not speak ours.
fn choose(supported: &[String]) -> Result<Found, ClientFault> {
    let all = shortened(&supported.join(", "));
    let older = supported
        .iter()
        .filter_map(|version| Version::parse(version))
        .any(|version| !version.is_modern());
    if older {
        Ok(Found::Older(ClientFault::Version(all)))
    } else {
        Err(ClientFault::Version(all))
    }
}

fn object_or_empty(raw: Option<Box<RawValue>>) -> Box<RawValue> {
    raw.filter(|raw| raw.get().starts_with('{')).unwrap_or_else(empty)
}

/// What an upstream says is shown in part, and without what would act on a terminal.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::RpcError;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn check(answer: Result<&str, (i64, Option<&str>)>) -> &'static str {
        let answer = answer.map(raw).map_err(|(code, data)| {
            ClientFault::Refused(RpcError {
                code,
                message: String::new(),
                data: data.map(raw),
            })
        });
        match sort(answer) {
            Ok(Found::Modern(_)) => "modern",
            Ok(Found::Older(_)) => "older",
            Err(ClientFault::Version(_)) => "no version",
            Err(_) => "fault",
        }
    }

    #[test]
    fn only_what_no_modern_server_says_leads_back_to_the_handshake() {
        for (answer, expected) in [
            (
                Ok(r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#),
                "modern",
            ),
            (Ok(r#"{"supportedVersions":["2099-01-01","2026-07-28"]}"#), "modern"),
            (Ok(r#"{"supportedVersions":["2025-11-25"]}"#), "older"),
            (Ok(r#"{"supportedVersions":["2099-01-01"]}"#), "no version"),
            (Ok(r#"{"supportedVersions":[]}"#), "no version"),
            (Ok(r#"{"content":[]}"#), "older"),
            (Err((-32601, None)), "older"),
            (Err((-32602, None)), "older"),
            (Err((-32000, Some(r#""odd""#))), "older"),
            (Err((-32022, Some(r#"{"supported":["2025-06-18"]}"#))), "older"),
            (Err((-32022, Some(r#"{"supported":["2099-01-01"]}"#))), "no version"),
            (Err((-32022, None)), "no version"),
            (Err((-32020, None)), "fault"),
            (Err((-32021, None)), "fault"),
        ] {
            assert_eq!(check(answer), expected, "{answer:?}");
        }
    }
}
