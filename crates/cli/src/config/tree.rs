//! A configuration as it was written: values, and where each key and value stands.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};
use std::{collections::BTreeMap, fmt};

/// Where a key or a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Counted from 1.
    File { line: u64, column: u64 },
    /// The variable's name.
    Env(String),
    /// The flag, as it is written.
    Flag(&'static str),
}

/// One value with what is in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Scalar(Value),
    List(Vec<Node>),
    Map(BTreeMap<String, Entry>),
}

/// A value under its key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Origin,
    pub(super) node: Node,
}

impl Node {
    pub(super) fn to_json(&self) -> Value {
        match &self.shape {
            Shape::Scalar(value) => value.clone(),
            Shape::List(items) => items.iter().map(Self::to_json).collect(),
            Shape::Map(entries) => {
                let entries = entries.iter().map(|(key, entry)| (key.clone(), entry.node.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    pub(super) fn is_null(&self) -> bool {
        self.shape == Shape::Scalar(Value::Null)
    }

    /// The nearest thing to `path` that was written: the entry itself, or else what it would stand in.
    pub(super) fn nearest(&self, path: &[String]) -> Nearest<'_> {
        let mut nearest = Nearest {
            key: &self.origin,
            value: &self.origin,
            is_exact: true,
        };
        let mut node = self;
        for segment in path {
            let (key, next) = match &node.shape {
                Shape::Map(entries) => match entries.get(segment) {
                    Some(entry) => (&entry.key, &entry.node),
                    None => {
                        return Nearest {
                            is_exact: false,
                            ..nearest
                        };
                    }
                },
                Shape::List(items) => match segment.parse().ok().and_then(|index: usize| items.get(index)) {
                    Some(item) => (&item.origin, item),
                    None => {
                        return Nearest {
                            is_exact: false,
                            ..nearest
                        };
                    }
                },
                Shape::Scalar(_) => {
                    return Nearest {
                        is_exact: false,
                        ..nearest
                    };
                }
            };
            nearest = Nearest {
                key,
                value: &next.origin,
                is_exact: true,
            };
            node = next;
        }
        nearest
    }
}

/// See [`Node::nearest`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearest<'a> {
    pub(super) key: &'a Origin,
    pub(super) value: &'a Origin,
    /// The path itself was written.
    pub(super) is_exact: bool,
}

/// A node of a YAML document.
pub(super) struct Written(pub(super) Node);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Raw>::deserialize(deserializer)?;
        Ok(Self(Node {
            origin: origin(referenced),
            shape: value.0,
        }))
    }
}

fn origin(location: Location) -> Origin {
    Origin::File {
        line: location.line(),
        column: location.column(),
    }
}

struct Raw(Shape);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false, a list, or keys")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw(Shape::Scalar(Value::Bool(value))))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw(Shape::Scalar(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw(Shape::Scalar(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Raw, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number has to be finite"))?;
        Ok(Raw(Shape::Scalar(Value::Number(number))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw(Shape::Scalar(value.into())))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw(Shape::Scalar(Value::Null)))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw(Shape::Scalar(Value::Null)))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(Written(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw(Shape::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(Spanned {
            value: key, referenced, ..
        }) = entries.next_key::<Spanned<String>>()?
        {
            let Written(node) = entries.next_value()?;
            map.insert(
                key,
                Entry {
                    key: origin(referenced),
                    node,
                },
            );
        }
        Ok(Raw(Shape::Map(map)))
    }
}
