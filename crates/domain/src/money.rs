//! Money: whole micro-dollars, and nano-dollars an hour for what costs by the time. Never a float.
//!
//! Amounts are read from decimals as people and providers write them, below a billion dollars: so many digits a JSON
//! number carries exactly, through whatever parser. What is held is rounded up, so that a hold is never
//! less than what it is for; what cannot be represented is refused rather than cut.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, iter::Sum, str::FromStr, time::Duration};

const MICROS: i64 = 1_000_000;
const MICRO_DIGITS: usize = 6;
/// Nano-dollars of a micro-dollar.
const NANOS_OF_A_MICRO: i128 = 1_000;
const NANOSECONDS_OF_AN_HOUR: i128 = 3_600 * 1_000_000_000;

/// US dollars, in millionths. Negative where something was given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

/// What is no amount of money that can be kept here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyFault {
    #[error("{0:?} is no decimal number of US dollars, such as 12.50")]
    Malformed(String),
    #[error("{0:?} is more money than can be counted here")]
    TooMuch(String),
}

/// What becomes of digits behind the sixth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Away from zero: for what is held, and for prices.
    Up,
    /// Towards zero: for limits.
    Down,
}

impl Usd {
    pub const ZERO: Self = Self(0);
    /// The most that is read. Sums may be above.
    pub const MAX: Self = Self(999_999_999_999_999);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum, or the most that there is: for comparisons with a limit, which such a sum is above anyway.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Reads a decimal: an optional sign, digits, a point and digits, and an exponent as JSON may have one.
    pub fn parse(text: &str, rounding: Rounding) -> Result<Self, MoneyFault> {
        let malformed = || MoneyFault::Malformed(shown(text));
        let decimal = Decimal::read(text).ok_or_else(malformed)?;
        let amount = decimal.scaled(MICRO_DIGITS, rounding).map(Self);
        let countable = amount.filter(|amount| amount.0.unsigned_abs() <= Self::MAX.0.unsigned_abs());
        countable.ok_or_else(|| MoneyFault::TooMuch(shown(text)))
    }

    /// So many times this amount for each million: what tokens cost.
    pub fn per_million(self, count: u64) -> Option<Self> {
        let micros = (i128::from(self.0) * i128::from(count)).checked_add(i128::from(MICROS - 1))?;
        i64::try_from(micros.div_euclid(i128::from(MICROS))).ok().map(Self)
    }
}

/// How a text stands in a message: not more of it than somebody wants to read.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The digits of a decimal number, and where its point is.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    /// Digits in front of the point; negative where zeros follow it first.
    point: i64,
}

impl Decimal {
    fn read(text: &str) -> Option<Self> {
        const TEXT_MAX: usize = 64;
        if text.len() > TEXT_MAX {
            return None;
        }
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (number, exponent) = match rest.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i16>().ok()?),
            None => (rest, 0),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(part) {
            return None;
        }
        Some(Self {
            negative,
            digits: whole.bytes().chain(part.bytes()).map(|byte| byte - b'0').collect(),
            point: i64::try_from(whole.len()).ok()? + i64::from(exponent),
        })
    }

    /// The number times ten to so many digits, as a whole one.
    fn scaled(&self, digits: usize, rounding: Rounding) -> Option<i64> {
        let kept = self.point + i64::try_from(digits).ok()?;
        let mut value: i128 = 0;
        let mut is_cut = false;
        for (place, digit) in (0_i64..).zip(&self.digits) {
            if place < kept {
                value = value.checked_mul(10)?.checked_add(i128::from(*digit))?;
            } else {
                is_cut |= *digit != 0;
            }
        }
        for _ in i64::try_from(self.digits.len()).ok()?..kept {
            if value == 0 {
                break;
            }
            value = value.checked_mul(10)?;
        }
        value += i128::from(is_cut && rounding == Rounding::Up);
        i64::try_from(if self.negative { -value } else { value }).ok()
    }
}

impl FromStr for Usd {
    type Err = MoneyFault;

    /// Rounds up, as prices and holds are.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, Rounding::Up)
    }
}

impl fmt::Display for Usd {
    /// At least two digits behind the point, and no more than it takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) = (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        let part = format!("{part:06}");
        let part = part.trim_end_matches('0');
        write!(f, "{sign}{whole}.{part:0<2}")
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

impl Serialize for Usd {
    /// A JSON number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number: serde_json::Number = self.to_string().parse().map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Usd {
    /// A number, or a text with one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::String(text) => text,
            other => return Err(de::Error::custom(MoneyFault::Malformed(shown(&other.to_string())))),
        };
        text.parse().map_err(de::Error::custom)
    }
}

/// What something costs by the time: nano-dollars an hour, since hours are what machines are priced by, and what a day of
/// one costs must not be above 24 of its hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsdRate(i64);

impl UsdRate {
    pub const ZERO: Self = Self(0);

    pub const fn from_nanos_per_hour(nanos: i64) -> Self {
        Self(nanos)
    }

    pub const fn nanos_per_hour(self) -> i64 {
        self.0
    }

    /// From the price of an hour.
    pub fn per_hour(price: Usd) -> Self {
        let nanos = i128::from(price.0) * NANOS_OF_A_MICRO;
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// What so much time costs, rounded up to a micro-dollar. Ask for the whole time since the start and post the
    /// difference to what was posted: parts that were rounded one by one add up to more.
    pub fn cost_of(self, time: Duration) -> Usd {
        let nanoseconds = i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
        let cost = i128::from(self.0).saturating_mul(nanoseconds);
        let divisor = NANOSECONDS_OF_AN_HOUR * NANOS_OF_A_MICRO;
        let micros = cost.saturating_add(divisor - 1).div_euclid(divisor);
        Usd(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// What an hour costs.
    pub fn hourly(self) -> Usd {
        self.cost_of(Duration::from_hours(1))
    }
}

impl Sum for UsdRate {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::ZERO, Self::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_are_read_to_the_last_digit() {
        for (text, micros) in [
            ("0", 0),
            ("1", 1_000_000),
            ("12.5", 12_500_000),
            ("0.000001", 1),
            ("-3.25", -3_250_000),
            ("1e-6", 1),
            ("2.5E3", 2_500_000_000),
            ("0.399416667", 399_417),
            ("999999999.999999", 999_999_999_999_999),
        ] {
            assert_eq!(usd(text).micros(), micros, "{text}");
        }
        assert_eq!(Usd::parse("0.0000019", Rounding::Down), Ok(Usd(1)));
        assert_eq!(Usd::parse("0.0000011", Rounding::Up), Ok(Usd(2)));
        assert_eq!(
            Usd::parse("1e-30", Rounding::Up),
            Ok(Usd(1)),
            "a price is never nothing"
        );
        assert_eq!(Usd::parse("1e-30", Rounding::Down), Ok(Usd::ZERO));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", "NaN", "inf", "1,5", "$1", "1.", ".5", "1.2.3", "--1", "+1", "0x10", "1e", "1e99999", " 1",
        ] {
            assert!(matches!(text.parse::<Usd>(), Err(MoneyFault::Malformed(_))), "{text}");
        }
        for text in ["1000000000", "-1e9", "9223372036854.775808", "1e300"] {
            assert!(matches!(text.parse::<Usd>(), Err(MoneyFault::TooMuch(_))), "{text}");
        }
        assert!(serde_json::from_str::<Usd>("null").is_err());
        assert!(serde_json::from_str::<Usd>("[1]").is_err());
    }

    #[test]
    fn an_hours_price_and_the_time_give_the_cost() {
        let rate = UsdRate::per_hour(usd("0.399417"));
        assert_eq!(rate.nanos_per_hour(), 399_417_000);
        assert_eq!(rate.cost_of(Duration::from_hours(24)), usd("9.586008"));
        assert_eq!(rate.hourly(), usd("0.399417"));
        assert_eq!(rate.cost_of(Duration::ZERO), Usd::ZERO);
        assert_eq!(rate.cost_of(Duration::from_nanos(1)), Usd(1), "begun is paid");
        assert_eq!(
            UsdRate::from_nanos_per_hour(i64::MAX).cost_of(Duration::MAX).micros(),
            i64::MAX
        );
    }

    #[test]
    fn tokens_cost_their_part_of_a_million() {
        assert_eq!(usd("0.15").per_million(1_000), Some(Usd(150)));
        assert_eq!(usd("0.15").per_million(1), Some(Usd(1)), "rounded up");
        assert_eq!(usd("0.15").per_million(0), Some(Usd::ZERO));
        assert_eq!(Usd::MAX.per_million(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(micros in -Usd::MAX.0..=Usd::MAX.0) {
            let amount = Usd(micros);
            prop_assert_eq!(amount.to_string().parse::<Usd>(), Ok(amount));
            prop_assert_eq!(serde_json::from_str::<Usd>(&serde_json::to_string(&amount).unwrap()).unwrap(), amount);
        }

        #[test]
        fn nothing_panics_over_a_text(text in ".{0,80}") {
            let _ = text.parse::<Usd>();
        }

        #[test]
        fn parts_of_a_time_never_cost_less_than_the_whole(nanos in 0_i64..1_000_000_000, parts in prop::collection::vec(0_u64..10_000_000, 1..20)) {
            let rate = UsdRate::from_nanos_per_hour(nanos);
            let each: Usd = parts.iter().map(|ms| rate.cost_of(Duration::from_millis(*ms))).sum();
            let whole = rate.cost_of(Duration::from_millis(parts.iter().sum()));
            prop_assert!(each >= whole);
            prop_assert!(each.micros() - whole.micros() <= i64::try_from(parts.len()).unwrap());
        }
    }
}
