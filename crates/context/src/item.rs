//! What a provider found, before it is joined with what others found.

use forebay_domain::quarantine::clean_text;
use std::borrow::Cow;

/// Bytes of one item's text at most; what is longer is cut here, long before any budget.
pub(crate) const TEXT_BYTES_MAX: usize = 32 << 10;
/// Bytes at most of what tells items apart, of a source and of a title.
const LABEL_BYTES_MAX: usize = 512;
/// Items of one provider at most.
pub(crate) const ITEMS_MAX: usize = 100;

/// One thing that a provider found. Its place in the list is its rank: best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) source: String,
    pub(crate) title: Option<String>,
}

impl Item {
    /// Bounded, and without characters that a terminal would act upon or that only a model sees. `None` where no text is
    /// left.
    pub(crate) fn new(id: &str, text: &str, source: &str, title: Option<&str>) -> Option<Self> {
        let text = clean(cut(text.trim(), TEXT_BYTES_MAX));
        if text.trim().is_empty() {
            return None;
        }
        let title = title.map(label).filter(|title| !title.is_empty());
        Some(Self {
            id: label(id),
            text: text.into_owned(),
            source: label(source),
            title,
        })
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.id.len()
            + self.text.len()
            + self.source.len()
            + self.title.as_ref().map_or(0, String::len)
    }
}

/// One line, bounded.
fn label(text: &str) -> String {
    let one_line = clean(cut(text.trim(), LABEL_BYTES_MAX));
    one_line.replace(['\r', '\n', '\t'], " ")
}

/// The beginning of a text, at a character's boundary.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Without what steers a terminal, turns the direction of text around, or is read by a model and seen by nobody.
fn clean(text: &str) -> Cow<'_, str> {
    // Most texts are plain; there is nothing to look for in those.
    if text.bytes().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~')) {
        return text.into();
    }
    clean_text(text).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_bounded_and_clean() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        let item = Item::new("a\nb", &long, "s\u{7}", Some("  ")).unwrap();
        assert!(item.text.len() <= TEXT_BYTES_MAX && item.text.chars().all(|c| c == 'é'));
        assert_eq!((item.id.as_str(), item.source.as_str(), item.title), ("a b", "s", None));
        let item = Item::new("a", "one\r\n\ttwo\u{1b}[31m \u{202e}x", "s", Some("T")).unwrap();
        assert_eq!(item.text, "one\r\n\ttwo x");
        let hidden = "Tea\u{200b}.\u{e0043}\u{e0061}\u{e006c}\u{e006c}\u{feff} \u{645}\u{6cc}\u{200c}\u{62e}";
        let item = Item::new("a", hidden, "s", Some("T\u{2063}")).unwrap();
        assert_eq!(
            (item.text.as_str(), item.title.as_deref()),
            ("Tea. \u{645}\u{6cc}\u{200c}\u{62e}", Some("T")),
            "what spelling needs stays"
        );
        assert_eq!(Item::new("a", " \u{0}\n ", "s", None), None);
    }
}
