//! The supervisor: when it starts again, what it tells meanwhile, and how it stops.

use crate::fixtures::{DEAF, HASTY, Process, SLOW, command, launcher, launcher_at, lines, processes, sh, within};
use forebay_runtime::{
    Clock, Entropy, Tasks,
    child::{
        Command, Exit, Io, Launcher, Patience, Restart, Running, StartFault, State, Supervisor, Trouble, supervise,
    },
};
use jiff::Timestamp;
use rustix::process::{Signal, kill_process};
use std::{
    future::{Future, pending},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

/// Waits so long that only being told to makes it start again.
const BY_HAND: Restart = Restart {
    first: Duration::from_hours(1),
    max: Duration::from_hours(8),
    healthy_after: Duration::from_mins(1),
    linger: Duration::ZERO,
    patience: HASTY,
};

async fn holds(running: Running) {
    let _open = running.io;
    pending::<()>().await;
}

fn start<Fut: Future<Output = ()> + Send + 'static>(
    launcher: &Launcher,
    command: Command,
    restart: Restart,
    attend: impl FnMut(Running) -> Fut + Send + 'static,
) -> Supervisor {
    supervise(launcher, Entropy::seeded(3), command, restart, attend)
}

/// A wait for the next start: until when, the how manieth in a row, and why.
async fn down(supervisor: &Supervisor, times: u32) -> (Timestamp, Trouble) {
    let mut states = supervisor.watch();
    let state = within(
        states.wait_for(|state| matches!(state, State::Backoff { ends_in_a_row, .. } if *ends_in_a_row == times)),
    );
    match state.await.unwrap().clone() {
        State::Backoff { until, trouble, .. } => (until, trouble),
        State::Starting | State::Running { .. } | State::Stopped => unreachable!("waited for"),
    }
}

async fn up(supervisor: &Supervisor) -> Process {
    let mut states = supervisor.watch();
    let state = within(states.wait_for(|state| matches!(state, State::Running { .. })))
        .await
        .unwrap()
        .clone();
    match state {
        State::Running { process, .. } => Process::open(i32::try_from(process).unwrap()),
        State::Starting | State::Backoff { .. } | State::Stopped => unreachable!("waited for"),
    }
}

pub(crate) async fn waits_grow_and_every_end_is_told() {
    let now = Timestamp::UNIX_EPOCH;
    let launcher = launcher_at(&Tasks::new(), Clock::manual(now));
    let supervisor = start(&launcher, sh("echo run >&2; exit 3"), BY_HAND, holds);
    for (times, longest_h) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8)] {
        let (until, trouble) = down(&supervisor, times).await;
        assert!(matches!(trouble, Trouble::Exited(Exit::Code(3))), "{trouble:?}");
        let (wait, longest) = (
            until.duration_since(now).unsigned_abs(),
            Duration::from_hours(longest_h),
        );
        assert!((longest / 2..=longest).contains(&wait), "after {times}: {wait:?}");
        supervisor.retry_now();
    }
    down(&supervisor, 6).await;
    assert_eq!(supervisor.logs().seen(), 6, "lines of all runs are kept");
}

pub(crate) async fn it_starts_again_by_itself() {
    let launcher = launcher(&Tasks::new());
    let restart = Restart {
        first: Duration::from_millis(1),
        max: Duration::from_millis(8),
        ..BY_HAND
    };
    let (tell, mut runs) = mpsc::unbounded_channel();
    let supervisor = start(&launcher, sh("exit 1"), restart, move |running| {
        tell.send(running.process).unwrap();
        holds(running)
    });
    for _ in 0..10 {
        within(runs.recv()).await.unwrap();
    }
    within(supervisor.stop()).await;
    assert!(matches!(supervisor.state(), State::Stopped));
}

pub(crate) async fn health_makes_ends_forgotten() {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let launcher = launcher_at(&Tasks::new(), clock.clone());
    let supervisor = start(&launcher, command("cat", &[]), BY_HAND, holds);
    for (ran_for_s, times) in [(0, 1), (59, 2), (1, 3), (60, 1), (3600, 1), (2, 2)] {
        let program = up(&supervisor).await;
        clock.advance(Duration::from_secs(ran_for_s));
        kill_process(program.pid, Signal::KILL).unwrap();
        let (_, trouble) = down(&supervisor, times).await;
        assert!(matches!(trouble, Trouble::Exited(Exit::Signal(9))), "{trouble:?}");
        supervisor.retry_now();
    }
}

pub(crate) async fn whoever_attends_may_let_go() {
    let launcher = launcher(&Tasks::new());
    let (tell, mut told) = mpsc::unbounded_channel();
    let supervisor = start(&launcher, sh(DEAF), BY_HAND, move |running| {
        let tell = tell.clone();
        async move {
            let Io { stdin: _open, stdout } = running.io;
            tell.send(processes(&mut lines(stdout), 1).await).unwrap();
        }
    });
    let program = within(told.recv()).await.unwrap();
    let (_, trouble) = down(&supervisor, 1).await;
    assert!(matches!(trouble, Trouble::LetGo), "{trouble:?}");
    assert!(!program[0].is_alive(), "it was ended first");

    // A program that ends closes its output, which whoever attends may see first; that it ended is still what is told.
    let supervisor = start(&launcher, sh("exit 5"), BY_HAND, |mut running| async move {
        let mut nothing = Vec::new();
        running.io.stdout.read_to_end(&mut nothing).await.unwrap();
    });
    let (_, trouble) = down(&supervisor, 1).await;
    assert!(matches!(trouble, Trouble::Exited(Exit::Code(5))), "{trouble:?}");
}

pub(crate) async fn draining_lets_whoever_attends_finish() {
    let tasks = Tasks::new();
    let launcher = launcher(&tasks);
    let restart = Restart {
        linger: Duration::from_hours(1),
        patience: SLOW,
        ..BY_HAND
    };
    let (tell, mut told) = mpsc::unbounded_channel();
    let supervisor = start(&launcher, command("cat", &[]), restart, move |mut running| {
        let tell = tell.clone();
        async move {
            running.stop.draining().await;
            running.io.stdin.write_all(b"work under way").await.unwrap();
            let mut answer = [0; 14];
            running.io.stdout.read_exact(&mut answer).await.unwrap();
            tell.send(answer).unwrap();
        }
    });
    let program = up(&supervisor).await;
    tasks.stop().drain();
    within(tasks.finished()).await;
    assert_eq!(&told.recv().await.unwrap(), b"work under way");
    assert!(matches!(supervisor.state(), State::Stopped));
    assert!(!program.is_alive());
}

pub(crate) async fn stopping_and_dropping_end_the_child() {
    let tasks = Tasks::new();
    let launcher = launcher(&tasks);
    let patient = Restart {
        patience: Patience {
            after_term: Duration::from_millis(50),
            ..HASTY
        },
        ..BY_HAND
    };
    let supervisor = start(&launcher, sh(DEAF), patient, holds);
    let program = up(&supervisor).await;
    within(supervisor.stop()).await;
    assert!(!program.is_alive());
    within(supervisor.stop()).await;

    let supervisor = start(&launcher, sh(DEAF), patient, holds);
    let program = up(&supervisor).await;
    drop(supervisor);
    program.gone();

    // It stops while it waits, too.
    let supervisor = start(&launcher, sh("exit 1"), BY_HAND, holds);
    down(&supervisor, 1).await;
    within(supervisor.stop()).await;
    within(tasks.finished()).await;
}

pub(crate) async fn ending_waits_for_nobody() {
    let tasks = Tasks::new();
    let restart = Restart {
        linger: Duration::from_hours(1),
        patience: SLOW,
        ..BY_HAND
    };
    let supervisor = start(&launcher(&tasks), sh(DEAF), restart, holds);
    let program = up(&supervisor).await;
    tasks.stop().end();
    within(tasks.finished()).await;
    assert!(matches!(supervisor.state(), State::Stopped));
    program.gone();
}

pub(crate) async fn a_missing_program_is_tried_for_ever() {
    let supervisor = start(
        &launcher(&Tasks::new()),
        command("forebay-no-such-program", &[]),
        BY_HAND,
        holds,
    );
    for times in 1..5 {
        let (_, trouble) = down(&supervisor, times).await;
        let not_found = |fault: &StartFault| matches!(fault, StartFault::NotFound { .. });
        assert!(
            matches!(&trouble, Trouble::NotStarted(fault) if not_found(fault)),
            "{trouble:?}"
        );
        assert!(trouble.to_string().contains("`forebay-no-such-program`"), "{trouble}");
        supervisor.retry_now();
    }
}
