//! References within the arguments of a step: `{"$from": "/0/…"}` stands for a value of an earlier result,
//! `{"$text": "/0"}` for its text.
//!
//! An object is a reference where that is its only member and the member is a string. Everything else stays as it was
//! written, byte for byte. There is no way to hand on such an object as it is.

use super::{pointer, report::quoted};
use crate::raw::Members;
use forebay_domain::{Code, Failure};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

/// The largest arguments that references may make.
const ARGUMENTS_BYTES_MAX: usize = 4 << 20;

/// What a reference asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The value at the pointer.
    Value,
    /// The text blocks of the step's result, a line between them.
    Text,
}

/// One reference as it is written.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) part: Part,
    pub(super) pointer: String,
}

impl Reference {
    /// The step that it names, and the rest of the pointer.
    pub(super) fn parts(&self) -> Option<(String, Vec<String>)> {
        let mut parts = pointer::parts(&self.pointer)?;
        let step = parts.remove(0);
        Some((step, parts))
    }

    /// The JSON that it stands for, in the result of its step.
    pub(super) fn resolve<'a>(&self, result: &'a RawValue, rest: &[String]) -> Result<Cow<'a, str>, String> {
        match self.part {
            Part::Value => pointer::find(result, rest).map(|found| Cow::Borrowed(found.get())),
            Part::Text if rest.is_empty() => text_of(result).map(|text| Cow::Owned(quoted(&text))),
            Part::Text => Err("`$text` takes a step and nothing behind it".to_owned()),
        }
    }
}

/// The text blocks of a result.
fn text_of(result: &RawValue) -> Result<String, String> {
    #[derive(serde::Deserialize)]
    struct Content {
        content: Vec<Block>,
    }
    #[derive(serde::Deserialize)]
    struct Block {
        r#type: String,
        text: Option<String>,
    }
    let content: Option<Content> = serde_json::from_str(result.get()).ok();
    let blocks = content.into_iter().flat_map(|content| content.content);
    let texts: Vec<String> = blocks
        .filter(|block| block.r#type == "text")
        .filter_map(|block| block.text)
        .collect();
    if texts.is_empty() {
        return Err("the result has no text".to_owned());
    }
    Ok(texts.join("\n"))
}

/// The arguments with each reference replaced by the JSON that `resolve` finds for it.
///
/// The arguments have been read as a JSON value before, so they nest no deeper than that allows.
pub(super) fn filled_in<'r>(
    arguments: &RawValue,
    mut resolve: impl FnMut(&Reference) -> Result<Cow<'r, str>, Failure>,
) -> Result<Box<RawValue>, Failure> {
    let mut filling = Filling {
        resolve: &mut resolve,
        text: String::with_capacity(arguments.get().len()),
    };
    filling.value(arguments.get())?;
    Ok(RawValue::from_string(filling.text).expect("JSON with values in place of values is JSON"))
}

struct Filling<'f, 'r> {
    resolve: &'f mut dyn FnMut(&Reference) -> Result<Cow<'r, str>, Failure>,
    text: String,
}

impl Filling<'_, '_> {
    fn value(&mut self, json: &str) -> Result<(), Failure> {
        // A name that begins with a dollar sign has one in it, or an escape.
        let plain = !json.contains(['$', '\\']);
        match json.trim_start().as_bytes().first() {
            Some(b'{') if !plain => match reference(json) {
                Some(reference) => {
                    let found = (self.resolve)(&reference)?;
                    self.text.push_str(&found);
                }
                None => self.object(json)?,
            },
            Some(b'[') if !plain => self.array(json)?,
            Some(_) | None => self.text.push_str(json),
        }
        if self.text.len() > ARGUMENTS_BYTES_MAX {
            let message = format!("With references filled in, the arguments exceed {ARGUMENTS_BYTES_MAX} bytes.");
            return Err(Failure::new(Code::InvalidArguments, message).hint("Refer to a smaller part of the result."));
        }
        Ok(())
    }

    fn object(&mut self, json: &str) -> Result<(), Failure> {
        let raw: Option<&RawValue> = serde_json::from_str(json).ok();
        let members = raw.and_then(Members::of).unwrap_or_default();
        self.text.push('{');
        for (index, (name, member)) in members.0.iter().enumerate() {
            self.comma(index);
            self.text.push_str(&quoted(name));
            self.text.push(':');
            self.value(member)?;
        }
        self.text.push('}');
        Ok(())
    }

    fn array(&mut self, json: &str) -> Result<(), Failure> {
        let elements: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
        self.text.push('[');
        for (index, element) in elements.iter().enumerate() {
            self.comma(index);
            self.value(element.get())?;
        }
        self.text.push(']');
        Ok(())
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.text.push(',');
        }
    }
}

fn reference(json: &str) -> Option<Reference> {
    // Read as texts: a member that is no string makes it no reference.
    let members: BTreeMap<String, String> = serde_json::from_str(json).ok()?;
    if members.len() != 1 {
        return None;
    }
    let (name, pointer) = members.into_iter().next()?;
    let part = match name.as_str() {
        "$from" => Part::Value,
        "$text" => Part::Text,
        _ => return None,
    };
    Some(Reference { part, pointer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(arguments: &str, expected: &str) {
        let raw = RawValue::from_string(arguments.to_owned()).unwrap();
        let result = json!({
            "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}],
            "structuredContent": {"n": 7},
        });
        let result = crate::call::raw(&result);
        let filled = filled_in(&raw, |reference| {
            let (step, rest) = reference.parts().unwrap();
            assert_eq!(step, "0");
            Ok(reference.resolve(&result, &rest).unwrap())
        });
        assert_eq!(filled.unwrap().get(), expected);
    }

    #[test]
    fn references_are_replaced_at_any_depth_and_nothing_else_is_touched() {
        let n = r#"{"$from":"/0/structuredContent/n"}"#;
        check(n, "7");
        check(
            &format!(r#"{{"b": 1.50, "a": [ {n} ,{{"x":{n}}}], "c":{{"y" : null}}}}"#),
            r#"{"b":1.50,"a":[7,{"x":7}],"c":{"y" : null}}"#,
        );
        check(r#"{"t":{"$text":"/0"}}"#, r#"{"t":"a\nb"}"#);
        check(r#"{"t":{"\u0024text":"/0"}}"#, r#"{"t":"a\nb"}"#);
        check(
            r#"{"w":{"$from":"/0"}}"#,
            &format!(r#"{{"w":{}}}"#, {
                let whole: Value = json!({"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}], "structuredContent": {"n": 7}});
                whole
            }),
        );
    }

    #[test]
    fn what_only_looks_like_a_reference_stays() {
        for arguments in [
            r#"{"a":{"$from":1}}"#,
            r#"{"a":{"$from":"/0","b":2}}"#,
            r#"{"a":"$from"}"#,
            r#"{"price":"7 $"}"#,
            r#"{"$set":{"a":[1,2.0]}}"#,
        ] {
            check(arguments, arguments);
        }
    }

    #[test]
    fn references_cannot_make_arguments_without_end() {
        let big = RawValue::from_string(format!("\"{}\"", "x".repeat(1 << 20))).unwrap();
        let arguments = RawValue::from_string(format!("[{}]", [r#"{"$from":"/0"}"#; 5].join(","))).unwrap();
        let failure = filled_in(&arguments, |_| Ok(Cow::Borrowed(big.get()))).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArguments);
    }
}
