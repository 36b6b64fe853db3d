//! The real binary as the guard of a program.

use forebay_runtime::{
    Clock, Tasks,
    child::{Command, Exit, Io, Launcher, Patience},
};
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn the_binary_guards_a_program_whatever_its_arguments_look_like() {
    let environment = |name: &str| (name == "PATH").then(|| "/usr/bin:/bin".to_owned());
    let guard = env!("CARGO_BIN_EXE_forebay").into();
    let launcher = Launcher::new(guard, environment, Tasks::new(), Clock::system());
    let script = "printf '%s\\n' \"$@\"; cat; exit 3";
    let args = ["-c", script, "sh", "--url", "-o", "--", "child-guard", "", "--help"];
    let command = Command {
        name: "test".into(),
        program: "sh".into(),
        args: args.map(str::to_owned).into(),
        ..Command::default()
    };
    let mut child = launcher.start(&command).await.unwrap();
    let Io { mut stdin, mut stdout } = child.take_io().unwrap();
    stdin.write_all(b"over the pipe").await.unwrap();
    drop(stdin);
    let mut said = String::new();
    stdout.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "--url\n-o\n--\nchild-guard\n\n--help\nover the pipe");
    assert_eq!(child.kill(Patience::default()).await, Exit::Code(3));
    assert_eq!(child.logs().lines(), [], "the guard has nothing to say");
}

#[tokio::test]
async fn a_guard_is_not_started_by_hand() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    command
        .args(["child-guard", "--", "echo", "it ran"])
        .stdin(Stdio::null());
    let output = command.output().await.unwrap();
    assert_eq!((output.status.code(), crate::out(&output).as_str()), (Some(1), ""));
    assert!(
        crate::err(&output).contains("started by the gateway itself"),
        "{}",
        crate::err(&output)
    );
    let help = tokio::process::Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("--help")
        .output()
        .await
        .unwrap();
    assert!(!crate::out(&help).contains("child-guard"));
}
