//! What asking a model costs: held before a byte goes upstream, settled at what the engine says that it used.
//!
//! [`bound`] tells the most that a request can come to, [`price`] what tokens cost, [`bill`] holds and settles by the
//! [`verdict`] on what is known, [`output`] puts a limit on the answer where the client set none, and [`fields`] refuses names
//! that could be read as other ones. The record of a request carries its bill, so whatever ends the one ends the other: an
//! answer, a failure, a dropped future.
//!
//! It refuses to guess in the payer's favour: what may have been spent is posted, and what cannot be bounded is not sent
//! where a budget counts.

mod bill;
mod bound;
mod fields;
mod output;
mod price;
mod spent;
mod verdict;
mod work;

pub(crate) use bill::{Bill, Billing, Opened, Order};
pub(crate) use bound::Bound;
pub(crate) use fields::{check_model, once};
pub(crate) use output::{Has, Limit};
pub(crate) use price::{Prices, Tokens};
pub(crate) use spent::{Cost, Spent};
pub(crate) use work::Work;
