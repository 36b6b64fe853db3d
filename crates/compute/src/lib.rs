//! Machines: what markets offer, and what was rented of it.
//!
//! A [`Market`](market::Market) is one provider, one file each. It is believed in nothing that it need not be: what it
//! says is parsed, bounded and timed out, and an answer that could mean two things means neither. [`Rentals`] is all that
//! was rented of any of them.

pub mod agent;
mod config;
pub mod market;
mod metrics;
mod offers;
pub mod rental;

pub use config::{ApprovalConfig, MarketsConfig, RentalsConfig};
pub use metrics::Metrics;
pub use rental::{Rentals, RentalsParts, Urls};
