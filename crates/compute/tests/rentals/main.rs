//! Rentals against fake providers and real databases: whatever dies, lies or says nothing, no machine is lost, none is
//! made twice, and what is spent is posted.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a part that does not work shall fail its test at once"
)]

mod acceptance;
mod bills;
mod crashes;
mod ends;
mod failed;
mod images;
mod limits;
mod prepaid;
mod prices;
mod slow;
mod unclear;
mod world;
