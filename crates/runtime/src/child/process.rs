//! One child: its standard streams, its last words, its end.

use super::{
    GUARD_WORDS,
    command::{Command, Launcher},
    control::{self, Order, REPORT_BYTES, Report},
    fault::{Exit, StartFault},
    guard::KILL_MAX,
    logs::Logs,
};
use crate::Clock;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{io, os::fd::OwnedFd, pin::pin, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::pipe},
    process,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// How long a guard may take to say that the program runs.
const START_MAX: Duration = Duration::from_secs(10);
/// How long a guard may take beyond all that it grants before it is taken for stuck.
const GUARD_LAG_MAX: Duration = Duration::from_secs(2);
/// How long the rest of standard error is read after the end. Only what escaped the guard can hold it open for longer.
const LAST_WORDS_MAX: Duration = Duration::from_millis(200);

/// The program's standard input, for writing. Dropping it closes it.
pub type Stdin = pipe::Sender;
/// The program's standard output, for reading.
pub type Stdout = pipe::Receiver;

/// The two streams over which one talks with a program.
#[derive(Debug)]
pub struct Io {
    pub stdin: Stdin,
    pub stdout: Stdout,
}

/// How long a program may take to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// After its standard input was closed; then it gets SIGTERM.
    pub after_eof: Duration,
    /// After SIGTERM; then it and all its descendants get SIGKILL.
    pub after_term: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            after_eof: Duration::from_secs(1),
            after_term: GRACE,
        }
    }
}

/// What a program gets after SIGTERM where nobody says otherwise: when the gateway is gone, or the child is dropped.
const GRACE: Duration = Duration::from_secs(2);

/// A program that was started. Dropping it ends the program: SIGTERM at once, SIGKILL after two seconds.
#[derive(Debug)]
pub struct Child {
    process: u32,
    io: Option<Io>,
    logs: Logs,
    order: watch::Sender<Option<Order>>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Child {
    /// The program's process, which is also its process group.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Its standard input and output: given out once.
    pub fn take_io(&mut self) -> Option<Io> {
        self.io.take()
    }

    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Completes when the program and everything that it started are gone.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        // Without an end nobody watches any more, since this process ends at once. The guard then does, too.
        ended.ok().and_then(|exit| *exit).unwrap_or(Exit::Unseen)
    }

    /// Ends it: closes its standard input, then SIGTERM, then SIGKILL to all that it started.
    ///
    /// Where the streams were given out, their holder drops standard input first, or the first wait is in vain.
    pub async fn kill(&mut self, patience: Patience) -> Exit {
        drop(self.io.take());
        if let Ok(exit) = timeout(patience.after_eof, self.exited()).await {
            return exit;
        }
        let grace = patience.after_term;
        self.order.send_replace(Some(Order { grace }));
        self.exited().await
    }
}

/// The ends that the program gets, and the ends that stay here. All are closed on exec.
struct Pipes {
    theirs: [OwnedFd; 3],
    io: Io,
    stderr: pipe::Receiver,
}

fn pipes() -> io::Result<Pipes> {
    let (stdin, our_stdin) = io::pipe()?;
    let (our_stdout, stdout) = io::pipe()?;
    let (our_stderr, stderr) = io::pipe()?;
    Ok(Pipes {
        theirs: [stdin.into(), stdout.into(), stderr.into()],
        io: Io {
            stdin: Stdin::from_owned_fd(our_stdin.into())?,
            stdout: Stdout::from_owned_fd(our_stdout.into())?,
        },
        stderr: pipe::Receiver::from_owned_fd(our_stderr.into())?,
    })
}

pub(super) async fn start(launcher: &Launcher, command: &Command, logs: Logs) -> Result<Child, StartFault> {
    check_folder(command).await?;
    let guard_fault = |source| StartFault::Guard {
        program: command.program.clone(),
        source,
    };
    let Pipes { theirs, io, stderr } = pipes().map_err(guard_fault)?;
    let started = start_guard(launcher, command, &theirs);
    // Only the program holds its ends, so that these streams end when it wants them to.
    drop(theirs);
    let (guard, mut control) = started.map_err(|source| match source.kind() {
        // The arguments and variables pass through the guard's own, and are what such faults are about.
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => StartFault::of(&command.program, source),
        _ => guard_fault(source),
    })?;
    let process = match timeout(START_MAX, next_report(&mut control)).await {
        Ok(Ok(Report::Started(process))) => process,
        Ok(Ok(Report::Failed(errno))) => {
            let source = io::Error::from_raw_os_error(errno);
            return Err(StartFault::of(&command.program, source));
        }
        Ok(Ok(Report::Ended(_))) => return Err(guard_fault(io::ErrorKind::InvalidData.into())),
        Ok(Err(source)) => return Err(guard_fault(source)),
        Err(_) => {
            return Err(StartFault::Silent {
                program: command.program.clone(),
                waited: START_MAX,
            });
        }
    };
    let (order, orders) = watch::channel(None);
    let (tell_exit, exit) = watch::channel(None);
    let watcher = Watcher {
        name: command.name.clone(),
        guard,
        control,
        group: Pid::from_raw(process),
        orders,
    };
    let (kept, clock) = (logs.clone(), launcher.clock.clone());
    launcher.tasks.spawn("child", |_| async move {
        let exit = watcher.watch(kept, stderr, clock).await;
        tell_exit.send_replace(Some(exit));
    });
    debug!(child.name = command.name, child.process = process, "child started");
    Ok(Child {
        process: process.unsigned_abs(),
        io: Some(io),
        logs,
        order,
        exit,
    })
}

/// Said apart, since the operating system would say the same of a missing folder as of a missing program.
async fn check_folder(command: &Command) -> Result<(), StartFault> {
    let Some(folder) = &command.cwd else {
        return Ok(());
    };
    let fault = |source| StartFault::Folder {
        program: command.program.clone(),
        folder: folder.clone(),
        source,
    };
    if tokio::fs::metadata(folder).await.map_err(fault)?.is_dir() {
        Ok(())
    } else {
        Err(fault(io::ErrorKind::NotADirectory.into()))
    }
}

fn start_guard(
    launcher: &Launcher,
    command: &Command,
    theirs: &[OwnedFd; 3],
) -> io::Result<(process::Child, UnixStream)> {
    let (ours, guards) = std::os::unix::net::UnixStream::pair()?;
    let [stdin, stdout, stderr] = theirs;
    control::send_streams(&ours, Order { grace: GRACE }, [stdin, stdout, stderr])?;
    ours.set_nonblocking(true)?;
    let control = UnixStream::from_std(ours)?;
    let mut guard = process::Command::new(launcher.guard.as_ref());
    guard
        .arg0("forebay")
        .args(GUARD_WORDS)
        .arg(&command.program)
        .args(&command.args)
        .env_clear()
        .envs(launcher.inherited.iter().map(|(name, value)| (name, value)))
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(OwnedFd::from(guards)))
        .stdout(Stdio::null())
        // What the guard itself has to say stands among the program's lines.
        .stderr(Stdio::from(stderr.try_clone()?));
    if let Some(folder) = &command.cwd {
        guard.current_dir(folder);
    }
    Ok((guard.spawn()?, control))
}

async fn next_report(control: &mut (impl AsyncRead + Unpin)) -> io::Result<Report> {
    let mut bytes = [0; REPORT_BYTES];
    control.read_exact(&mut bytes).await?;
    Report::decode(bytes)
}

/// Sees to one child until it is gone. When this is dropped, the socket closes and the guard does the rest alone.
struct Watcher {
    name: String,
    guard: process::Child,
    control: UnixStream,
    /// The program's process group.
    group: Option<Pid>,
    orders: watch::Receiver<Option<Order>>,
}

impl Watcher {
    async fn watch(self, logs: Logs, stderr: pipe::Receiver, clock: Clock) -> Exit {
        let name = self.name.clone();
        let mut reading = pin!(logs.read(&name, stderr, &clock));
        let mut guarding = pin!(self.guarded());
        let mut read = false;
        let exit = loop {
            tokio::select! {
                exit = &mut guarding => break exit,
                () = &mut reading, if !read => read = true,
            }
        };
        if !read {
            let _held_open = timeout(LAST_WORDS_MAX, reading).await;
        }
        debug!(child.name = name, child.exit = %exit, "child ended");
        exit
    }

    /// Hands orders on, and waits for the guard's report and its end.
    async fn guarded(mut self) -> Exit {
        let (mut reports, mut to_guard) = self.control.into_split();
        let mut report = pin!(next_report(&mut reports));
        let (mut reported, mut exit) = (false, None);
        let mut heeds_orders = true;
        // Nothing is overdue before something was ordered.
        let mut overdue = pin!(sleep(Duration::MAX));
        loop {
            tokio::select! {
                _ = self.guard.wait() => break,
                told = &mut report, if !reported => {
                    reported = true;
                    exit = ended(&told);
                }
                order = next_order(&mut self.orders), if heeds_orders => {
                    heeds_orders = order.is_some();
                    let order = order.unwrap_or(Order { grace: GRACE });
                    overdue.set(sleep(order.grace + KILL_MAX + GUARD_LAG_MAX));
                    // A guard that does not listen has ended, or is overdue soon.
                    let _ended = to_guard.write_all(&order.encode()).await;
                }
                () = &mut overdue => {
                    overdue.set(sleep(Duration::MAX));
                    warn!(child.name = self.name, "the guard of a child is stuck and is killed with it");
                    end_group(self.group, exit);
                    let _ended = self.guard.start_kill();
                }
            }
        }
        if !reported {
            // It closed its end, so there is a report by now or there never will be.
            exit = ended(&report.await);
        }
        if exit.is_none() {
            warn!(
                child.name = self.name,
                "the guard of a child was killed; the child is killed, too"
            );
            end_group(self.group, exit);
        }
        exit.unwrap_or(Exit::Unseen)
    }
}

fn ended(report: &io::Result<Report>) -> Option<Exit> {
    match report {
        Ok(Report::Ended(exit)) => Some(*exit),
        Ok(Report::Started(_) | Report::Failed(_)) | Err(_) => None,
    }
}

/// The next order; nothing when nobody can give one any more.
async fn next_order(orders: &mut watch::Receiver<Option<Order>>) -> Option<Order> {
    orders.changed().await.ok()?;
    *orders.borrow_and_update()
}

/// Kills the program's group where its guard did not. Once the program is known to have ended, the number may be
/// somebody else's.
fn end_group(group: Option<Pid>, exit: Option<Exit>) {
    if let (Some(group), None) = (group, exit) {
        let _nobody_left = kill_process_group(group, Signal::KILL);
    }
}
