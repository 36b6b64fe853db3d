//! The nearest of many vectors, by comparing with all of them. For some ten thousand passages that takes milliseconds, and
//! is exact.

use forebay_domain::{Code, Failure};
use forebay_store::passages::PassageId;
use std::sync::Arc;

/// From here on the comparison leaves the runtime's threads alone.
const NUMBERS_AT_ONCE: usize = 1 << 20;

/// Vectors of length one, all equally long, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    ids: Vec<PassageId>,
    numbers: Vec<f32>,
    dimensions: usize,
}

impl Vectors {
    /// Vectors of another length than the first are of another model of the same name, and are left out.
    pub(super) fn new(all: Vec<(PassageId, Vec<f32>)>) -> Self {
        let dimensions = all.first().map_or(0, |(_, vector)| vector.len());
        let mut vectors = Self {
            ids: Vec::with_capacity(all.len()),
            numbers: Vec::with_capacity(all.len() * dimensions),
            dimensions,
        };
        for (id, vector) in all {
            if vector.len() == dimensions {
                vectors.ids.push(id);
                vectors.numbers.extend_from_slice(&vector);
            }
        }
        vectors
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The passages nearest to this vector of length one, nearest first.
    pub(super) async fn nearest(self: Arc<Self>, vector: Vec<f32>, limit: usize) -> Result<Vec<PassageId>, Failure> {
        if self.ids.is_empty() {
            return Ok(Vec::new());
        }
        if vector.len() != self.dimensions {
            let message = format!(
                "The embedding model answers vectors of {} numbers; those of the passages have {}.",
                vector.len(),
                self.dimensions
            );
            return Err(Failure::new(Code::UpstreamFailed, message));
        }
        if self.numbers.len() < NUMBERS_AT_ONCE {
            return Ok(self.compare(&vector, limit));
        }
        tokio::task::spawn_blocking(move || self.compare(&vector, limit))
            .await
            .map_err(|fault| Failure::new(Code::InternalError, "Comparing vectors broke off.").caused_by(fault))
    }

    fn compare(&self, vector: &[f32], limit: usize) -> Vec<PassageId> {
        let cosines = self.numbers.chunks_exact(self.dimensions).map(|one| dot(one, vector));
        let mut ranked: Vec<(f32, PassageId)> = cosines.zip(self.ids.iter().copied()).collect();
        let limit = limit.min(ranked.len());
        if limit == 0 {
            return Vec::new();
        }
        ranked.select_nth_unstable_by(limit - 1, |(a, _), (b, _)| b.total_cmp(a));
        ranked.truncate(limit);
        ranked.sort_by(|(a, first), (b, second)| b.total_cmp(a).then(first.cmp(second)));
        ranked.into_iter().map(|(_, id)| id).collect()
    }
}

/// Eight sums beside one another, which the compiler turns into vector instructions; one sum after another it may not.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_products() {
        let a: Vec<f32> = (0..19_u8).map(f32::from).collect();
        let expected: f32 = a.iter().map(|x| x * x).sum();
        assert!((dot(&a, &a) - expected).abs() < 1e-3);
    }
}
