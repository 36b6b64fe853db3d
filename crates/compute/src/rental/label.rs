//! What our machines are called at their providers: `fb:<tenant>:<ulid>`, unique for ever.
//!
//! The ULID has the time, the number of this installation and 48 random bits. So two installations that share an account
//! at a provider tell their machines apart, and neither ever touches the other's.

use forebay_domain::id::TenantId;
use forebay_runtime::Entropy;
use jiff::Timestamp;

const OURS: &str = "fb:";
/// Crockford's base 32, in small letters: providers' names have no others.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ULID_CHARS: usize = 26;
const INSTALLATION_SHIFT: u32 = 48;
const TIME_SHIFT: u32 = 80;

/// Draws the id of a new rental.
pub(crate) fn draw(now: Timestamp, installation: u32, entropy: &Entropy) -> String {
    let time = u128::from(now.as_millisecond().max(0).unsigned_abs()) & ((1 << 48) - 1);
    let mut random = [0; 16];
    random[10..].copy_from_slice(&entropy.bytes::<6>());
    let bits = time << TIME_SHIFT | u128::from(installation) << INSTALLATION_SHIFT | u128::from_be_bytes(random);
    let digit = |place: usize| {
        let five = (bits >> (5 * (ULID_CHARS - 1 - place))) & 31;
        char::from(DIGITS[usize::try_from(five).expect("five bits")])
    };
    (0..ULID_CHARS).map(digit).collect()
}

/// The label of a rental.
pub(crate) fn label(tenant: &TenantId, id: &str) -> String {
    format!("{OURS}{tenant}:{id}")
}

/// The installation whose label that is; `None` for whatever is no label of any.
pub(crate) fn installation_of(label: &str) -> Option<u32> {
    let (_, id) = label.strip_prefix(OURS)?.rsplit_once(':')?;
    if id.len() != ULID_CHARS {
        return None;
    }
    let bits = id.bytes().try_fold(0_u128, |bits, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        Some(bits << 5 | u128::try_from(digit).ok()?)
    })?;
    u32::try_from((bits >> INSTALLATION_SHIFT) & u128::from(u32::MAX)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn a_label_says_whose_it_is() {
        let tenant: TenantId = "acme:eu".parse().unwrap();
        for installation in [0, 7, u32::MAX] {
            let id = draw(at(1_795_280_000_000), installation, &Entropy::seeded(1));
            assert_eq!(id.len(), ULID_CHARS);
            assert_eq!(installation_of(&label(&tenant, &id)), Some(installation));
        }
        for foreign in [
            "",
            "fb:",
            "fb:acme",
            "fb:acme:1",
            "training",
            "fb:acme:01JD3ZK7XW5Q",
            "xfb:acme:0000000000000000000000000u",
            "fb:acme:uuuuuuuuuuuuuuuuuuuuuuuuuu",
            "gw1:acme:00000000000000000000000000",
        ] {
            assert_eq!(installation_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn ids_are_distinct_and_sort_by_time() {
        let entropy = Entropy::seeded(3);
        let ids: Vec<String> = (0..2_000)
            .map(|ms| draw(at(1_795_280_000_000 + ms), 9, &entropy))
            .collect();
        assert!(ids.is_sorted());
        let at_once: HashSet<String> = (0..2_000).map(|_| draw(at(0), 9, &entropy)).collect();
        assert_eq!(at_once.len(), 2_000);
    }
}
