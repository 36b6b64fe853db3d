//! Programs that run beside the gateway and never outlive it: upstream servers, inference engines, node agents.
//!
//! Each runs under a guard, which is our own binary started anew (`forebay child-guard -- PROGRAM …`). The guard waits
//! on a socket whose other end only the gateway holds. When the kernel closes that end, even after `kill -9`, the guard
//! ends the program and everything that the program has started. ADR 0009 says why it is done so.
//!
//! [`Launcher::start`] starts one child; [`supervise`] keeps one running.
//!
//! Nothing here runs a shell, hands on the gateway's own environment beyond a short list, or lets output that nobody
//! reads grow without bound. A child is no sandbox: it has the gateway's user and its network.

mod command;
mod control;
mod descendants;
mod fault;
mod guard;
mod logs;
mod process;
mod restart;
mod supervisor;

pub use command::{Command, Launcher, own_binary};
pub use fault::{Exit, GuardFault, StartFault};
pub use guard::run as run_guard;
pub use logs::{Line, Logs};
pub use process::{Child, Io, Patience, Stdin, Stdout};
pub use restart::Restart;
pub use supervisor::{Running, State, Supervisor, Trouble, supervise};

/// The words by which our own binary is told to be a guard; the program and its arguments follow.
pub const GUARD_WORDS: [&str; 2] = ["child-guard", "--"];
