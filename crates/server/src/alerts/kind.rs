//! What alerts there are, and what each says.

use forebay_domain::id::TenantId;
use serde_json::{Map, Value, json};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The type of an alert, as webhooks get it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

kinds! {
    /// Something went beyond a soft limit.
    SoftLimit = "spending.soft_limit",
    /// A hard limit refused something.
    Refused = "spending.refused",
    /// Nobody said what became of something; all that was held for it counts as spent.
    Lapsed = "spending.lapsed",
    /// Nobody knows whether a machine was made.
    AmbiguousCreate = "rental.ambiguous",
    /// A machine does not go away.
    DestroyFailing = "rental.destroy_failing",
    /// A machine's provider wants more for it.
    PriceRise = "rental.price_rise",
    /// A machine is ended because a limit is near, or will be unless there is room.
    BreachAhead = "rental.breach_ahead",
    /// A machine that nobody rents bears a label of ours.
    Orphan = "rental.orphan",
    /// A provider does not let us see what machines there are.
    BlindProvider = "market.blind",
}

impl Kind {
    /// A machine may be costing money that nobody wants to spend. Users cause what tells of limits, as often as they like.
    pub(super) fn is_urgent(self) -> bool {
        self.as_str().starts_with("rental.") || self.as_str().starts_with("market.")
    }
}

/// Something that somebody should hear of.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    pub kind: Kind,
    pub tenant: Option<TenantId>,
    /// What it is about, within its kind: the same is not told again for a while.
    pub thing: String,
    /// The sentence for people.
    pub words: String,
    /// Particulars for programs.
    pub details: Map<String, Value>,
}

impl Alert {
    /// What a message says beside its type and time.
    pub(super) fn data(&self) -> Value {
        let mut data = self.details.clone();
        data.insert("message".to_owned(), json!(self.words));
        if let Some(tenant) = &self.tenant {
            data.insert("tenant".to_owned(), json!(tenant));
        }
        Value::Object(data)
    }
}
