//! Vectors of texts, from a model that the configuration names.
//!
//! The request is the caller's, so it is recorded and counted as the caller's; which model it goes to is the operator's
//! choice, so the caller needs no permission for that model beside the one for the provider.

use forebay_domain::{
    Action, Code, Failure, Grant, Principal, Role, grant,
    model::{Endpoint, Hints, ModelRequest},
    port::{AskModel, Via},
};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// An answer with more than this is no answer to what was asked: 64 vectors of 8192 numbers as text.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Texts of one request at most.
pub(crate) const BATCH_MAX: usize = 32;
const DIMENSIONS_MAX: usize = 8192;

/// Asks one model for vectors.
#[derive(Clone)]
pub(crate) struct Embedder {
    models: Arc<dyn AskModel>,
    model: String,
}

#[derive(Deserialize)]
struct Wire {
    data: Vec<WireVector>,
}

#[derive(Deserialize)]
struct WireVector {
    #[serde(default)]
    index: Option<usize>,
    embedding: Vec<f32>,
}

impl Embedder {
    pub(crate) fn new(models: Arc<dyn AskModel>, model: String) -> Self {
        Self { models, model }
    }

    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    pub(crate) async fn one(&self, principal: &Principal, via: Via, text: &str) -> Result<Vec<f32>, Failure> {
        let vectors = self.all(principal, via, &[text]).await?;
        Ok(vectors.into_iter().next().expect("as many vectors as texts"))
    }

    /// The vectors of the texts in their order, as long as the model made them: whoever else keeps vectors of it may
    /// compare them by distance.
    pub(crate) async fn all(&self, principal: &Principal, via: Via, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let principal = self.narrowed(principal)?;
        let request = ModelRequest {
            endpoint: Endpoint::Embeddings,
            model: self.model.clone(),
            body: json!({ "model": self.model, "input": texts }).to_string().into(),
            hints: Hints::default(),
        };
        let answer = self.models.complete(&principal, request, via).await?;
        let body = answer.whole(ANSWER_BYTES_MAX).await.map_err(|fault| match fault.code {
            // What makes a chat's answer shorter is of no use here.
            Code::UpstreamTruncated => self
                .nonsense(&format!("answered more than {ANSWER_BYTES_MAX} bytes, or broke off"))
                .caused_by(fault),
            _ => fault,
        })?;
        let wire: Wire = serde_json::from_slice(&body).map_err(|fault| {
            self.nonsense("answered something that is no list of embeddings")
                .caused_by(fault)
        })?;
        self.vectors(wire, texts.len())
    }

    /// May ask this one model, and nothing else, whatever else the caller may.
    fn narrowed(&self, principal: &Principal) -> Result<Principal, Failure> {
        let action = Action::model(&self.model);
        let grant: Result<Grant, grant::GrantFault> = action.as_str().parse();
        let grant = grant.map_err(|fault| Failure::new(Code::InvalidConfig, fault.to_string()))?;
        Ok(Principal {
            role: Role::User,
            grants: vec![grant],
            ..principal.clone()
        })
    }

    fn vectors(&self, wire: Wire, wanted: usize) -> Result<Vec<Vec<f32>>, Failure> {
        let mut placed: Vec<Option<Vec<f32>>> = vec![None; wanted];
        let got = wire.data.len();
        for (position, one) in wire.data.into_iter().enumerate() {
            let place = placed.get_mut(one.index.unwrap_or(position));
            if let Some(place) = place {
                *place = Some(one.embedding).filter(|vector| length(vector).is_some());
            }
        }
        let vectors: Option<Vec<_>> = placed.into_iter().collect();
        let vectors = vectors.filter(|_| got == wanted).ok_or_else(|| {
            self.nonsense(&format!(
                "answered {got} vectors for {wanted} texts, or some without numbers"
            ))
        })?;
        if vectors.iter().any(|one| one.len() != vectors[0].len()) {
            return Err(self.nonsense("answered vectors of different lengths"));
        }
        Ok(vectors)
    }

    fn nonsense(&self, what: &str) -> Failure {
        let message = format!("The embedding model `{}` {what}.", self.model);
        Failure::new(Code::UpstreamFailed, message)
    }
}

/// How long a vector is; `None` where it has no direction, or is no vector at all.
fn length(vector: &[f32]) -> Option<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    (vector.len() <= DIMENSIONS_MAX && length.is_finite() && length > f32::MIN_POSITIVE).then_some(length)
}

/// The same direction with length one, so that a product is a cosine.
pub(crate) fn normal(mut vector: Vec<f32>) -> Vec<f32> {
    if let Some(length) = length(&vector) {
        for x in &mut vector {
            *x /= length;
        }
    }
    vector
}
