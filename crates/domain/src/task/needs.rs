//! What a task needs of whoever runs it.

use std::collections::BTreeSet;

/// What a task needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Words such as `gpu`, all of which its worker has to offer.
    pub words: BTreeSet<String>,
    pub memory_mib: u32,
}

/// What a worker has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    pub words: BTreeSet<String>,
    pub memory_mib: u32,
}

impl Needs {
    pub fn fit(&self, offer: &Offer) -> bool {
        self.words.is_subset(&offer.words) && self.memory_mib <= offer.memory_mib
    }
}
