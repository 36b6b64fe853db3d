//! The real binary as a process of its own: on a free port, with a data directory and an environment of its own.
//!
//! The caller names the binary (`env!("CARGO_BIN_EXE_forebay")`): only the crate that builds it knows where it is.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// What a process is waited for at most, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(1);
const READY: &str = "listening on http://";

/// How to start one.
#[derive(Debug, Clone, Default)]
pub struct GatewayOptions {
    /// The binary.
    pub program: PathBuf,
    /// What stands in `forebay.yaml`; nothing at all where empty.
    pub config_yaml: String,
    /// Nothing else of the environment is seen, but `PATH`.
    pub env: Vec<(String, String)>,
}

impl GatewayOptions {
    pub fn new(program: &str, config_yaml: &str) -> Self {
        Self {
            program: program.into(),
            config_yaml: config_yaml.to_owned(),
            env: Vec::new(),
        }
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A gateway that serves. It is killed when dropped; [`Gateway::stop`] asks it to go and looks at what it leaves.
pub struct Gateway {
    options: GatewayOptions,
    folder: TempDir,
    child: Child,
    log: watch::Receiver<String>,
    url: String,
    admin_key: String,
}

/// What a gateway left when it ended.
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
    pub folder: TempDir,
}

impl Gateway {
    /// Starts it and waits until it is ready.
    pub async fn start(options: GatewayOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if !options.config_yaml.is_empty() {
            fs::write(folder.path().join("forebay.yaml"), &options.config_yaml).unwrap();
        }
        Self::again(options, folder).await
    }

    /// Starts one in the folder of one that has ended.
    pub async fn again(options: GatewayOptions, folder: TempDir) -> Self {
        let mut child = serve(&options, folder.path()).stderr(Stdio::piped()).spawn().unwrap();
        let log = follow(&mut child);
        let mut gateway = Self {
            options,
            folder,
            child,
            log,
            url: String::new(),
            admin_key: String::new(),
        };
        let line = gateway.logged(READY).await;
        let rest = line.split_once(READY).unwrap().1;
        let address: String = rest.chars().take_while(|c| !c.is_whitespace() && *c != '"').collect();
        gateway.url = format!("http://{address}");
        let key = fs::read_to_string(gateway.data().join("admin.key")).unwrap();
        key.trim().clone_into(&mut gateway.admin_key);
        gateway
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn admin_key(&self) -> &str {
        &self.admin_key
    }

    pub fn data(&self) -> PathBuf {
        data(self.folder.path())
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("forebay.yaml")
    }

    /// All that it has said so far.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits for a line that holds `text`, and gives it.
    pub async fn logged(&self, text: &str) -> String {
        let mut log = self.log.clone();
        let found = log.wait_for(|log| log.contains(text));
        match timeout(PATIENCE, found).await {
            Ok(Ok(log)) => log.lines().find(|line| line.contains(text)).unwrap().to_owned(),
            Ok(Err(_)) => panic!("the gateway ended without saying {text:?}:\n{}", self.log()),
            Err(late) => panic!("{late}: the gateway never said {text:?}:\n{}", self.log()),
        }
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it has not ended");
        kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Asks it to go, and waits.
    pub async fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until it has gone.
    pub async fn ended(mut self) -> Ended {
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends in time")
            .unwrap();
        // The log is whole once the reader has let go of it.
        while self.log.changed().await.is_ok() {}
        let log = self.log();
        assert!(!log.contains("a bug in Forebay"), "{log}");
        Ended {
            status,
            log,
            folder: self.folder,
        }
    }

    /// Runs a command of the same binary against this gateway, as its administrator.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        let env = [("FOREBAY_URL", self.url()), ("FOREBAY_KEY", self.admin_key())];
        let mut command = command(&self.options, self.folder.path());
        let running = command.args(arguments).envs(env).output();
        timeout(PATIENCE, running)
            .await
            .expect("the command ends in time")
            .unwrap()
    }
}

/// A command of the binary that sees nothing of the environment but what the options say.
pub fn command(options: &GatewayOptions, folder: &Path) -> Command {
    let mut command = Command::new(&options.program);
    #[expect(clippy::disallowed_methods, reason = "a program may need to find others")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .envs(options.env.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn serve(options: &GatewayOptions, folder: &Path) -> Command {
    let mut command = command(options, folder);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data(folder))
        .stdout(Stdio::null());
    command
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Collects what the child says; the sender goes when the child closes its end.
fn follow(child: &mut Child) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    #[expect(clippy::disallowed_methods, reason = "it ends with the process that it reads")]
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|log| writeln!(log, "{line}").unwrap());
        }
    });
    receiver
}
