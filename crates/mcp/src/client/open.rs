//! Opening a connection: which era an upstream speaks, over which transport, and what it says of itself.
//!
//! The newest era is asked for first. Only an answer that a modern server could not have given leads back to the older
//! handshake, and only an address where nobody takes messages leads back to HTTP+SSE.

use super::{
    ClientFault, Hello, Hooks, HttpTarget, Limits, Mode, Parts, Target,
    core::{Core, Gone},
    eras::{Found, MODERN, Peer, introduced, nobody_takes_messages, refuses_what_it_supports, sort},
    http::Caller,
    link::{Asking, Link, Speaking},
    pipe::Pipe,
    sse::SsePair,
    streamable::Streamable,
};
use crate::era::Version;
use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::{json, value::RawValue};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// Cancellations and answers to questions that wait to be posted.
const OUT_MAX: usize = 64;
/// How long to wait for a server to open its own stream.
const HEAR_WAIT: Duration = Duration::from_secs(1);

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
        hear(&core, streamable).await;
    }
    Ok(Opened { link, core, peer })
}

/// Opens the stream on which a server speaks by itself, and waits for it: widely used servers ask there what belongs to
/// a request, and ask nobody where it is not open yet.
async fn hear(core: &Arc<Core>, streamable: Arc<Streamable>) {
    let hearing = core.clone();
    let (ready, heard) = oneshot::channel();
    core.tasks.spawn("mcp-hear", move |_stop| async move {
        tokio::select! {
            biased;
            () = hearing.ended.cancelled() => {}
            () = streamable.hear(ready) => {}
        }
    });
    // Some servers say nothing, not even headers, before they have something to say.
    let _in_time = tokio::time::timeout(HEAR_WAIT, heard).await;
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
        let answer = self.discover_once(wait).await;
        // A server that refuses our version and names it among its own is asked once more, as the specification wants.
        let answer = if refuses_what_it_supports(&answer) {
            self.discover_once(wait).await
        } else {
            answer
        };
        sort(answer)
    }

    async fn discover_once(&self, wait: Duration) -> Result<Box<RawValue>, ClientFault> {
        self.ask(Speaking::Modern(MODERN), "server/discover", None, wait).await
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
        introduced(&answer)
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
