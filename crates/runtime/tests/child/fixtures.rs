//! What the tests of children share: scripts, a launcher whose guard is this very binary, and eyes on processes.

use forebay_runtime::{
    Clock, Tasks,
    child::{Command, Io, Launcher, Patience, Stdout, run_guard},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    future::{Future, pending},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines},
    time::timeout,
};

/// What is waited for at most, on a machine that is busy with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Gives a deaf program little time.
pub(crate) const HASTY: Patience = Patience {
    after_eof: Duration::from_millis(20),
    after_term: Duration::from_millis(100),
};

/// Never goes on to the next means: what the test wants to see comes of the first.
pub(crate) const SLOW: Patience = Patience {
    after_eof: Duration::from_hours(1),
    after_term: Duration::from_hours(1),
};

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { within(test).await });
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it comes in time")
}

/// This binary as a guard, after its first word.
pub(crate) fn be_a_guard(words: &[OsString]) -> ExitCode {
    match words {
        [dashes, program, args @ ..] if dashes == "--" => run_guard(program, args).unwrap_or(ExitCode::from(99)),
        _ => ExitCode::from(98),
    }
}

/// This binary as a gateway that runs one script and hands on what it says, until somebody kills it.
pub(crate) fn be_a_gateway(script: &OsStr) -> ExitCode {
    let script = script.to_str().unwrap().to_owned();
    block_on(async move {
        let tasks = Tasks::new();
        let mut child = launcher(&tasks).start(&sh(&script)).await.unwrap();
        let Io {
            stdin: _open,
            mut stdout,
        } = child.take_io().unwrap();
        tokio::io::copy(&mut stdout, &mut tokio::io::stdout()).await.unwrap();
        pending::<()>().await;
    });
    ExitCode::SUCCESS
}

pub(crate) fn launcher(tasks: &Tasks) -> Launcher {
    launcher_at(tasks, Clock::system())
}

pub(crate) fn launcher_at(tasks: &Tasks, clock: Clock) -> Launcher {
    let environment = |name: &str| (name == "PATH").then(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    Launcher::new(env::current_exe().unwrap(), environment, tasks.clone(), clock)
}

pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    Command {
        name: "test".into(),
        program: program.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Command::default()
    }
}

pub(crate) fn sh(script: &str) -> Command {
    command("sh", &["-c", script])
}

/// Ends only when it is killed: neither the end of its input nor SIGTERM moves it.
pub(crate) const DEAF: &str = "trap '' TERM; echo $$; while :; do sleep 1000; done";

/// A script that starts all kinds of descendants. Each prints its number.
pub(crate) const FAMILY: &str = r#"
    echo $$
    sh -c 'echo $$; exec sleep 1000' &
    sh -c 'trap "" TERM; echo $$; while :; do sleep 1000; done' &
    setsid sh -c 'echo $$; exec sleep 1000' &
    (setsid sh -c 'trap "" TERM; echo $$; sleep 1000 & echo $!; wait' &)
    wait
"#;
pub(crate) const FAMILY_SIZE: usize = 6;

/// The numbers that a script prints, each as soon as it is there.
pub(crate) async fn processes(lines: &mut Lines<impl AsyncBufRead + Unpin>, count: usize) -> Vec<Process> {
    let mut found = Vec::new();
    for _ in 0..count {
        let line = within(lines.next_line()).await.unwrap().unwrap();
        found.push(Process::open(line.parse().unwrap()));
    }
    found
}

pub(crate) fn lines(stdout: Stdout) -> Lines<BufReader<Stdout>> {
    BufReader::new(stdout).lines()
}

/// A process that is watched by handle, so that its number cannot come to mean another one.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// Whoever has ended already has none.
    handle: Option<OwnedFd>,
}

impl Process {
    pub(crate) fn open(number: i32) -> Self {
        let pid = Pid::from_raw(number).unwrap();
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok();
        Self { pid, handle }
    }

    /// The parent, which for a program is its guard.
    pub(crate) fn parent(&self) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        Self::open(line.trim().parse().unwrap())
    }

    /// Waits until it has ended; its handle can then be read.
    pub(crate) fn gone(&self) {
        if let Some(handle) = &self.handle {
            let patience = Timespec::try_from(PATIENCE).unwrap();
            let mut watched = [PollFd::new(handle, PollFlags::IN)];
            let ended = tokio::task::block_in_place(|| poll(&mut watched, Some(&patience)).unwrap());
            assert_eq!(ended, 1, "process {} is still there", self.pid);
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| state != 'Z' && state != 'X')
    }
}
