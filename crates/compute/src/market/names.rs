//! Labels as names, for providers that know no labels.
//!
//! io.net and RunPod keep a name, and nobody says which characters it may have. So a label is written in small letters,
//! digits and hyphens, one label to one name, and read back exactly: `fb:acme:01JD3Z` is `fb-acme-01xcjd3z`. What is no
//! name of ours stays what it is, and can never be read as one of our labels.
//!
//! And ids: those that may stand in a path, and parts of an offer's, which must be printable and without a colon.

/// With which every label of ours begins.
pub(super) const OURS: &str = "fb:";
const ID_BYTES_MAX: usize = 100;
/// Stands in front of what has no character of its own in a name; itself where it stands twice.
const ESCAPE: char = 'x';
/// From here on letters have the other case.
const TURN: char = 'c';
const ESCAPES: [(char, char); 8] = [
    ('-', 'd'),
    ('_', 'u'),
    ('.', 'p'),
    ('@', 'a'),
    ('/', 's'),
    ('|', 'b'),
    ('+', 'm'),
    (ESCAPE, ESCAPE),
];

/// A provider's own id of a machine is short and of plain characters, since it goes into paths.
pub(super) fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(is_plain)
}

/// The name of a label; `None` where it has a character that no label of ours has.
pub(super) fn name_of(label: &str) -> Option<String> {
    let mut name = String::with_capacity(label.len() + 8);
    let mut is_upper = false;
    for c in label.chars() {
        if c.is_ascii_alphabetic() && c.is_ascii_uppercase() != is_upper {
            name.extend([ESCAPE, TURN]);
            is_upper = !is_upper;
        }
        let small = c.to_ascii_lowercase();
        if let Some((_, escaped)) = ESCAPES.iter().find(|(plain, _)| *plain == small) {
            name.extend([ESCAPE, *escaped]);
        } else if small == ':' {
            name.push('-');
        } else if small.is_ascii_alphanumeric() {
            name.push(small);
        } else {
            return None;
        }
    }
    Some(name)
}

/// The label that a name stands for; a name that somebody else gave is given back, unless it looks like our labels.
pub(super) fn label_of(name: &str) -> String {
    let ours = read(name).filter(|label| label.starts_with(OURS) && name_of(label).as_deref() == Some(name));
    match ours {
        Some(label) => label,
        None if name.starts_with(OURS) => String::new(),
        None => name.to_owned(),
    }
}

fn read(name: &str) -> Option<String> {
    let mut label = String::with_capacity(name.len());
    let mut is_upper = false;
    let cased = |c: char, is_upper: bool| if is_upper { c.to_ascii_uppercase() } else { c };
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '-' => label.push(':'),
            ESCAPE => match chars.next()? {
                TURN => is_upper = !is_upper,
                escaped => {
                    let (plain, _) = ESCAPES.iter().find(|(_, known)| *known == escaped)?;
                    label.push(cased(*plain, is_upper));
                }
            },
            c => label.push(cased(c, is_upper)),
        }
    }
    Some(label)
}

/// A part of an id: letters, digits, `.`, `_` and `-` are themselves, everything else is `%` and two digits.
pub(super) fn encoded(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push_str(&hex::encode_upper([byte]));
        }
    }
    text
}

/// What [`encoded`] was given.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_label_is_a_plain_name() {
        for (label, name) in [
            ("fb:acme:01JD3ZK7XW5Q", "fb-acme-01xcjd3zk7xxw5q"),
            ("fb:max-1.eu:7", "fb-maxxxd1xpeu-7"),
            ("fb:Ops:a", "fb-xcoxcps-a"),
        ] {
            assert_eq!(name_of(label).as_deref(), Some(name), "{label}");
            assert_eq!(label_of(name), label);
        }
        assert_eq!(name_of("fb:acme:é"), None);
        assert_eq!(name_of("fb:a b:1"), None);
    }

    #[test]
    fn what_others_called_theirs_is_none_of_our_labels() {
        for name in [
            "my-training-pod",
            "",
            "fb",
            "FB-acme-1",
            "fb-x",
            "fb-acmexc",
            "fb-Acme-1",
            "fb-acme-é",
        ] {
            assert_eq!(label_of(name), name);
            assert!(!label_of(name).starts_with(OURS));
        }
        assert_eq!(label_of("fb:acme:01JD"), "", "a name may not pass for a label");
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        assert_eq!(encoded("NVIDIA GeForce RTX 4090"), "NVIDIA%20GeForce%20RTX%204090");
        for text in ["%", "%2", "%zz", "%FF", "a%"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_part_comes_back_as_it_went(part in ".{0,40}") {
            let text = encoded(&part);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
            prop_assert_eq!(decoded(&text), Some(part));
        }

        #[test]
        fn every_label_comes_back_as_it_went(label in "fb:[A-Za-z0-9_.:@/|+-]{1,60}") {
            let name = name_of(&label).unwrap();
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            prop_assert_eq!(label_of(&name), label);
        }

        #[test]
        fn two_names_are_never_one_label(one in "fb-[a-z0-9-]{0,12}", other in "fb-[a-z0-9-]{0,12}") {
            prop_assume!(one != other);
            prop_assert_ne!(label_of(&one), label_of(&other));
        }
    }
}
