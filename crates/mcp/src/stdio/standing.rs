//! What a client has asked of its session once and for all: which log messages it wants, and of which resources it wants
//! to hear. A session that takes the place of a forgotten one is asked the same again.

use crate::{
    envelope::Request,
    params::{Params, text},
};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Resources that are remembered; the gateway takes no more for one session either.
const SUBSCRIPTIONS_MAX: usize = 1_000;

/// The lines that would have to be said again.
#[derive(Default)]
pub(super) struct Standing {
    level: Option<Bytes>,
    subscriptions: BTreeMap<String, Bytes>,
}

impl Standing {
    pub(super) fn note(&mut self, request: &Request, line: &Bytes) {
        match request.method.as_str() {
            "logging/setLevel" => self.level = Some(line.clone()),
            "resources/subscribe" if self.subscriptions.len() < SUBSCRIPTIONS_MAX => {
                self.subscriptions.extend(uri(request).map(|uri| (uri, line.clone())));
            }
            "resources/unsubscribe" => {
                uri(request).map(|uri| self.subscriptions.remove(&uri));
            }
            _ => {}
        }
    }

    pub(super) fn lines(&self) -> Vec<Bytes> {
        self.level.iter().chain(self.subscriptions.values()).cloned().collect()
    }
}

fn uri(request: &Request) -> Option<String> {
    let params = Params::read(request.params.as_ref()).ok()?;
    text("uri", params.uri).ok().map(std::borrow::Cow::into_owned)
}
