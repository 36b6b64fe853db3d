//! Editing raw JSON objects by their members: what is not named stays as it came, byte for byte.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// The members of an object in their order, each value still raw.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Members<'a> {
    /// Nothing where this is no object.
    pub(crate) fn of(raw: &'a RawValue) -> Option<Self> {
        let read: Read<'a> = serde_json::from_str(raw.get()).ok()?;
        Some(Self(read.0))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Puts JSON text under a name, in its old place where it had one.
    pub(crate) fn set(&mut self, name: &'a str, value: impl Into<Cow<'a, str>>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((Cow::Borrowed(name), value.into())),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    pub(crate) fn write(&self) -> Box<RawValue> {
        let size: usize = self.0.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
        let mut text = String::with_capacity(size + 2);
        text.push('{');
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::Value::from(&**key).to_string());
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        RawValue::from_string(text).expect("members of an object make an object")
    }
}

/// The object with one member replaced or added. What is no object comes back as it is.
pub(crate) fn with_member(raw: &RawValue, name: &str, value: &str) -> Box<RawValue> {
    match Members::of(raw) {
        None => raw.to_owned(),
        Some(mut members) => {
            members.set(name, value);
            members.write()
        }
    }
}

struct Read<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// A key that is borrowed where it can be: serde's own `Cow` always copies.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Read<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Read<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    let value: &'de RawValue = map.next_value()?;
                    members.push((key, Cow::Borrowed(value.get())));
                }
                Ok(Read(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(object: &str, name: &str, value: &str, expected: &str) {
        let raw = RawValue::from_string(object.to_owned()).unwrap();
        assert_eq!(with_member(&raw, name, value).get(), expected);
    }

    #[test]
    fn one_member_changes_and_the_others_stay_as_they_came() {
        check(
            r#"{"a": 1.0, "name":"x","z":{"u" :[ ]}}"#,
            "name",
            r#""y""#,
            r#"{"a":1.0,"name":"y","z":{"u" :[ ]}}"#,
        );
        check("{}", "name", "7", r#"{"name":7}"#);
        check(r#"{"a\"b":1,"name":2}"#, "name", "3", r#"{"a\"b":1,"name":3}"#);
        check("[1]", "name", "3", "[1]");
    }
}
