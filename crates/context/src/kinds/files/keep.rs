//! Keeps the index of a folder in step with the folder.
//!
//! Each pass looks at the whole folder and at what the store says is indexed, and makes up the difference. It can be
//! broken off at any line, and several replicas may do it for the same folder: the next pass repairs the rest.

mod meanings;

use super::{
    Settings, Shared,
    nearest::Vectors,
    scan::{self, Content, Stamp},
};
use crate::{
    chunk::{self, chunk},
    embed::Embedder,
    kinds::Ground,
    providers::forget,
};
use cap_std::fs::Dir;
use forebay_domain::{Code, Failure};
use forebay_runtime::{Clock, Entropy, Stop};
use forebay_store::{
    StoreError,
    passages::{Passage, PassageId, Passages, Replaced},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// A file that was changed so recently may change again without looking any different.
const FRESH: Duration = Duration::from_secs(2);
/// Grows whenever passages are made in another way, so that all are made anew.
const FORM: &str = "1";

/// How far the keeper is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) passes: u64,
    files: usize,
    too_large: usize,
    binary: usize,
    passed_over: usize,
    vectors: usize,
    pub(super) trouble: Option<String>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files", self.files)?;
        if self.vectors > 0 {
            write!(f, ", {} vectors", self.vectors)?;
        }
        for (count, what) in [
            (self.too_large, "too large"),
            (self.binary, "no text"),
            (self.passed_over, "passed over"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if let Some(trouble) = &self.trouble {
            write!(f, "; {trouble}")?;
        }
        Ok(())
    }
}

pub(super) struct Keeper {
    settings: Arc<Settings>,
    passages: Passages,
    embedder: Option<Embedder>,
    shared: Arc<Shared>,
    tell: watch::Sender<Progress>,
    clock: Clock,
    entropy: Entropy,
    /// What the store is known to have: fingerprints by path, as of so many changes.
    indexed: HashMap<String, String>,
    indexed_at: Option<u64>,
    /// What became of each file, as it looked then.
    known: HashMap<String, (Stamp, Fate)>,
    /// Behind this passage the next pass looks for those without a vector; the last one gave up there.
    embedded_to: Option<PassageId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Indexed { fingerprint: String },
    TooLarge,
    Binary,
}

impl Keeper {
    pub(super) fn new(
        settings: Settings,
        ground: &Ground,
        embedder: Option<Embedder>,
        shared: Arc<Shared>,
        tell: watch::Sender<Progress>,
    ) -> Self {
        Self {
            settings: Arc::new(settings),
            passages: ground.store.passages(),
            embedder,
            shared,
            tell,
            clock: ground.clock.clone(),
            entropy: ground.entropy.clone(),
            indexed: HashMap::new(),
            indexed_at: None,
            known: HashMap::new(),
            embedded_to: None,
        }
    }

    pub(super) async fn run(mut self, stop: Stop) {
        let gone = self.shared.gone.clone();
        while !gone.is_cancelled() && !stop.is_draining() {
            let outcome = tokio::select! {
                outcome = self.pass() => outcome,
                () = gone.cancelled() => break,
                () = stop.draining() => break,
            };
            self.publish(outcome.err());
            tokio::select! {
                () = tokio::time::sleep(self.settings.scan) => {}
                () = gone.cancelled() => {}
                () = stop.draining() => {}
            }
        }
        if self.shared.forgets.load(Ordering::SeqCst) {
            forget(&self.passages, &self.shared.index).await;
        }
    }

    fn publish(&self, trouble: Option<Failure>) {
        let count = |fate: &Fate| self.known.values().filter(|(_, one)| one == fate).count();
        let (too_large, binary) = (count(&Fate::TooLarge), count(&Fate::Binary));
        let name = &self.shared.index;
        self.tell.send_modify(|progress| {
            match (&progress.trouble, &trouble) {
                (None, Some(failure)) => {
                    tracing::warn!(provider.name = %name, error = failure.chain(), "the folder of a provider is not in step");
                }
                (Some(_), None) => tracing::info!(provider.name = %name, "the folder of a provider is in step again"),
                (None, None) | (Some(_), Some(_)) => {}
            }
            progress.passes += 1;
            progress.files = self.known.len() - too_large - binary;
            progress.too_large = too_large;
            progress.binary = binary;
            progress.vectors = self.shared.vectors().len();
            progress.trouble = trouble.map(|failure| failure.message);
        });
    }

    async fn pass(&mut self) -> Result<(), Failure> {
        let (dir, seen) = self.look().await?;
        self.tell.send_if_modified(|progress| {
            progress.passed_over = seen.passed_over;
            false
        });
        self.catch_up().await?;
        // What was indexed before serves while the rest is made.
        self.notice().await?;
        let mut first_fault = None;
        let present: HashSet<&str> = seen.files.iter().map(|(path, _)| path.as_str()).collect();
        self.known.retain(|path, _| present.contains(path.as_str()));
        for (path, stamp) in &seen.files {
            if self.is_in_step(path, *stamp) {
                continue;
            }
            if let Err(failure) = self.index(&dir, path, *stamp).await {
                first_fault.get_or_insert(failure);
            }
        }
        self.remove_missing().await?;
        let embedded = self.embed().await;
        self.notice().await?;
        first_fault.map_or(embedded, Err)
    }

    async fn look(&self) -> Result<(Arc<Dir>, scan::Seen), Failure> {
        let settings = self.settings.clone();
        blocking(move || {
            let dir = scan::open(&settings.folder)?;
            let seen = scan::look(&dir, &settings.extensions)?;
            Ok((Arc::new(dir), seen))
        })
        .await
        .map_err(|fault| {
            let message = format!("The folder of `{}` cannot be read.", self.shared.index);
            Failure::new(Code::UpstreamFailed, message).caused_by(fault)
        })
    }

    /// Reads again what is indexed, where somebody else has changed it since.
    async fn catch_up(&mut self) -> Result<(), Failure> {
        let state = self.passages.state(&self.shared.index).await?;
        if self.indexed_at != Some(state.changes) {
            let files = self.passages.files(&self.shared.index).await?;
            self.indexed = files.into_iter().map(|file| (file.path, file.fingerprint)).collect();
            self.indexed_at = Some(state.changes);
        }
        Ok(())
    }

    fn is_in_step(&self, path: &str, stamp: Stamp) -> bool {
        match self.known.get(path) {
            Some((before, _)) if *before != stamp => false,
            Some((_, Fate::Indexed { fingerprint })) => self.indexed.get(path) == Some(fingerprint),
            Some((_, Fate::TooLarge | Fate::Binary)) => true,
            None => false,
        }
    }

    async fn index(&mut self, dir: &Arc<Dir>, path: &str, stamp: Stamp) -> Result<(), Failure> {
        let (content, read_path, bytes_max) = (dir.clone(), path.to_owned(), self.settings.file_bytes_max);
        let content = blocking(move || scan::read(&content, &read_path, bytes_max)).await;
        let fate = match content {
            Ok(Content::Text(text)) => self.replace(path, &text).await?,
            Ok(Content::TooLarge) => Fate::TooLarge,
            Ok(Content::Binary) => Fate::Binary,
            // It is gone meanwhile, or nobody may read it: as if it were not there.
            Err(_) => {
                self.known.remove(path);
                return Ok(());
            }
        };
        if !matches!(fate, Fate::Indexed { .. }) && self.indexed.contains_key(path) {
            self.remove(&[path.to_owned()]).await?;
        }
        let now = SystemTime::from(self.clock.now());
        let is_fresh = stamp
            .changed
            .is_none_or(|changed| now.duration_since(changed).is_ok_and(|age| age < FRESH) || changed > now);
        // What is fresh is read again next time, since it may change without looking any different.
        let stamp = if is_fresh {
            Stamp { changed: None, ..stamp }
        } else {
            stamp
        };
        self.known.insert(path.to_owned(), (stamp, fate));
        Ok(())
    }

    async fn replace(&mut self, path: &str, text: &str) -> Result<Fate, Failure> {
        let fingerprint = fingerprint(text, self.settings.rules);
        if self.indexed.get(path) == Some(&fingerprint) {
            return Ok(Fate::Indexed { fingerprint });
        }
        let passages: Vec<Passage> = (0..)
            .zip(chunk(text, self.settings.rules))
            .map(|(ordinal, chunk)| Passage {
                ordinal,
                text: chunk.text,
                heading: chunk.heading,
                start_line: chunk.start_line,
            })
            .collect();
        let replaced = self
            .passages
            .replace_file(&self.shared.index, path, &fingerprint, &passages)
            .await;
        match replaced {
            Ok(Replaced::Kept) => {}
            Err(StoreError::TooLarge { .. }) => return Ok(Fate::TooLarge),
            Ok(Replaced::Full) => {
                let message = format!("The index of `{}` is full; some files are left out.", self.shared.index);
                return Err(Failure::new(Code::ResultTooLarge, message));
            }
            Err(fault) => return Err(fault.into()),
        }
        self.indexed.insert(path.to_owned(), fingerprint.clone());
        self.indexed_at = None;
        Ok(Fate::Indexed { fingerprint })
    }

    async fn remove_missing(&mut self) -> Result<(), Failure> {
        let is_kept = |path: &String| self.known.contains_key(path);
        let missing: Vec<String> = self.indexed.keys().filter(|path| !is_kept(path)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.remove(&missing).await
    }

    async fn remove(&mut self, paths: &[String]) -> Result<(), Failure> {
        self.passages.remove_files(&self.shared.index, paths).await?;
        for path in paths {
            self.indexed.remove(path);
        }
        self.indexed_at = None;
        Ok(())
    }

    /// Notices what changed, here or on another replica, and lets those know who keep answers.
    async fn notice(&mut self) -> Result<(), Failure> {
        let changes = self.passages.state(&self.shared.index).await?.changes;
        if self.shared.revision.load(Ordering::SeqCst) == changes {
            return Ok(());
        }
        if let Some(embedder) = &self.embedder {
            let all = self.passages.vectors(&self.shared.index, embedder.model()).await?;
            let vectors = Arc::new(Vectors::new(all));
            *self
                .shared
                .vectors
                .lock()
                .expect("nobody panics while holding the vectors") = vectors;
        }
        // Last: an answer out of the old vectors must not be kept as one of the new.
        self.shared.revision.store(changes, Ordering::SeqCst);
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn fingerprint(text: &str, rules: chunk::Rules) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{FORM}/{}/{}/", rules.bytes_max, rules.overlap_bytes));
    hasher.update(text);
    hex::encode(hasher.finalize())
}
