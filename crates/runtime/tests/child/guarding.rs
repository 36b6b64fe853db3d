//! The guard, when the gateway or the guard itself comes to a bad end.

use crate::fixtures::{DEAF, FAMILY, FAMILY_SIZE, HASTY, Process, launcher, lines, processes, sh, within};
use forebay_runtime::{Tasks, child::Exit};
use rustix::process::{Signal, kill_process};
use std::{env, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{self, Command},
};

/// A gateway as a process of its own, which runs a family of processes.
async fn gateway() -> (process::Child, Vec<Process>) {
    let mut gateway = Command::new(env::current_exe().unwrap())
        .args(["gateway", FAMILY])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let mut family = processes(&mut said, FAMILY_SIZE).await;
    family.push(family[0].parent());
    (gateway, family)
}

pub(crate) async fn all_descendants_of_a_killed_gateway_are_gone() {
    let (mut gateway, family) = gateway().await;
    assert!(family.iter().all(Process::is_alive));
    gateway.kill().await.unwrap();
    for process in family {
        process.gone();
    }
}

pub(crate) async fn a_gateway_that_ends_leaves_nothing() {
    let (mut gateway, family) = gateway().await;
    let process = Process::open(i32::try_from(gateway.id().unwrap()).unwrap());
    kill_process(process.pid, Signal::TERM).unwrap();
    gateway.wait().await.unwrap();
    for process in family {
        process.gone();
    }
}

pub(crate) async fn a_killed_guard_takes_its_program_along() {
    let launcher = launcher(&Tasks::new());
    let mut child = launcher
        .start(&sh("echo $$; sleep 1000 & echo $!; wait"))
        .await
        .unwrap();
    let io = child.take_io().unwrap();
    let family = processes(&mut lines(io.stdout), 2).await;
    kill_process(family[0].parent().pid, Signal::KILL).unwrap();
    assert_eq!(within(child.exited()).await, Exit::Unseen);
    for process in family {
        process.gone();
    }
}

pub(crate) async fn a_stuck_guard_is_noticed() {
    let launcher = launcher(&Tasks::new());
    let mut child = launcher.start(&sh(DEAF)).await.unwrap();
    let io = child.take_io().unwrap();
    let program = processes(&mut lines(io.stdout), 1).await;
    kill_process(program[0].parent().pid, Signal::STOP).unwrap();
    assert_eq!(within(child.kill(HASTY)).await, Exit::Unseen);
    program[0].gone();
}

pub(crate) async fn a_guard_refuses_to_be_started_by_hand() {
    let guard = |stdin: Stdio| {
        let words = ["child-guard", "--", "touch", "/no/such/folder/at-all"];
        Command::new(env::current_exe().unwrap())
            .args(words)
            .stdin(stdin)
            .output()
    };
    for stdin in [Stdio::null(), Stdio::piped()] {
        let output = within(guard(stdin)).await.unwrap();
        assert_eq!(output.status.code(), Some(99));
        assert!(output.stderr.is_empty(), "the program was not started");
    }
}
