//! What to run, and what a child may see of the gateway: a few variables, and nothing that looks like a secret.

use super::{
    fault::StartFault,
    logs::Logs,
    process::{self, Child},
};
use crate::{Clock, Tasks};
use std::{env, fmt, io, path::PathBuf, sync::Arc};

/// The variables of the gateway that a child inherits. Proxy variables are not among them: they often hold passwords.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NUMERIC",
    "LC_TIME",
];

/// One program to run.
#[derive(Clone, Default)]
pub struct Command {
    /// What logs call it; not what is run.
    pub name: String,
    /// A path, or a name that is looked up on the child's `PATH`.
    pub program: String,
    pub args: Vec<String>,
    /// Set in the child, beside and above what it inherits. Values may be secrets.
    pub env: Vec<(String, String)>,
    /// The folder to run in; the gateway's own where there is none.
    pub cwd: Option<PathBuf>,
}

/// Arguments and values may be secrets, so they are counted and not shown.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Command")
            .field("name", &self.name)
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &names)
            .field("cwd", &self.cwd)
            .finish()
    }
}

/// Starts children. Cheap to clone; there is one for a process.
#[derive(Clone)]
pub struct Launcher {
    pub(super) guard: Arc<PathBuf>,
    pub(super) inherited: Arc<Vec<(String, String)>>,
    pub(super) tasks: Tasks,
    pub(super) clock: Clock,
}

impl Launcher {
    /// `guard` is our own binary (see [`own_binary`]); `environment` looks up a variable of this process. Whatever runs
    /// beside a child is owned by `tasks`.
    pub fn new(guard: PathBuf, environment: impl Fn(&str) -> Option<String>, tasks: Tasks, clock: Clock) -> Self {
        let inherited = INHERITED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), environment(name)?)))
            .collect();
        Self {
            guard: Arc::new(guard),
            inherited: Arc::new(inherited),
            tasks,
            clock,
        }
    }

    /// Starts a program, and returns once it runs or cannot.
    ///
    /// A child does not end because draining begins: its owner knows what is still under way in it. The owner ends it
    /// with [`Child::kill`], or by dropping it.
    pub async fn start(&self, command: &Command) -> Result<Child, StartFault> {
        self.start_into(command, Logs::new()).await
    }

    /// The same, with standard error going to lines that were begun earlier.
    pub async fn start_into(&self, command: &Command, logs: Logs) -> Result<Child, StartFault> {
        process::start(self, command, logs).await
    }
}

/// The path by which this process can start itself again.
///
/// On Linux that is a name for the very file that runs, so that a gateway whose binary was replaced on disk still starts
/// guards of its own version.
pub fn own_binary() -> io::Result<PathBuf> {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() {
        return Ok(itself);
    }
    env::current_exe()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_are_inherited() {
        let all_set = |name: &str| Some(format!("value of {name}"));
        let launcher = Launcher::new(PathBuf::new(), all_set, Tasks::new(), Clock::system());
        let names: Vec<&str> = launcher.inherited.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, INHERITED);
        let none = Launcher::new(PathBuf::new(), |_| None, Tasks::new(), Clock::system());
        assert!(none.inherited.is_empty());
    }

    #[test]
    fn a_command_shows_no_secret() {
        let command = Command {
            name: "docs".into(),
            program: "npx".into(),
            args: vec!["--token=canary-args".into()],
            env: vec![("TOKEN".into(), "canary-env".into())],
            cwd: None,
        };
        let shown = format!("{command:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("npx") && shown.contains("TOKEN"), "{shown}");
    }
}
