//! The one source of randomness.

use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::{Arc, Mutex};

/// Draws random bytes: the operating system's, or a seeded sequence for tests.
#[derive(Clone)]
pub struct Entropy(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<StdRng>>),
}

impl Entropy {
    /// Cryptographically secure, seeded by the operating system.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The same bytes for the same seed. Never for keys that anybody relies on.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))))
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.0 {
            Source::System => rand::rng().fill_bytes(&mut bytes),
            Source::Seeded(rng) => rng.lock().expect("nobody panics while drawing").fill_bytes(&mut bytes),
        }
        bytes
    }

    /// A number in `0..bound`; 0 where the bound is 0.
    pub fn below(&self, bound: u64) -> u64 {
        u64::from_le_bytes(self.bytes()).checked_rem(bound).unwrap_or(0)
    }
}
