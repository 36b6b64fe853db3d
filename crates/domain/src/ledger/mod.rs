//! Spending: who pays, what limits say, and which entries a movement of money makes.
//!
//! Every movement is a few entries that sum to zero. What is about to be spent is *held* first, as an upper bound; then it
//! is *settled* at what it came to, or *voided*. A limit looks back over a window that ends now:
//! what was posted within it, and all that is held, stay below it.

mod admit;
mod book;
mod budget;
mod entry;
mod hold;
mod payer;
mod request;
mod window;

pub use admit::{Admission, Ask, Overrun, Reason, Standing, admit, lasts};
pub use book::{Book, Changes, Facts, Head, Keyed, Post, Refunded, Txn, TxnKind};
pub use budget::{BudgetRule, PurseName};
pub use entry::{Account, Entry, Movement};
pub use hold::{HoldRecord, HoldState, Purpose, PurposeKind};
pub use payer::{Payer, Purse, Scope};
pub use request::{KEY_BYTES_MAX, NewHold, Outcome, PURPOSE_BYTES_MAX, Posting, Refusal, Request, RequestFault};
pub use window::{Enforcement, MINUTES_MAX, Window, WindowFault};
