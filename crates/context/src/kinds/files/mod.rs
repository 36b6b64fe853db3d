//! `files`: a folder of text files, kept as an index of passages in the store.
//!
//! The folder is looked at again and again; what changed is indexed anew, what is gone leaves. Nothing outside of the
//! folder is ever read, wherever a link leads. Where an embedding model is configured every passage has a vector too, and
//! the nearest are found by comparing with all of them, in memory.

mod keep;
mod nearest;
mod scan;

use super::Ground;
use crate::{
    chunk::Rules,
    embed::{Embedder, normal},
    item::Item,
    provider::{Ability, Asking, Finding, Provider, look},
    secret::Origin,
    settings::Reading,
};
use forebay_domain::{Code, Failure, port::BoxFuture};
use forebay_store::{Store, passages::StoredPassage};
use keep::{Keeper, Progress};
use nearest::Vectors;
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PASSAGE_BYTES_USUAL: u32 = 1500;
const PASSAGE_BYTES: std::ops::RangeInclusive<u32> = 200..=8000;
const FILE_BYTES_USUAL: u64 = 2 << 20;
/// Together with what passages repeat, less than the store takes of one file.
const FILE_BYTES_MAX: u64 = 3 << 20;
const SCAN_USUAL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    folder: PathBuf,
    /// Lower case, without the dot; all where there are none.
    extensions: Vec<String>,
    rules: Rules,
    file_bytes_max: u64,
    scan: Duration,
    model: Option<String>,
}

impl Settings {
    pub(crate) fn parse(read: &Reading<'_>) -> Result<Self, Failure> {
        let config = read.config;
        if read.origin == Origin::Api {
            return Err(read
                .wrong("folder", "cannot be set over the API")
                .hint("Folders are named in the configuration file alone, by whoever runs the gateway."));
        }
        let folder = read.needed("folder", config.folder.as_ref())?;
        if folder.as_os_str().is_empty() {
            return Err(read.wrong("folder", "is empty"));
        }
        let passage_bytes = config
            .passage_bytes_max
            .map_or(PASSAGE_BYTES_USUAL, std::num::NonZero::get);
        if !PASSAGE_BYTES.contains(&passage_bytes) {
            let problem = format!("must be from {} to {}", PASSAGE_BYTES.start(), PASSAGE_BYTES.end());
            return Err(read.wrong("passage_bytes_max", problem));
        }
        let file_bytes_max = config.file_bytes_max.map_or(FILE_BYTES_USUAL, std::num::NonZero::get);
        if file_bytes_max > FILE_BYTES_MAX {
            return Err(read.wrong("file_bytes_max", format!("is at most {FILE_BYTES_MAX}")));
        }
        let plain = |ending: &String| ending.trim_start_matches('.').to_lowercase();
        Ok(Self {
            folder: folder.clone(),
            extensions: config.extensions.iter().map(plain).collect(),
            rules: Rules::of_size(usize::try_from(passage_bytes).expect("at most 8000")),
            file_bytes_max,
            scan: config
                .scan_s
                .map_or(SCAN_USUAL, |scan| Duration::from_secs(scan.get().into())),
            model: read.model()?,
        })
    }
}

pub(crate) struct Files {
    store: Store,
    embedder: Option<Embedder>,
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
}

/// What the provider and its keeper both hold.
struct Shared {
    /// The name of the index in the store: the provider's.
    index: String,
    /// The number of changes of the index that was last seen.
    revision: AtomicU64,
    vectors: Mutex<Arc<Vectors>>,
    gone: CancellationToken,
    /// Whether the index goes with the provider.
    forgets: AtomicBool,
}

impl Shared {
    fn vectors(&self) -> Arc<Vectors> {
        self.vectors
            .lock()
            .expect("nobody panics while holding the vectors")
            .clone()
    }
}

impl Files {
    /// Starts to keep the index.
    pub(crate) fn start(name: &str, settings: Settings, ground: &Ground) -> Arc<Self> {
        let shared = Arc::new(Shared {
            index: name.to_owned(),
            revision: AtomicU64::new(0),
            vectors: Mutex::default(),
            gone: CancellationToken::new(),
            forgets: AtomicBool::new(false),
        });
        let embedder = ground.embedder(settings.model.as_ref());
        let (tell, progress) = watch::channel(Progress::default());
        let keeper = Keeper::new(settings, ground, embedder.clone(), shared.clone(), tell);
        ground.tasks.spawn("context_files", |stop| keeper.run(stop));
        Arc::new(Self {
            store: ground.store.clone(),
            embedder,
            shared,
            progress,
        })
    }

    /// Whoever asks right after the start waits for the first look at the folder; what was indexed before serves at
    /// once.
    async fn ready(&self) -> Result<(), Failure> {
        if self.progress.borrow().passes > 0 && self.progress.borrow().trouble.is_none() {
            return Ok(());
        }
        let state = self.store.passages().state(&self.shared.index).await?;
        if state.passages > 0 {
            return Ok(());
        }
        let mut progress = self.progress.clone();
        let seen = progress.wait_for(|progress| progress.passes > 0).await;
        let Some(trouble) = seen.ok().and_then(|progress| progress.trouble.clone()) else {
            return Ok(());
        };
        // Whatever the trouble is (an engine that is away), what was indexed in spite of it serves.
        let state = self.store.passages().state(&self.shared.index).await?;
        if state.passages > 0 {
            return Ok(());
        }
        Err(Failure::new(Code::UpstreamFailed, trouble))
    }

    async fn keyword(&self, asking: Asking<'_>) -> Result<Vec<Item>, Failure> {
        let limit = u32::try_from(asking.limit).unwrap_or(u32::MAX);
        let found = self
            .store
            .passages()
            .search(&self.shared.index, asking.query, limit)
            .await?;
        Ok(found.into_iter().filter_map(|found| item(&found.passage)).collect())
    }

    async fn semantic(&self, asking: Asking<'_>) -> Result<Vec<Item>, Failure> {
        let embedder = self
            .embedder
            .as_ref()
            .ok_or_else(|| Failure::new(Code::InvalidConfig, "The provider has no `embedding_model`."))?;
        let vector = embedder.one(asking.principal, asking.via, asking.query).await?;
        let ids = self.shared.vectors().nearest(normal(vector), asking.limit).await?;
        let passages = self.store.passages().get(&self.shared.index, &ids).await?;
        Ok(passages.iter().filter_map(item).collect())
    }

    async fn ask(&self, asking: Asking<'_>) -> Result<Finding, Failure> {
        self.ready().await?;
        look(asking.strategy, self.keyword(asking), self.semantic(asking)).await
    }
}

fn item(passage: &StoredPassage) -> Option<Item> {
    let id = format!("{}#{}", passage.path, passage.ordinal);
    let source = format!("{}:{}", passage.path, passage.start_line);
    let title = passage.heading.as_deref().unwrap_or(&passage.path);
    Item::new(&id, &passage.text, &source, Some(title))
}

impl Provider for Files {
    fn ability(&self) -> Ability {
        if self.embedder.is_some() {
            Ability::Both
        } else {
            Ability::Keyword
        }
    }

    fn find<'a>(&'a self, asking: Asking<'a>) -> BoxFuture<'a, Result<Finding, Failure>> {
        Box::pin(self.ask(asking))
    }

    fn revision(&self) -> u64 {
        self.shared.revision.load(Ordering::SeqCst)
    }

    fn note(&self) -> Option<String> {
        Some(self.progress.borrow().to_string())
    }

    fn forget(&self) {
        self.shared.forgets.store(true, Ordering::SeqCst);
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.shared.gone.cancel();
    }
}
