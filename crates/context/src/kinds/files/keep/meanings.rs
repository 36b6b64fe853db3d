//! Gives passages their vectors.

use super::Keeper;
use crate::embed::{BATCH_MAX, Embedder, normal};
use forebay_domain::{
    Failure, Principal, Role,
    event::Surface,
    id::{SubjectId, TenantId, TraceId},
    port::Via,
};
use forebay_store::passages::StoredPassage;

/// Passages that are set aside in one pass at most: each costs a few questions that the model refuses.
const ASIDE_MAX: usize = 100;
/// A text that any model takes.
const PROBE: &str = "A plain sentence.";

/// What the model did not take in this pass.
#[derive(Default)]
struct Aside {
    count: usize,
    why: Option<Failure>,
}

impl Keeper {
    /// Gives every passage a vector that has none, a few at a time. One that the model cannot take, be it too long or too
    /// strange, keeps none of the others from theirs: it is set aside, and told. Where many are, the next pass goes on
    /// behind them.
    pub(super) async fn embed(&mut self) -> Result<(), Failure> {
        let Some(embedder) = self.embedder.clone() else {
            return Ok(());
        };
        let mut after = self.embedded_to.take();
        let mut aside = Aside::default();
        let limit = u32::try_from(BATCH_MAX).expect("a small number");
        while aside.count < ASIDE_MAX {
            let bare = self
                .passages
                .without_vectors(&self.shared.index, embedder.model(), after, limit)
                .await?;
            let Some(last) = bare.last() else { break };
            after = Some(last.id);
            self.embed_batch(&embedder, &bare, &mut aside).await?;
        }
        let is_over = aside.count < ASIDE_MAX;
        if !is_over {
            self.embedded_to = after;
        }
        aside.why.map_or(Ok(()), |why| {
            let more = if is_over { "" } else { " or more" };
            let message = format!("{}{more} passages have no vectors: {}", aside.count, why.message);
            Err(Failure::new(why.code, message))
        })
    }

    /// A batch that is refused is halved until the passages are alone that the model does not take.
    async fn embed_batch(
        &self,
        embedder: &Embedder,
        batch: &[StoredPassage],
        aside: &mut Aside,
    ) -> Result<(), Failure> {
        let mut parts = vec![batch];
        let mut is_there = false;
        while let Some(part) = parts.pop() {
            let Err(failure) = self.embed_part(embedder, part).await else {
                is_there = true;
                continue;
            };
            // Where it takes nothing at all, it is the model that is away.
            is_there = is_there || self.vectors(embedder, &[PROBE]).await.is_ok();
            if !is_there {
                return Err(failure);
            }
            if part.len() == 1 {
                aside.count += 1;
                aside.why.get_or_insert(failure);
            } else {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
        Ok(())
    }

    async fn embed_part(&self, embedder: &Embedder, part: &[StoredPassage]) -> Result<(), Failure> {
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
        self.passages.set_vectors(index, vectors, model).await?;
        Ok(())
    }

    async fn vectors(&self, embedder: &Embedder, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let via = Via {
            surface: Surface::System,
            trace: TraceId::new(self.clock.now(), self.entropy.bytes()),
            in_task: false,
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
