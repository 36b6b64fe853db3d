//! Follows the configuration while the gateway runs.
//!
//! A pass looks at the content of the file and of the files it refers to, never at times or names: Kubernetes swaps
//! links. A good configuration is taken as a whole; a bad one is told once, and the one in force stays. What was refused
//! is tried again with each pass, since what it lacks (a secret, a folder, the store) may come without any change of the
//! file. A file that is in use stays the one file: when it goes, that is a mistake and no wish for the defaults.

use super::{Config, Loaded, Sources, file::FILE_BYTES_MAX};
use forebay_domain::Failure;
use forebay_runtime::{looping::Loop, telemetry::Telemetry};
use forebay_server::App;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::io::AsyncReadExt;

/// How often somebody has asked, by SIGHUP, for the configuration to be read again.
#[derive(Debug, Clone, Default)]
pub struct Hangups(Arc<AtomicU64>);

impl Hangups {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The loop that keeps the gateway as the file says.
pub struct Watch {
    sources: Sources,
    app: Arc<App>,
    telemetry: Arc<Telemetry>,
    hangups: Hangups,
    /// What the process was started with: what needs a restart is compared with this.
    running: Config,
    /// The files beside the configuration whose content counts.
    referred: Vec<PathBuf>,
    /// As it was when it was read; `None` before the first pass, which makes good for a change during the start.
    seen: Option<Seen>,
    /// Why the last attempt to take a configuration failed, and that it has been told.
    refused: Option<String>,
}

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    content: u64,
    hangups: u64,
}

impl Watch {
    pub fn new(
        mut sources: Sources,
        loaded: &Loaded,
        app: Arc<App>,
        telemetry: Arc<Telemetry>,
        hangups: Hangups,
    ) -> Self {
        sources.pin(loaded);
        Self {
            sources,
            app,
            telemetry,
            hangups,
            running: loaded.config.clone(),
            referred: loaded.files(),
            seen: None,
            refused: None,
        }
    }

    async fn look(&self) -> Seen {
        let hangups = self.hangups.0.load(Ordering::SeqCst);
        let mut hasher = DefaultHasher::new();
        for path in self.sources.file().iter().chain(&self.referred) {
            content(path).await.hash(&mut hasher);
        }
        Seen {
            content: hasher.finish(),
            hangups,
        }
    }

    /// Reads everything and puts it in force; gives the keys that wait for a restart.
    async fn take(&mut self, before: Option<Seen>) -> Result<Vec<String>, Failure> {
        let mut loaded = self.sources.load()?;
        let referred = loaded.files();
        if referred != self.referred {
            // Looked at first and then read, so that the next look sees what changes meanwhile.
            self.referred = referred;
            self.seen = Some(self.look().await);
            loaded = self.sources.load()?;
        }
        if before.is_none() && loaded.config == self.running {
            // The first look finds what the gateway was started with: that is no change, and nothing to audit.
            return Ok(Vec::new());
        }
        self.app.reconfigure(&loaded.config.app()).await?;
        self.telemetry.set_filter(&loaded.config.telemetry.log.filter)?;
        self.sources.pin(&loaded);
        Ok(loaded.awaiting_restart(&self.running))
    }

    /// Tells why the configuration was not taken, but not again for each attempt that fails like the one before.
    fn refuse(&mut self, why: String, is_retry: bool) {
        if is_retry && self.refused.as_ref() == Some(&why) {
            return;
        }
        tracing::error!("the configuration was not taken, the one before stays in force. {why}");
        self.app.refused_config(why.clone());
        self.refused = Some(why);
    }
}

/// `None` where there is nothing to read.
async fn content(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.ok()?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).await.ok()?;
    Some(bytes)
}

impl Loop for Watch {
    type Seen = Seen;
    type Action = Seen;

    fn name(&self) -> &'static str {
        "config"
    }

    async fn observe(&mut self) -> Result<Seen, Failure> {
        Ok(self.look().await)
    }

    fn decide(&self, seen: &Seen) -> Vec<Seen> {
        if Some(*seen) == self.seen && self.refused.is_none() {
            Vec::new()
        } else {
            vec![*seen]
        }
    }

    async fn act(&mut self, seen: Seen) -> Result<(), Failure> {
        // What changes from here on is seen by the next look.
        let before = self.seen.replace(seen);
        let waiting = match self.take(before).await {
            Ok(waiting) => waiting,
            Err(failure) => {
                self.refuse(failure.message, before == Some(seen));
                return Ok(());
            }
        };
        self.refused = None;
        if !waiting.is_empty() {
            let keys = waiting.join(", ");
            tracing::warn!(
                keys,
                "the configuration was read again; these keys take effect after a restart"
            );
        } else if before.is_some() {
            tracing::info!("the configuration was read again and is in force");
        } else {
            tracing::info!("following the configuration; changes are taken as they come");
        }
        Ok(())
    }
}
