//! Whoever is left below a guard: its direct children, among them what lost its own parent and was handed to the guard.
//!
//! The kernel keeps the number of a child until its parent has waited for it. So a number found here is the child's
//! own as long as the guard, which has a single thread, does not wait in between.

use rustix::process::Pid;

/// Makes this process the new parent of descendants that lose theirs. Without this, those that leave the program's
/// process group would go to the machine's first process, where nobody finds them.
#[cfg(target_os = "linux")]
pub(super) fn adopt() -> std::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// The processes whose parent this one is. `/proc` is read instead of kept count of, since the kernel tells nobody when
/// it hands a child over.
#[cfg(target_os = "linux")]
pub(super) fn children() -> Vec<Pid> {
    let own = rustix::process::getpid();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            parent(&stat) == Some(own)
        })
        .collect()
}

/// The parent in a line of `/proc/PID/stat`. The second field is the program's name in parentheses, which may itself
/// contain both spaces and parentheses.
#[cfg(target_os = "linux")]
fn parent(stat: &str) -> Option<Pid> {
    let (_, after_name) = stat.rsplit_once(')')?;
    Pid::from_raw(after_name.split_ascii_whitespace().nth(1)?.parse().ok()?)
}

/// Elsewhere there is no such service: what leaves the process group is out of reach.
#[cfg(not(target_os = "linux"))]
pub(super) fn adopt() -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn children() -> Vec<Pid> {
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        for (stat, expected) in [
            ("12 (sh) S 7 12 12 0", Some(7)),
            ("12 (a) b (c)) R 8 12 12 0", Some(8)),
            ("1 (init) S 0 1 1 0", None),
            ("", None),
            ("12 (sh", None),
        ] {
            assert_eq!(parent(stat).map(|pid| pid.as_raw_nonzero().get()), expected, "{stat}");
        }
    }

    #[test]
    fn children_are_found_and_others_are_not() {
        assert!(!children().contains(&rustix::process::getpid()));
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        assert!(children().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children().contains(&pid));
    }
}
