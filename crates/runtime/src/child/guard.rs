//! What our own binary does as a guard: it runs one program, and ends it with all its descendants when it is told to,
//! when the gateway is gone, or when the program itself has ended and left others behind.
//!
//! It has a single thread, and sees to each number of a process before it waits for that process, so that it never
//! signals somebody else's. It copies nothing, reads nothing but its socket, and says nothing to anybody else.

use super::{
    control::{self, ORDER_BYTES, Order, Report},
    descendants,
    fault::{Exit, GuardFault},
};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpgid, kill_process, kill_process_group, wait, waitid,
};
use std::{
    ffi::{OsStr, OsString},
    future::pending,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, ExitCode, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    signal::unix::{Signal as Signals, SignalKind, signal},
    time::{sleep, timeout},
};

/// How long SIGKILL may take: a process that hangs in the kernel does not heed even that.
pub(super) const KILL_MAX: Duration = Duration::from_secs(5);
/// Who is killed hands its children over, of which the kernel tells nobody; so they are looked for again and again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What is added to the number of a signal.
const SIGNAL_BASE: i32 = 128;
/// What a shell, too, says of a program that cannot be run.
const CANNOT_RUN: u8 = 126;

/// Guards a program until it and all that it started are gone. The exit code is the program's, or 128 and the number of
/// the signal that ended it.
pub fn run(program: &OsStr, args: &[OsString]) -> Result<ExitCode, GuardFault> {
    stand_apart();
    let socket = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(GuardFault::NotByTheGateway)?;
    let (order, streams) = control::receive_streams(&socket).map_err(GuardFault::NotByTheGateway)?;
    descendants::adopt().map_err(GuardFault::Blind)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(guard(socket, order, streams, program, args)))
        .map_err(GuardFault::Blind)
}

/// Leaves the gateway's session: a child has no terminal to ask on, and Ctrl-C reaches the gateway alone. Whoever ends
/// all processes of the gateway's name does not hit the guard. Neither is worth failing for.
fn stand_apart() {
    let _still_in_it = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    let _same_name = rustix::thread::set_name(c"child-guard");
}

async fn guard(
    socket: OwnedFd,
    order: Order,
    streams: [OwnedFd; 3],
    program: &OsStr,
    args: &[OsString],
) -> io::Result<ExitCode> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let (orders, mut reports) = UnixStream::from_std(socket)?.into_split();
    // Handlers are in place before there is anything to hear.
    let news = signal(SignalKind::child())?;
    let asked = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [terminate, interrupt, hangup] = asked.map(signal);
    let [input, output, error] = streams.map(Stdio::from);
    let spawned = Command::new(program)
        .args(args)
        .stdin(input)
        .stdout(output)
        .stderr(error)
        .process_group(0)
        .spawn();
    let program = match spawned {
        Ok(child) => Pid::from_child(&child),
        Err(fault) => {
            let report = Report::Failed(fault.raw_os_error().unwrap_or(0));
            let _gone = reports.write_all(&report.encode()).await;
            return Ok(ExitCode::from(CANNOT_RUN));
        }
    };
    let started = Report::Started(program.as_raw_nonzero().get());
    let _gone = reports.write_all(&started.encode()).await;
    let guard = Guard {
        family: Family {
            program,
            exit: None,
            asked: Vec::new(),
        },
        news,
        reports,
    };
    let boss = Boss {
        orders: Some(orders),
        signals: [terminate?, interrupt?, hangup?],
        grace: order.grace,
    };
    Ok(guard.work(boss).await)
}

/// Whoever may tell the guard to end its program.
struct Boss {
    /// Nothing once the gateway is gone, which has then been told.
    orders: Option<OwnedReadHalf>,
    signals: [Signals; 3],
    /// What the first order said; it holds when nobody says otherwise.
    grace: Duration,
}

impl Boss {
    /// Waits until the program shall end, and returns how long it may take.
    async fn ordered(&mut self) -> Duration {
        let Self { orders, signals, grace } = self;
        let [terminate, interrupt, hangup] = signals;
        let order = tokio::select! {
            order = next_order(orders) => order,
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            _ = hangup.recv() => None,
        };
        order.map_or(*grace, |order| order.grace)
    }
}

/// The next order; nothing when the gateway is gone, which is told once.
async fn next_order(orders: &mut Option<OwnedReadHalf>) -> Option<Order> {
    let Some(socket) = orders else {
        return pending().await;
    };
    let mut bytes = [0; ORDER_BYTES];
    if socket.read_exact(&mut bytes).await.is_ok() {
        Some(Order::decode(bytes))
    } else {
        *orders = None;
        None
    }
}

struct Guard {
    family: Family,
    /// One of our direct children has ended.
    news: Signals,
    reports: OwnedWriteHalf,
}

impl Guard {
    async fn work(mut self, mut boss: Boss) -> ExitCode {
        let mut grace = tokio::select! {
            grace = boss.ordered() => grace,
            () = self.program_ended() => boss.grace,
        };
        self.family.ask();
        loop {
            tokio::select! {
                () = self.all_gone() => break,
                () = sleep(grace) => break,
                sooner = boss.ordered() => grace = grace.min(sooner),
            }
        }
        let _immortal = timeout(KILL_MAX, self.kill_all()).await;
        ExitCode::from(mirrored(self.family.exit))
    }

    /// Waits for the program alone. What it leaves behind, or hands over while it runs, is waited for on the way.
    async fn program_ended(&mut self) {
        loop {
            self.look().await;
            if self.family.exit.is_some() {
                return;
            }
            self.news.recv().await;
        }
    }

    /// Waits for everybody, and asks those to end who are handed over meanwhile.
    async fn all_gone(&mut self) {
        while self.look().await == Left::Some {
            self.family.ask();
            self.news.recv().await;
        }
    }

    /// Kills whoever is left, layer by layer.
    async fn kill_all(&mut self) {
        while self.look().await == Left::Some {
            self.family.kill();
            tokio::select! {
                _ = self.news.recv() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Takes note of who has ended, and reports the program's end.
    async fn look(&mut self) -> Left {
        let known = self.family.exit;
        let left = self.family.reap();
        if let (None, Some(exit)) = (known, self.family.exit) {
            // Where the gateway is gone nobody needs to know.
            let _gone = self.reports.write_all(&Report::Ended(exit).encode()).await;
        }
        left
    }
}

/// The exit code by which a shell, too, would tell how a program ended.
fn mirrored(exit: Option<Exit>) -> u8 {
    let number = match exit {
        Some(Exit::Code(code)) => code & 0xff,
        Some(Exit::Signal(number)) => SIGNAL_BASE + number,
        Some(Exit::Unseen) | None => 1,
    };
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Whether any child is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Some,
    None,
}

/// The program, and whoever it started.
struct Family {
    /// The program's process, and the process group that it leads.
    program: Pid,
    exit: Option<Exit>,
    /// Those outside the group who were asked to end. A second SIGTERM means "at once" to some.
    asked: Vec<Pid>,
}

impl Family {
    /// Waits for all who have ended.
    fn reap(&mut self) -> Left {
        loop {
            if self.exit.is_none() {
                self.note_the_end();
            }
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.program => {
                    let signal = status.terminating_signal().map(Exit::Signal);
                    let code = status.exit_status().map(Exit::Code);
                    self.exit = self.exit.or(signal).or(code);
                }
                Ok(Some((pid, _))) => self.asked.retain(|asked| *asked != pid),
                Ok(None) => return Left::Some,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Left::None,
            }
        }
    }

    /// Looks whether the program has ended, without waiting for it: until then the number of its group is its own, so
    /// that whoever it left there can be asked to go.
    fn note_the_end(&mut self) {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if let Ok(Some(status)) = waitid(WaitId::Pid(self.program), peek) {
            let signal = status.terminating_signal().map(Exit::Signal);
            self.exit = signal.or(status.exit_status().map(Exit::Code));
            // Where descendants are not handed to us, this is the last chance to end them.
            let parting = if cfg!(target_os = "linux") {
                Signal::TERM
            } else {
                Signal::KILL
            };
            let _nobody_left = kill_process_group(self.program, parting);
        }
    }

    /// Asks everybody once to end.
    fn ask(&mut self) {
        if self.exit.is_none() && !self.asked.contains(&self.program) {
            self.asked.push(self.program);
            let _nobody_left = kill_process_group(self.program, Signal::TERM);
        }
        for child in descendants::children() {
            let in_the_group = getpgid(Some(child)) == Ok(self.program);
            if !in_the_group && !self.asked.contains(&child) {
                self.asked.push(child);
                let _ended = kill_process(child, Signal::TERM);
            }
        }
    }

    fn kill(&self) {
        if self.exit.is_none() {
            let _nobody_left = kill_process_group(self.program, Signal::KILL);
        }
        for child in descendants::children() {
            let _ended = kill_process(child, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_program_s() {
        for (exit, code) in [
            (Some(Exit::Code(0)), 0),
            (Some(Exit::Code(255)), 255),
            (Some(Exit::Signal(9)), 137),
            (Some(Exit::Signal(15)), 143),
            (None, 1),
        ] {
            assert_eq!(mirrored(exit), code, "{exit:?}");
        }
    }
}
