//! Which process holds a seat, told so that another one of the same machine can see whether it is still there.
//!
//! A seat lapses by itself once nobody keeps it. Nobody need wait for that where its holder was a process that this one
//! would see: of the same machine since it was started, the same space of process ids and the same user. Of any other
//! process nothing is concluded.

use forebay_runtime::Entropy;
use sha2::{Digest, Sha256};
use std::{fs, io, os::unix::fs::MetadataExt};

/// What follows the name of a process in its `stat`: the state first, and when it began as the twentieth.
const STARTED: usize = 19;
/// Of the digest, in digits: enough to tell a few machines apart.
const SPACE_CHARS: usize = 24;

/// A process, as the system tells it from those before and after it under the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    id: u32,
    /// In ticks since the machine was started.
    started: u64,
    space: String,
}

/// Draws the name of this process as a holder.
pub(super) fn draw(entropy: &Entropy) -> String {
    let drawn = hex::encode(entropy.bytes::<8>());
    match own() {
        Some(own) => format!("{drawn}.{}.{}.{}", own.id, own.started, own.space),
        None => drawn,
    }
}

/// Whether whoever drew that name is certainly no more.
pub(super) fn is_dead(holder: &str) -> bool {
    match (read(holder), own()) {
        (Some(process), Some(own)) if process.space == own.space => {
            let running = Seen::Running {
                started: process.started,
            };
            look(process.id).is_some_and(|seen| seen != running)
        }
        _ => false,
    }
}

fn read(holder: &str) -> Option<Process> {
    let mut parts = holder.split('.').skip(1);
    Some(Process {
        id: parts.next()?.parse().ok()?,
        started: parts.next()?.parse().ok()?,
        space: parts.next()?.to_owned(),
    })
}

/// This process; nothing where the system does not say.
fn own() -> Option<Process> {
    let id = std::process::id();
    match look(id)? {
        Seen::Running { started } => Some(Process {
            id,
            started,
            space: space().ok()?,
        }),
        Seen::Ended => None,
    }
}

/// Processes of one space see each other.
fn space() -> io::Result<String> {
    let boot = fs::read("/proc/sys/kernel/random/boot_id")?;
    let ids = fs::read_link("/proc/self/ns/pid")?;
    let user = fs::metadata("/proc/self")?.uid();
    let mut digest = Sha256::new_with_prefix(boot);
    digest.update(ids.as_os_str().as_encoded_bytes());
    digest.update(user.to_be_bytes());
    let mut space = hex::encode(digest.finalize());
    space.truncate(SPACE_CHARS);
    Ok(space)
}

/// What there is under the number of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Running { started: u64 },
    Ended,
}

/// Nothing where the system does not say.
fn look(id: u32) -> Option<Seen> {
    match fs::read_to_string(format!("/proc/{id}/stat")) {
        Ok(stat) => read_stat(&stat),
        Err(fault) => (fault.kind() == io::ErrorKind::NotFound).then_some(Seen::Ended),
    }
}

/// What `stat` says; one that has ended and waits to be noticed does not run. Names of processes may have anything in
/// them, so what counts is behind the last bracket.
fn read_stat(stat: &str) -> Option<Seen> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let started = fields.get(STARTED)?.parse().ok()?;
    let has_ended = matches!(*fields.first()?, "Z" | "X" | "x");
    Some(if has_ended {
        Seen::Ended
    } else {
        Seen::Running { started }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn name_of(process: &Process) -> String {
        format!("0.{}.{}.{}", process.id, process.started, process.space)
    }

    #[test]
    fn a_process_is_dead_once_it_has_ended_and_only_then() {
        assert!(!is_dead(&draw(&Entropy::system())), "this one runs");
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let Some(Seen::Running { started }) = look(child.id()) else {
            panic!("it runs");
        };
        let process = Process {
            id: child.id(),
            started,
            space: space().unwrap(),
        };
        assert!(!is_dead(&name_of(&process)));
        let later = Process {
            started: process.started + 1,
            ..process.clone()
        };
        assert!(is_dead(&name_of(&later)), "another one has its number");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_dead(&name_of(&process)));
        let elsewhere = Process {
            space: "0".repeat(SPACE_CHARS),
            ..process
        };
        assert!(!is_dead(&name_of(&elsewhere)), "nobody here would see it");
        for strange in ["", "0123456789abcdef", "a.b.c.d", "0.1", "0.1.2"] {
            assert!(!is_dead(strange), "{strange}");
        }
    }

    #[test]
    fn what_has_ended_does_not_run_whatever_it_is_called() {
        let stat = |state: &str| format!("77 (a) b (c) {state} 1 77 77 0 -1 4 0 0 0 0 1 2 3 4 20 0 1 0 4711 0 0");
        assert_eq!(read_stat(&stat("S")), Some(Seen::Running { started: 4_711 }));
        assert_eq!(read_stat(&stat("Z")), Some(Seen::Ended));
        assert_eq!(read_stat("77 (a) S 1"), None);
        assert_eq!(read_stat(""), None);
    }
}
