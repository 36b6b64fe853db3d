//! A turn: everything between one question and its answer where the client's own bytes cannot just pass.
//!
//! A turn asks in the canonical form of [`crate::dialect`], hop by hop: the model says something, the gateway's tools
//! that it calls run, and it is asked again with their results. What it says is written in the API of whoever asked.
//! Whether a request needs a turn at all is found by a look at its bytes ([`glance`]); what is decided on the way is
//! plain data ([`offer`], [`taint`], [`plan`]), and only [`run`], [`round`] and [`work`] act.
//!
//! It refuses to run what the client itself offers, to ask without end ([`bounds`]), and to let text that others wrote
//! decide what is allowed. Dropping a turn drops what it waits for: the engine and the tools hear of it at once.

mod block;
mod bounds;
mod calls;
mod glance;
mod hear;
mod hop;
mod inform;
mod kept;
mod offer;
mod plan;
mod question;
mod report;
mod responses;
mod round;
mod run;
mod servers;
mod stream;
mod taint;
mod usage;
mod wish;
mod work;
mod writer;

pub(crate) use bounds::Bounds;
pub(crate) use glance::{check_embeddings, wants_background, wants_turn};
pub(crate) use hop::{Asker, Calling, Desk, prepare};
pub use kept::ResponsesConfig;
pub(crate) use kept::{Before, Ground, Shelf, input_items, previous};
pub(crate) use question::Question;
pub(crate) use run::Turn;

use forebay_domain::port::{CallTool, FindContext};
use std::sync::Arc;

/// What a turn may use of other parts of the gateway. They stand on the router themselves, and so come after it.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) tools: Arc<dyn CallTool>,
    pub(crate) context: Arc<dyn FindContext>,
}
