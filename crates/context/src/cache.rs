//! What was found is kept for a while, so that a question that comes again is not asked again, and one that several ask at
//! once is asked once.
//!
//! Nothing here knows who may see what: that is decided before. What depends on the caller has the caller in its key.

use crate::{item::Item, provider::Finding};
use forebay_domain::{Failure, context::Strategy};
use moka::future::Cache as Moka;
use std::{future::Future, sync::Arc, time::Duration};

/// What a finding answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Which settings of which provider: a number that no other ever has.
    pub(crate) generation: u64,
    pub(crate) revision: u64,
    pub(crate) query: String,
    pub(crate) strategy: Strategy,
    pub(crate) limit: usize,
    /// The caller, where it depends on the caller what is found.
    pub(crate) whom: Option<String>,
}

#[derive(Debug, Clone)]
struct Kept {
    finding: Arc<Finding>,
    at: Duration,
}

/// A bounded number of findings, each for a bounded time. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    kept: Moka<Key, Kept>,
    ttl: Duration,
}

impl Cache {
    pub(crate) fn new(bytes_max: u64, ttl: Duration) -> Self {
        let kept = Moka::builder()
            .weigher(|key: &Key, kept: &Kept| weight(key, &kept.finding))
            .max_capacity(bytes_max)
            .time_to_live(ttl)
            .build();
        Self { kept, ttl }
    }

    /// What is kept, or else what `make` makes; whether it was kept, or made for somebody else just now. A failure is
    /// told to all who wait for it, and is not kept.
    pub(crate) async fn get(
        &self,
        key: Key,
        now: Duration,
        make: impl Future<Output = Result<Finding, Failure>>,
    ) -> Result<(Arc<Finding>, bool), Arc<Failure>> {
        // By our own clock, which tests can move, beside the cache's own.
        if let Some(kept) = self.kept.get(&key).await {
            if now.saturating_sub(kept.at) < self.ttl {
                return Ok((kept.finding, true));
            }
            self.kept.invalidate(&key).await;
        }
        let make = async {
            let finding = Arc::new(make.await?);
            Ok(Kept { finding, at: now })
        };
        let entry = self.kept.entry(key.clone()).or_try_insert_with(make).await?;
        let is_fresh = entry.is_fresh();
        let finding = entry.into_value().finding;
        if is_fresh && finding.strategy != key.strategy {
            // Half of what was asked for failed: good enough for now, and not for later.
            self.kept.invalidate(&key).await;
        }
        Ok((finding, !is_fresh))
    }
}

fn weight(key: &Key, finding: &Finding) -> u32 {
    let whom = key.whom.as_ref().map_or(0, String::len);
    let items: usize = finding.items.iter().map(Item::bytes).sum();
    u32::try_from(size_of::<Key>() + key.query.len() + whom + items).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::Code;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(query: &str) -> Key {
        Key {
            generation: 1,
            revision: 1,
            query: query.to_owned(),
            strategy: Strategy::Keyword,
            limit: 8,
            whom: None,
        }
    }

    fn finding(text: &str) -> Finding {
        Finding {
            items: Item::new("1", text, "s", None).into_iter().collect(),
            strategy: Strategy::Keyword,
        }
    }

    #[tokio::test]
    async fn it_is_kept_for_its_time_and_no_longer() {
        let cache = Cache::new(1 << 20, Duration::from_mins(1));
        let get = |at, text| {
            let cache = cache.clone();
            async move {
                let (finding, kept) = cache
                    .get(key("q"), Duration::from_secs(at), async { Ok(finding(text)) })
                    .await
                    .unwrap();
                (finding.items[0].text.clone(), kept)
            }
        };
        assert_eq!(get(100, "one").await, ("one".to_owned(), false));
        assert_eq!(get(159, "two").await, ("one".to_owned(), true));
        assert_eq!(get(160, "three").await, ("three".to_owned(), false));
    }

    #[tokio::test]
    async fn many_at_once_are_one_and_a_failure_is_not_kept() {
        let cache = Cache::new(1 << 20, Duration::from_mins(1));
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = |fails: bool| {
            let (cache, asked) = (cache.clone(), asked.clone());
            async move {
                let make = async {
                    asked.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    if fails {
                        Err(Failure::new(Code::UpstreamFailed, "no"))
                    } else {
                        Ok(finding("x"))
                    }
                };
                cache.get(key("q"), Duration::ZERO, make).await
            }
        };
        assert!(ask(true).await.is_err());
        let all = futures_util::future::join_all((0..10).map(|_| ask(false))).await;
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert_eq!(all.iter().filter(|one| !one.as_ref().unwrap().1).count(), 1);
    }

    #[tokio::test]
    async fn what_is_only_half_is_not_kept() {
        let cache = Cache::new(1 << 20, Duration::from_mins(1));
        for _ in 0..2 {
            let half = Key {
                strategy: Strategy::Hybrid,
                ..key("q")
            };
            let (_, kept) = cache
                .get(half, Duration::ZERO, async { Ok(finding("x")) })
                .await
                .unwrap();
            assert!(!kept);
        }
    }

    #[tokio::test]
    async fn it_is_bounded_by_bytes() {
        let cache = Cache::new(100 << 10, Duration::from_mins(1));
        let large = "x".repeat(16 << 10);
        for n in 0..50 {
            let make = async { Ok(finding(&large)) };
            cache.get(key(&n.to_string()), Duration::ZERO, make).await.unwrap();
        }
        cache.kept.run_pending_tasks().await;
        assert!(
            cache.kept.weighted_size() <= 100 << 10,
            "{}",
            cache.kept.weighted_size()
        );
        assert!(cache.kept.entry_count() > 0);
    }
}
