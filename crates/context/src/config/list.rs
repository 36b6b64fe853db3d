//! Providers as a map or as a list.

use super::{ProviderConfig, ProvidersConfig};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, collections::BTreeMap, fmt};

impl<'de> Deserialize<'de> for ProvidersConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Providers)
    }
}

struct Providers;

impl<'de> Visitor<'de> for Providers {
    type Value = ProvidersConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("providers by name, or a list of providers with a `name` each")
    }

    fn visit_unit<E>(self) -> Result<ProvidersConfig, E> {
        Ok(ProvidersConfig::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ProvidersConfig, A::Error> {
        let mut all = BTreeMap::new();
        while let Some(mut one) = list.next_element::<ProviderConfig>()? {
            let name = one.name.take().ok_or_else(|| A::Error::missing_field("name"))?;
            add(&mut all, name, one)?;
        }
        Ok(ProvidersConfig(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProvidersConfig, A::Error> {
        let mut all = BTreeMap::new();
        while let Some((key, mut one)) = map.next_entry::<String, ProviderConfig>()? {
            if let Some(name) = one.name.take()
                && name != key
            {
                let message = format!("the provider `{key}` says that its name is `{name}`");
                return Err(A::Error::custom(message));
            }
            add(&mut all, key, one)?;
        }
        Ok(ProvidersConfig(all))
    }
}

fn add<E: Error>(all: &mut BTreeMap<String, ProviderConfig>, name: String, one: ProviderConfig) -> Result<(), E> {
    if all.contains_key(&name) {
        return Err(E::custom(format!("there are two providers `{name}`")));
    }
    all.insert(name, one);
    Ok(())
}

impl JsonSchema for ProvidersConfig {
    fn schema_name() -> Cow<'static, str> {
        "ContextProviders".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<ProviderConfig>();
        json_schema!({
            "description": "Providers by name, or a list of providers with a `name` each.",
            "type": ["object", "array"],
            "additionalProperties": one,
            "items": one,
        })
    }
}
