//! What is not offered of an upstream until somebody has looked at it, and why.

use forebay_domain::quarantine::{Kind, NAME_SEPARATOR, ServerName, Why, exposed_name};
use std::collections::{BTreeMap, HashMap};

/// The definitions that are held, by the upstream's own names.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    why: BTreeMap<(Kind, String), Why>,
    /// Tools that would be called something else in the whole, where names are cut and other characters replaced: their
    /// own names by those, without the server's.
    renamed: HashMap<String, String>,
}

impl Withheld {
    pub(super) fn new(server: &ServerName, held: impl IntoIterator<Item = (Kind, String, Why)>) -> Self {
        let mut this = Self::default();
        for (kind, name, why) in held {
            if kind == Kind::Tool {
                this.renamed.extend(renamed(server, &name).map(|to| (to, name.clone())));
            }
            this.why.insert((kind, name), why);
        }
        this
    }

    pub(super) fn len(&self) -> usize {
        self.why.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.why.is_empty()
    }

    pub(super) fn why(&self, kind: Kind, name: &str) -> Option<&Why> {
        self.why.get(&(kind, name.to_owned()))
    }

    /// The tool that is called so, by its own name or by what became of that in the whole: its own name, and why.
    pub(super) fn tool(&self, called: &str) -> Option<(&str, &Why)> {
        let of = |name: &str| self.why.get_key_value(&(Kind::Tool, name.to_owned()));
        let ((_, name), why) = of(called).or_else(|| of(self.renamed.get(called)?))?;
        Some((name, why))
    }

    /// Whether something is held here that is not held there.
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        self.why.keys().any(|key| !other.why.contains_key(key))
    }
}

/// What becomes of a tool's own name, where that is something else.
fn renamed(server: &ServerName, name: &str) -> Option<String> {
    let exposed = exposed_name(server, name).ok()?;
    let (_, to) = exposed.split_once(NAME_SEPARATOR)?;
    (to != name).then(|| to.to_owned())
}
