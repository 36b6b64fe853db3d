//! A transport that is open, and what is said over it before and after the version is known.

use super::{
    ClientFault, Hello, Hooks,
    core::{Answer, Core, Farewell, Gone, Kind},
    pipe::Pipe,
    sse::SsePair,
    streamable::{Heading, Posted, Streamable, target},
    wire::{self, Modern, Stamp},
};
use crate::era::Version;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(Clone)]
pub(super) enum Link {
    Pipe,
    Streamable(Arc<Streamable>),
    Sse(Arc<SsePair>),
}

/// Which era a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaking {
    /// `initialize`.
    Handshake,
    Legacy,
    Modern(Version),
}

/// A request with everything that goes along.
pub(super) struct Asking<'a> {
    pub(super) speaking: Speaking,
    pub(super) method: &'a str,
    pub(super) params: Option<&'a RawValue>,
    pub(super) hooks: &'a Hooks,
}

impl Link {
    /// One request, until its answer, its time or its caller's patience is over.
    pub(super) async fn ask(&self, core: &Arc<Core>, hello: &Hello, asking: Asking<'_>) -> Answer {
        let hooks = asking.hooks;
        let exchange = async {
            let permit = core.room.acquire().await.map_err(|_| core.gone())?;
            let answer = self.exchange(core, hello, &asking).await;
            drop(permit);
            answer
        };
        tokio::select! {
            biased;
            answer = exchange => answer,
            () = hooks.cancel.cancelled() => Err(ClientFault::Cancelled),
            () = core.ended.cancelled() => Err(core.gone()),
            () = tokio::time::sleep(hooks.timeout) => Err(ClientFault::TimedOut(hooks.timeout)),
        }
    }

    async fn exchange(&self, core: &Arc<Core>, hello: &Hello, asking: &Asking<'_>) -> Answer {
        if !core.is_open() {
            return Err(core.gone());
        }
        let hooks = asking.hooks;
        let id = core.next_id();
        let told = hooks.emissions.is_some() && wire::wants_progress(asking.params);
        let stamp = Stamp {
            progress: told.then_some(hooks.token.unwrap_or(id)),
            modern: modern_stamp(hello, asking),
            trace: hooks.trace.as_deref(),
        };
        let message = wire::request(id, asking.method, asking.params, &stamp);
        let kind = match asking.method {
            "subscriptions/listen" => Kind::Standing,
            _ => Kind::Call,
        };
        let mut under_way = core.begin(id, hooks.emissions.clone(), kind, self.farewell(asking));
        let answer = match self {
            Self::Pipe => Pipe::exchange(core, &mut under_way, message).await,
            Self::Sse(pair) => pair.exchange(&mut under_way, message).await,
            Self::Streamable(streamable) => {
                let name = match asking.speaking {
                    Speaking::Modern(_) => target(asking.method, asking.params),
                    Speaking::Handshake | Speaking::Legacy => None,
                };
                let heading = heading(asking, name.as_deref());
                streamable.exchange(&mut under_way, message, heading).await
            }
        };
        under_way.farewell = match &answer {
            // The upstream may still be at work on what we could not follow.
            Err(ClientFault::Broken { .. } | ClientFault::Protocol(_) | ClientFault::TooLarge { .. }) => {
                under_way.farewell
            }
            Ok(_) | Err(_) => Farewell::Silent,
        };
        answer
    }

    /// How an upstream learns that a request was given up. An opening cannot be taken back, and over HTTP the modern
    /// era does it by closing the stream.
    fn farewell(&self, asking: &Asking<'_>) -> Farewell {
        if asking.method == "server/discover" {
            return Farewell::Silent;
        }
        match (asking.speaking, self) {
            (Speaking::Handshake, _) | (Speaking::Modern(_), Self::Streamable(_)) => Farewell::Silent,
            (Speaking::Legacy, _) | (Speaking::Modern(_), Self::Pipe | Self::Sse(_)) => Farewell::Cancelled,
        }
    }

    pub(super) async fn notify(
        &self,
        core: &Core,
        speaking: Speaking,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<(), ClientFault> {
        if !core.is_open() {
            return Err(core.gone());
        }
        let message = wire::notification(method, params);
        match self {
            Self::Pipe => Pipe::notify(core, message).await,
            Self::Sse(pair) => pair.post(message).await,
            Self::Streamable(streamable) => {
                let heading = match speaking {
                    Speaking::Handshake => Heading::Bare,
                    Speaking::Legacy => Heading::Legacy,
                    Speaking::Modern(version) => Heading::Modern {
                        version,
                        method,
                        name: None,
                        extra: &[],
                    },
                };
                match streamable.post(message, heading).await? {
                    Posted::Accepted(_) => Ok(()),
                    Posted::Refused(refusal) => Err(refusal.into_fault()),
                }
            }
        }
    }

    pub(super) fn settle_version(&self, core: &Core, version: Version) {
        core.settle_version(version);
        match self {
            Self::Pipe => {}
            Self::Sse(pair) => pair.settle_version(version),
            Self::Streamable(streamable) => streamable.settle_version(version),
        }
    }

    pub(super) async fn close(&self, core: &Core) {
        if core.is_open() {
            match self {
                Self::Pipe | Self::Sse(_) => {}
                Self::Streamable(streamable) => streamable.close().await,
            }
        }
        core.end(Gone::Closed);
    }
}

fn modern_stamp<'a>(hello: &'a Hello, asking: &Asking<'a>) -> Option<Modern<'a>> {
    match asking.speaking {
        Speaking::Handshake | Speaking::Legacy => None,
        Speaking::Modern(version) => Some(Modern {
            version,
            client_info: &hello.client_info,
            capabilities: asking.hooks.caps.as_deref().unwrap_or(&hello.capabilities),
            log_level: asking.hooks.log_level,
        }),
    }
}

fn heading<'a>(asking: &Asking<'a>, name: Option<&'a str>) -> Heading<'a> {
    match asking.speaking {
        Speaking::Handshake => Heading::Bare,
        Speaking::Legacy => Heading::Legacy,
        Speaking::Modern(version) => Heading::Modern {
            version,
            method: asking.method,
            name,
            extra: &asking.hooks.headers,
        },
    }
}
