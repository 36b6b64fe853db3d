//! Gives passages their vectors.

use super::Keeper;
use crate::embed::{BATCH_MAX, Embedder, normal};
use forebay_domain::{
    Failure, Principal, Role,
    event::Surface,
    id::{SubjectId, TenantId},
    port::Via,
};
use forebay_store::passages::{PassageId, StoredPassage};
use std::collections::HashSet;

/// Passages that are set aside in one pass at most. A model that refuses more than that is the wrong one for the folder.
const ASIDE_MAX: usize = 100;
/// A text that any model takes.
const PROBE: &str = "A plain sentence.";

impl Keeper {
    /// Gives every passage a vector that has none, a few at a time. One that the model cannot take, be it too long or too
    /// strange, keeps none of the others from theirs: it is set aside for this pass, and told.
    pub(super) async fn embed(&self) -> Result<(), Failure> {
        let Some(embedder) = &self.embedder else {
            return Ok(());
        };
        let (index, model) = (&self.shared.index, embedder.model());
        let mut aside: HashSet<PassageId> = HashSet::new();
        let mut why = None;
        while aside.len() < ASIDE_MAX {
            let limit = u32::try_from(BATCH_MAX + aside.len()).expect("a small number");
            let mut bare = self.passages.without_vectors(index, model, limit).await?;
            bare.retain(|one| !aside.contains(&one.id));
            bare.truncate(BATCH_MAX);
            let known = aside.len();
            let mut parts = vec![&bare[..]];
            let (mut kept, mut is_there) = (0, false);
            while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
                match self.embed_part(embedder, part).await {
                    Ok(some) => kept += some,
                    Err(failure) => {
                        // Where it takes nothing at all, it is the model that is away.
                        is_there = is_there || self.vectors(embedder, &[PROBE]).await.is_ok();
                        if !is_there {
                            return Err(failure);
                        }
                        let halves = part.split_at(part.len() / 2);
                        if let ([], [one]) = halves {
                            aside.insert(one.id);
                            why.get_or_insert(failure);
                        } else {
                            parts.extend([halves.1, halves.0]);
                        }
                    }
                }
            }
            if kept == 0 && aside.len() == known {
                // Nothing is left, or somebody replaces these passages right now; the next pass sees the new ones.
                break;
            }
        }
        why.map_or(Ok(()), |why| {
            let message = format!("{} passages have no vectors: {}", aside.len(), why.message);
            Err(Failure::new(why.code, message))
        })
    }

    /// How many of these passages were given a vector.
    async fn embed_part(&self, embedder: &Embedder, part: &[StoredPassage]) -> Result<u64, Failure> {
        let texts: Vec<String> = part
            .iter()
            .map(|one| match &one.heading {
                Some(heading) => format!("{heading}\n{}", one.text),
                None => one.text.clone(),
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = self.vectors(embedder, &texts).await?;
        let ids = part.iter().map(|one| one.id);
        let vectors = ids.zip(vectors.into_iter().map(normal)).collect();
        let (index, model) = (&self.shared.index, embedder.model());
        Ok(self.passages.set_vectors(index, vectors, model).await?)
    }

    async fn vectors(&self, embedder: &Embedder, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let via = Via {
            surface: Surface::System,
            trace: self.entropy.trace_id(),
        };
        embedder.all(&gateway(), via, texts).await
    }
}

/// Who asks for the vectors of passages: nobody but the gateway.
fn gateway() -> Principal {
    Principal {
        tenant: TenantId::try_from("system").expect("an identifier"),
        project: None,
        subject: SubjectId::try_from("context").expect("an identifier"),
        key: None,
        session: None,
        role: Role::User,
        grants: Vec::new(),
        shown: Vec::new(),
        good_until: None,
    }
}
