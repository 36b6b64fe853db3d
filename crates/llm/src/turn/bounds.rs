//! How much one turn may do. The model decides what it calls; these decide when it has called enough.

use std::time::Duration;

/// So many times tools run before the model is asked once more, without tools, to answer with what it has.
pub(super) const ROUNDS_MAX: u32 = 8;
/// Calls of the gateway's tools in all.
pub(super) const CALLS_MAX: usize = 32;
/// Calls that run at one time.
pub(super) const PARALLEL_MAX: usize = 8;
/// How long a turn may go on asking and calling. What is being said then is said to its end.
pub(super) const TIME_MAX: Duration = Duration::from_mins(2);
/// Of one result the model gets so much.
pub(super) const RESULT_BYTES_MAX: usize = 64 << 10;
/// While tools run the client of a stream hears so often that it is not forgotten.
pub(super) const REMINDER: Duration = Duration::from_secs(10);
