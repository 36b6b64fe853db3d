//! Follows the configuration while the gateway runs.
//!
//! A pass looks at the content of the file and of the files it refers to, never at times or names: Kubernetes swaps
//! links. A good configuration is taken as a whole; a bad one is told once, and the one in force stays.

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
}

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    content: u64,
    hangups: u64,
}

impl Watch {
    pub fn new(sources: Sources, loaded: &Loaded, app: Arc<App>, telemetry: Arc<Telemetry>, hangups: Hangups) -> Self {
        Self {
            sources,
            app,
            telemetry,
            hangups,
            running: loaded.config.clone(),
            referred: loaded.files(),
            seen: None,
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
    async fn take(&mut self) -> Result<Vec<String>, Failure> {
        let loaded = self.sources.load()?;
        self.app.reconfigure(&loaded.config.app()).await?;
        self.telemetry.set_filter(&loaded.config.telemetry.log.filter)?;
        self.referred = loaded.files();
        Ok(loaded.awaiting_restart(&self.running))
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
        if Some(*seen) == self.seen {
            Vec::new()
        } else {
            vec![*seen]
        }
    }

    async fn act(&mut self, seen: Seen) -> Result<(), Failure> {
        // What changes from here on is seen by the next look. A bad file is told once.
        let before = self.seen.replace(seen);
        match self.take().await {
            Ok(waiting) if !waiting.is_empty() => {
                let keys = waiting.join(", ");
                tracing::warn!(
                    keys,
                    "the configuration was read again; these keys take effect after a restart"
                );
            }
            Ok(_) if before.is_some() => tracing::info!("the configuration was read again and is in force"),
            Ok(_) => tracing::info!("following the configuration; changes are taken as they come"),
            Err(failure) => {
                tracing::error!(
                    "the configuration was not taken, the one before stays in force. {}",
                    failure.message
                );
                self.app.refused_config(failure.message);
            }
        }
        Ok(())
    }
}
