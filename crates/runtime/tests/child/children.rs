//! One child: how it starts, what it sees, how it ends.

use crate::fixtures::{
    DEAF, FAMILY, FAMILY_SIZE, HASTY, Process, SLOW, command, launcher, lines, processes, sh, within,
};
use forebay_runtime::{
    Clock, Tasks,
    child::{Command, Exit, Io, Launcher, Patience, StartFault},
};
use std::{env, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Runs a command without input to its end, and gives its output.
async fn output(launcher: &Launcher, command: &Command) -> (String, Exit) {
    let mut child = launcher.start(command).await.unwrap();
    let Io { stdin, mut stdout } = child.take_io().unwrap();
    drop(stdin);
    let mut text = String::new();
    stdout.read_to_string(&mut text).await.unwrap();
    (text, child.exited().await)
}

pub(crate) async fn the_end_of_a_program_is_told() {
    let launcher = launcher(&Tasks::new());
    for (script, expected) in [
        ("exit 0", Exit::Code(0)),
        ("exit 3", Exit::Code(3)),
        ("exit 255", Exit::Code(255)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("kill -KILL $$", Exit::Signal(9)),
        ("sleep 1000 & exit 4", Exit::Code(4)),
    ] {
        let child = launcher.start(&sh(script)).await.unwrap();
        assert_eq!(child.exited().await, expected, "{script}");
        assert_eq!(child.exit(), Some(expected), "{script}");
    }
}

pub(crate) async fn what_cannot_be_started_is_named() {
    let launcher = launcher(&Tasks::new());
    let start = async |command: Command| launcher.start(&command).await.map(|_| ()).unwrap_err();
    for missing in ["forebay-no-such-program", "/no/such/program", ""] {
        let fault = start(command(missing, &[])).await;
        assert!(
            matches!(&fault, StartFault::NotFound { program } if program == missing),
            "{fault:?}"
        );
    }
    for unfit in ["/etc/passwd", "/"] {
        let fault = start(command(unfit, &[])).await;
        assert!(
            matches!(&fault, StartFault::NotExecutable { program } if program == unfit),
            "{fault:?}"
        );
    }
    for impossible in ["a\0b".to_owned(), "x".repeat(4 << 20)] {
        let fault = start(command("echo", &[&impossible])).await;
        assert!(matches!(fault, StartFault::Refused { .. }), "{fault:?}");
    }
    for folder in ["/no/such/folder", "/etc/passwd"] {
        let fault = start(Command {
            cwd: Some(folder.into()),
            ..command("true", &[])
        })
        .await;
        assert!(matches!(fault, StartFault::Folder { .. }), "{fault:?}");
    }

    let no_guard = Launcher::new("/no/such/guard".into(), |_| None, Tasks::new(), Clock::system());
    let fault = no_guard.start(&command("true", &[])).await.unwrap_err();
    assert!(matches!(fault, StartFault::Guard { .. }), "{fault:?}");
    let deaf_guard = Launcher::new("/bin/true".into(), |_| None, Tasks::new(), Clock::system());
    let fault = deaf_guard.start(&command("true", &[])).await.unwrap_err();
    assert!(matches!(fault, StartFault::Guard { .. }), "{fault:?}");
}

pub(crate) async fn streams_are_the_program_s_own() {
    let launcher = launcher(&Tasks::new());
    let mut child = launcher.start(&command("cat", &[])).await.unwrap();
    let Io { mut stdin, mut stdout } = child.take_io().unwrap();
    assert!(child.take_io().is_none(), "given out once");
    let sent: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_le_bytes).collect();
    let mut received = Vec::new();
    let (written, read) = tokio::join!(
        async {
            stdin.write_all(&sent).await.unwrap();
            drop(stdin);
        },
        stdout.read_to_end(&mut received)
    );
    let () = written;
    read.unwrap();
    assert!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
    assert_eq!(child.exited().await, Exit::Code(0));

    // All three are pipes, and the guard keeps none of them: the program alone decides when they end.
    let (kinds, _) = output(
        &launcher,
        &sh("readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2"),
    )
    .await;
    assert!(
        kinds.lines().all(|line| line.starts_with("pipe:")) && kinds.lines().count() == 3,
        "{kinds}"
    );
    let (open, _) = output(&launcher, &command("ls", &["/proc/self/fd"])).await;
    let mut direct = std::process::Command::new("ls");
    let inherited = direct.arg("/proc/self/fd").output().unwrap().stdout;
    assert_eq!(
        open.into_bytes(),
        inherited,
        "nothing else is open than whoever started these tests left open"
    );
    let mut child = launcher.start(&sh("exec >&-; read line; exit 5")).await.unwrap();
    let Io { stdin, mut stdout } = child.take_io().unwrap();
    assert_eq!(
        within(stdout.read(&mut [0])).await.unwrap(),
        0,
        "closed while the program runs"
    );
    assert_eq!(child.exit(), None);
    drop(stdin);
    assert_eq!(child.exited().await, Exit::Code(5));
}

pub(crate) async fn a_program_sees_nothing_else_of_the_environment() {
    let environment = |name: &str| match name {
        "PATH" => Some("/usr/bin:/bin".to_owned()),
        "HOME" => Some("/home/of/the/gateway".to_owned()),
        "FOREBAY_KEY" | "HTTPS_PROXY" => Some("canary".to_owned()),
        _ => None,
    };
    let guard = env::current_exe().unwrap();
    let launcher = Launcher::new(guard, environment, Tasks::new(), Clock::system());
    let given = [("TOKEN", "t=1\n2"), ("HOME", "/elsewhere")];
    let command = Command {
        env: given.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        cwd: Some("/".into()),
        ..command("env", &["-0"])
    };
    let (text, _) = output(&launcher, &command).await;
    let mut variables: Vec<&str> = text.split_terminator('\0').collect();
    variables.sort_unstable();
    assert_eq!(variables, ["HOME=/elsewhere", "PATH=/usr/bin:/bin", "TOKEN=t=1\n2"]);
    let (folder, _) = output(
        &launcher,
        &Command {
            program: "pwd".into(),
            args: Vec::new(),
            ..command
        },
    )
    .await;
    assert_eq!(folder, "/\n");
    let (session, _) = output(&launcher, &sh("echo $$; cut -d' ' -f5-7 /proc/$$/stat")).await;
    // Not by the call: it says 0 of a leader outside the container, and that is no number of a process to rustix.
    let (own, _) = output(
        &launcher,
        &sh(&format!("cut -d' ' -f6 /proc/{}/stat", std::process::id())),
    )
    .await;
    let numbers: Vec<&str> = session.split_whitespace().collect();
    assert_eq!(numbers.len(), 4, "{session}");
    assert_eq!(
        (numbers[0], numbers[3]),
        (numbers[1], "0"),
        "a group of its own, and no terminal"
    );
    assert_ne!(numbers[2], own.trim());
}

pub(crate) async fn a_flood_on_standard_error_is_bounded_and_blocks_nobody() {
    const FLOOD: &str = "
        head -c 30000000 /dev/zero | tr '\\0' x >&2
        echo >&2
        yes 'one of many' | head -n 200000 >&2
        printf 'no end' >&2
        echo done";
    let launcher = launcher(&Tasks::new());
    let mut child = launcher.start(&sh(FLOOD)).await.unwrap();
    let mut said = String::new();
    child.take_io().unwrap().stdout.read_to_string(&mut said).await.unwrap();
    assert_eq!((said.as_str(), child.exited().await), ("done\n", Exit::Code(0)));
    let lines = child.logs().lines();
    assert_eq!((lines.len(), child.logs().seen()), (200, 200_002));
    assert_eq!(
        (lines[0].text.as_str(), lines[199].text.as_str()),
        ("one of many", "no end")
    );

    let child = launcher.start(&sh("head -c 30000000 /dev/zero >&2")).await.unwrap();
    child.exited().await;
    let lines = child.logs().lines();
    assert_eq!(
        (lines.len(), lines[0].cut, lines[0].text.chars().count()),
        (1, true, 4096)
    );
}

pub(crate) async fn closing_standard_input_is_tried_first() {
    let launcher = launcher(&Tasks::new());
    let script = "trap 'exit 7' TERM; while read line; do :; done; exit 6";
    let mut child = launcher.start(&sh(script)).await.unwrap();
    assert_eq!(
        child.kill(SLOW).await,
        Exit::Code(6),
        "the streams were still held by the child"
    );
    let mut child = launcher.start(&sh(script)).await.unwrap();
    drop(child.take_io());
    assert_eq!(child.kill(SLOW).await, Exit::Code(6));
}

pub(crate) async fn sigterm_is_tried_second() {
    let launcher = launcher(&Tasks::new());
    let mut child = launcher
        .start(&sh("trap 'exit 7' TERM; sleep 1000 & echo $!; wait"))
        .await
        .unwrap();
    let Io { stdin: _open, stdout } = child.take_io().unwrap();
    let sleeper = processes(&mut lines(stdout), 1).await;
    let patience = Patience {
        after_eof: Duration::from_millis(20),
        ..SLOW
    };
    assert_eq!(child.kill(patience).await, Exit::Code(7));
    assert!(!sleeper[0].is_alive(), "what it started was asked to end, too");
}

pub(crate) async fn a_program_that_ignores_sigterm_is_killed() {
    let launcher = launcher(&Tasks::new());
    let mut child = launcher.start(&sh(DEAF)).await.unwrap();
    let Io { stdin: _open, stdout } = child.take_io().unwrap();
    processes(&mut lines(stdout), 1).await;
    assert_eq!(within(child.kill(HASTY)).await, Exit::Signal(9));
}

pub(crate) async fn what_a_program_leaves_behind_is_ended() {
    let launcher = launcher(&Tasks::new());
    let mut child = launcher
        .start(&sh(&FAMILY.replace("wait\n", "read line; exit 8\n")))
        .await
        .unwrap();
    let Io { stdin, stdout } = child.take_io().unwrap();
    let family = processes(&mut lines(stdout), FAMILY_SIZE).await;
    assert!(family.iter().all(Process::is_alive));
    drop(stdin);
    assert_eq!(within(child.exited()).await, Exit::Code(8));
    assert!(
        !family.iter().any(Process::is_alive),
        "all are gone once the end is told"
    );
}

pub(crate) async fn dropping_a_child_ends_it() {
    let tasks = Tasks::new();
    let mut child = launcher(&tasks).start(&sh(FAMILY)).await.unwrap();
    let family = processes(&mut lines(child.take_io().unwrap().stdout), FAMILY_SIZE).await;
    drop(child);
    within(tasks.finished()).await;
    assert!(!family.iter().any(Process::is_alive));
}
