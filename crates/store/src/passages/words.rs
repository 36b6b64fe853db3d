//! Words, as passages are indexed by and questions are asked in: the same for both databases.
//!
//! A word is a run of letters and digits in lower case, without diacritics and in compatible form: `Café` is `cafe`. There
//! are no stems and no languages here. Writing without spaces is one word from mark to mark.

use unicode_normalization::{
    UnicodeNormalization,
    char::{canonical_combining_class, is_combining_mark},
};

/// Longest word, in bytes; the rest of it is not looked at. PostgreSQL takes 2 KiB, but nobody asks for that.
const WORD_BYTES_MAX: usize = 128;

/// The words of a text in their order.
pub(super) fn words(text: &str) -> Vec<String> {
    let folded: String = text.nfkd().filter(|c| !is_diacritic(*c)).nfc().collect();
    folded
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && !is_combining_mark(c))
        .filter(|word| word.contains(char::is_alphanumeric))
        .map(cut)
        .collect()
}

/// Marks that may be left out. The vowel signs of many scripts are marks too (class 0), and so are a few that make
/// another letter (7 to 9).
fn is_diacritic(c: char) -> bool {
    is_combining_mark(c) && canonical_combining_class(c) > 9
}

fn cut(word: &str) -> String {
    let end = word.floor_char_boundary(WORD_BYTES_MAX);
    word.get(..end).unwrap_or(word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(words(text).join(" "), expected, "{text}");
    }

    #[test]
    fn words_are_folded() {
        check("The Café's key-ring, No. 7b!", "the cafe s key ring no 7b");
        check("ÅNGSTRÖM ﬁle ＡＢＣ", "angstrom file abc");
        check("cafe\u{301}", "cafe");
        check("Ёлка Ἀθῆναι", "елка αθηναι");
        check("हिन्दी が", "हिन्दी が");
        check("\" OR NEAR( -a* ^x: {b} '\0'", "or near a x b");
        check("… — ! \u{301}", "");
    }

    #[test]
    fn a_word_has_an_end() {
        let long = "é".repeat(500);
        assert_eq!(words(&long), ["e".repeat(WORD_BYTES_MAX)]);
        assert_eq!(words(&"語".repeat(100)).first().map(String::len), Some(126));
    }
}
