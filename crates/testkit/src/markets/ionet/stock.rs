//! What is there to be rented.

use serde_json::{Value, json};

/// A number with io.net's own machines, a text with its partners'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    Int(u64),
    Text(String),
}

impl Id {
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Int(number) => json!(number),
            Self::Text(text) => json!(text),
        }
    }

    /// Whether a query's text means it.
    pub(super) fn is(&self, text: &str) -> bool {
        match self {
            Self::Int(number) => number.to_string() == text,
            Self::Text(own) => own == text,
        }
    }
}

/// One kind of machine.
#[derive(Debug, Clone)]
pub struct Hardware {
    pub id: Id,
    pub name: &'static str,
    pub cards: u64,
    /// Of an hour of the whole, in micro-dollars, without the fee.
    pub price: i64,
    pub vram: u64,
    pub storage: u64,
    pub is_sold_out: bool,
    /// Whether containers run on it.
    pub runs_containers: bool,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub struct Place {
    pub id: Id,
    pub iso2: &'static str,
    pub name: &'static str,
    pub free: u64,
}

pub(super) const US: Place = Place {
    id: Id::Int(3),
    iso2: "US",
    name: "United States",
    free: 4,
};

fn hardware(id: Id, name: &'static str, cards: u64, price: i64, vram: u64) -> Hardware {
    Hardware {
        id,
        name,
        cards,
        price,
        vram,
        storage: 1_000,
        is_sold_out: false,
        runs_containers: true,
        place: US,
    }
}

fn partner(id: &str, name: &'static str, cards: u64, price: i64, vram: u64) -> Hardware {
    let place = Place {
        id: Id::Text("FI".to_owned()),
        iso2: "FI",
        name: "Finland",
        free: 1,
    };
    Hardware {
        place,
        ..hardware(Id::Text(id.to_owned()), name, cards, price, vram)
    }
}

/// A bit of everything: own and partners' machines, and what is not to be offered.
pub(super) fn usual() -> Vec<Hardware> {
    vec![
        hardware(Id::Int(203), "GeForce RTX 4090", 1, 300_000, 24),
        hardware(Id::Int(12), "GeForce RTX 4090", 2, 600_000, 24),
        hardware(Id::Int(77), "GeForce RTX 4080", 1, 200_000, 16),
        partner("gpu_1x_l40", "L40", 1, 690_000, 48),
        partner("8H100.80S.176V", "H100", 8, 27_875_343, 80),
        partner("1CPU", "", 0, 100_000, 0),
        partner("1L40S", "L40S", 1, 0, 48),
        Hardware {
            is_sold_out: true,
            ..hardware(Id::Int(91), "A100 80GB", 1, 1_100_000, 80)
        },
        Hardware {
            runs_containers: false,
            ..partner("1VM.A6000", "RTX A6000", 1, 400_000, 48)
        },
    ]
}

pub(super) fn many(count: usize) -> Vec<Hardware> {
    let kinds = [
        ("GeForce RTX 4090", 24),
        ("A100 80GB", 80),
        ("L4", 24),
        ("GeForce RTX 3080", 10),
    ];
    let rows = (0..count).zip(kinds.into_iter().cycle());
    let row = |(at, (name, vram)): (usize, (&'static str, u64))| {
        let at = u64::try_from(at).expect("a number of offers");
        let price = 150_000 + i64::try_from(at % 997).expect("below 997") * 1_000;
        hardware(Id::Int(1_000 + at), name, 1 + at % 4, price, vram)
    };
    rows.map(row).collect()
}
