//! Values out of a provider's JSON. What is not there, or not what it should be, is `None`; nothing here guesses.

use forebay_domain::money::{Rounding, Usd, UsdRate};
use jiff::Timestamp;
use serde_json::Value;

/// A text, without the white space around it that some providers send along.
pub fn text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    Some(object.get(key)?.as_str()?.trim())
}

/// A number as it stands there, or one in a text.
pub fn number(object: &Value, key: &str) -> Option<f64> {
    let number = match object.get(key)? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// A whole number that is not negative, however it is written (`64`, `64.0`, `"64"`); parts of one are cut off.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked before"
)]
pub fn unsigned(object: &Value, key: &str) -> Option<u64> {
    match object.get(key)? {
        Value::Number(whole) if whole.is_u64() => whole.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => number(object, key)
            .filter(|number| (0.0..9e15).contains(number))
            .map(|number| number as u64),
    }
}

/// An amount of money, rounded up: a number, or a text with one. Negative ones are for whoever asks to judge.
pub fn usd(object: &Value, key: &str) -> Option<Usd> {
    Usd::parse(&decimal(object, key)?, Rounding::Up).ok()
}

/// A price of a second, to the last pico-dollar, as a rate.
pub fn rate_per_second(object: &Value, key: &str) -> Option<UsdRate> {
    let decimal = decimal(object, key)?;
    let (digits, exponent) = decimal.split_once(['e', 'E']).unwrap_or((&decimal, "0"));
    let exponent: i16 = exponent.parse().ok()?;
    let picos = Usd::parse(&format!("{digits}e{}", exponent.checked_add(6)?), Rounding::Up).ok()?;
    let nanos_per_hour = (i128::from(picos.micros()) * 3_600 + 999).div_euclid(1_000);
    i64::try_from(nanos_per_hour).ok().map(UsdRate::from_nanos_per_hour)
}

fn decimal(object: &Value, key: &str) -> Option<String> {
    match object.get(key)? {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.trim().to_owned()),
        _ => None,
    }
}

/// Seconds since 1970, with or without parts.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
pub fn timestamp(object: &Value, key: &str) -> Option<Timestamp> {
    let seconds = number(object, key).filter(|seconds| (0.0..2.5e11).contains(seconds))?;
    Timestamp::from_millisecond((seconds * 1_000.0).round() as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_read_however_they_are_written() {
        let row = json!({ "a": 64.0, "b": "7", "c": -1, "d": null, "e": " x \n", "f": 1e300, "g": "NaN" });
        assert_eq!(unsigned(&row, "a"), Some(64));
        assert_eq!(unsigned(&row, "b"), Some(7));
        for key in ["c", "d", "e", "f", "g", "nowhere"] {
            assert_eq!(unsigned(&row, key), None, "{key}");
        }
        assert_eq!(text(&row, "e"), Some("x"));
        assert_eq!(number(&row, "g"), None);
    }

    #[test]
    fn money_keeps_its_digits() {
        let row = json!({ "a": 0.399_416_667, "b": "0.25", "c": 0.000_108_056, "d": 1.08e-7, "e": [], "f": -1 });
        assert_eq!(usd(&row, "a"), Some(Usd::from_micros(399_417)));
        assert_eq!(usd(&row, "b"), Some(Usd::from_micros(250_000)));
        assert_eq!(usd(&row, "e"), None);
        assert_eq!(
            rate_per_second(&row, "c"),
            Some(UsdRate::from_nanos_per_hour(389_001_600))
        );
        assert_eq!(rate_per_second(&row, "d"), Some(UsdRate::from_nanos_per_hour(388_800)));
    }

    #[test]
    fn times_are_within_the_calendar() {
        let row = json!({ "a": 1_795_132_805.12, "b": 1e17, "c": -5 });
        assert_eq!(timestamp(&row, "a").unwrap().as_millisecond(), 1_795_132_805_120);
        assert_eq!(timestamp(&row, "b"), None);
        assert_eq!(timestamp(&row, "c"), None);
    }
}
