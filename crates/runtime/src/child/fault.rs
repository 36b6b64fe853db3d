//! Why a child did not start, and how one ended.

use forebay_domain::{Code, Failure};
use std::{fmt, io, path::PathBuf, time::Duration};

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    #[error("the program `{program}` was not found")]
    NotFound { program: String },
    #[error("the program `{program}` may not be executed")]
    NotExecutable { program: String },
    #[error("the program `{program}` could not be started")]
    Refused {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("`{}`, the folder to run `{program}` in, cannot be used", folder.display())]
    Folder {
        program: String,
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The machine or our own binary is at fault, not the program.
    #[error("no guard could be started for the program `{program}`")]
    Guard {
        program: String,
        #[source]
        source: io::Error,
    },
    /// The guard ended, or said nothing for too long.
    #[error("the guard of the program `{program}` did not answer within {} s", waited.as_secs())]
    Silent { program: String, waited: Duration },
}

impl StartFault {
    /// What the operating system said when the guard tried to run the program.
    pub(super) fn of(program: &str, source: io::Error) -> Self {
        let program = program.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { program },
            io::ErrorKind::PermissionDenied => Self::NotExecutable { program },
            _ => Self::Refused { program, source },
        }
    }

    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => {
                "Install it on the gateway's machine, or configure its whole path. (A script whose interpreter is \
                 missing is not found either.)"
            }
            Self::NotExecutable { .. } => "Check the file's mode and that it is no folder.",
            Self::Refused { .. } => "Check that it is a program for this machine and that its arguments are sound.",
            Self::Folder { .. } => "Create the folder, or configure another one as `cwd`.",
            Self::Guard { .. } | Self::Silent { .. } => {
                "Check the machine's limits on processes and file descriptors, and its load."
            }
        }
    }
}

impl From<StartFault> for Failure {
    fn from(fault: StartFault) -> Self {
        let code = match &fault {
            StartFault::NotFound { .. }
            | StartFault::NotExecutable { .. }
            | StartFault::Refused { .. }
            | StartFault::Folder { .. } => Code::UpstreamFailed,
            StartFault::Guard { .. } | StartFault::Silent { .. } => Code::Overloaded,
        };
        let mut message = fault.to_string();
        message[..1].make_ascii_uppercase();
        message.push('.');
        let hint = fault.hint();
        let failure = Self::new(code, message).hint(hint);
        match fault {
            StartFault::Refused { source, .. }
            | StartFault::Folder { source, .. }
            | StartFault::Guard { source, .. } => failure.caused_by(source),
            StartFault::NotFound { .. } | StartFault::NotExecutable { .. } | StartFault::Silent { .. } => failure,
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Its guard was killed, so that nobody saw it end. It was killed, too.
    Unseen,
}

impl Exit {
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::Unseen => write!(f, "killed with its guard"),
        }
    }
}

/// Why a guard did not guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardFault {
    #[error("a guard is started by the gateway itself, with a socket as standard input")]
    NotByTheGateway(#[source] io::Error),
    #[error("the guard cannot watch its program")]
    Blind(#[source] io::Error),
}

impl From<GuardFault> for Failure {
    fn from(fault: GuardFault) -> Self {
        match fault {
            GuardFault::NotByTheGateway(source) => Self::new(
                Code::InvalidConfig,
                "A guard is started by the gateway itself, never by hand.",
            )
            .hint("Name the program in the configuration, and the gateway runs it under a guard.")
            .caused_by(source),
            GuardFault::Blind(source) => Self::new(Code::Overloaded, "The guard cannot watch its program.")
                .hint("Check the machine's limits on processes and file descriptors.")
                .caused_by(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_names_the_program_and_what_to_do() {
        let program = || "no-such-program".to_owned();
        let source = || io::Error::from_raw_os_error(8);
        let faults = [
            StartFault::of("no-such-program", io::Error::from_raw_os_error(2)),
            StartFault::of("no-such-program", io::Error::from_raw_os_error(13)),
            StartFault::of("no-such-program", source()),
            StartFault::Folder {
                program: program(),
                folder: "/nowhere".into(),
                source: source(),
            },
            StartFault::Guard {
                program: program(),
                source: source(),
            },
            StartFault::Silent {
                program: program(),
                waited: Duration::from_secs(10),
            },
        ];
        for fault in faults {
            let failure = Failure::from(fault);
            assert!(failure.message.contains("`no-such-program`"), "{}", failure.message);
            assert!(failure.message.ends_with('.'), "{}", failure.message);
            assert!(failure.hint.is_some_and(|hint| hint.ends_with(['.', ')'])));
        }
    }
}
