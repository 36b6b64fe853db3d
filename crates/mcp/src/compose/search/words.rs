//! Words of names and texts, so that `createIssue`, `create_issue` and `Create issue` are the same two.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// What is longer is no word that anybody looks for; in characters.
const WORD_CHARS_MAX: usize = 64;

/// The words of a text: without case, accents and punctuation.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut letters = text.nfkd().filter(|c| !is_combining_mark(*c)).peekable();
    let mut before = None;
    while let Some(c) = letters.next() {
        if !c.is_alphanumeric() || is_ideograph(c) || begins(before, c, letters.peek().copied()) {
            take(&mut word, &mut found);
        }
        if is_ideograph(c) {
            // Such a text has no spaces: each character counts as a word.
            found.push(c.to_string());
        } else if c.is_alphanumeric() {
            fold(c, &mut word);
        }
        before = Some(c);
    }
    take(&mut word, &mut found);
    found
}

fn take(word: &mut String, found: &mut Vec<String>) {
    if !word.is_empty() {
        let whole = std::mem::take(word);
        found.push(whole.chars().take(WORD_CHARS_MAX).collect());
    }
}

/// Whether a word begins in the middle of a name: `listFiles`, `HTTPServer`.
fn begins(before: Option<char>, c: char, after: Option<char>) -> bool {
    let Some(before) = before else { return false };
    let follows = before.is_lowercase() || before.is_numeric();
    let ends_acronym = before.is_uppercase() && after.is_some_and(char::is_lowercase);
    c.is_uppercase() && (follows || ends_acronym)
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{323af}')
}

/// Lower case, and letters that Unicode does not take apart but people write without their strokes.
fn fold(c: char, word: &mut String) {
    for c in c.to_lowercase() {
        match c {
            'ß' => word.push_str("ss"),
            'ø' => word.push('o'),
            'ł' => word.push('l'),
            'đ' => word.push('d'),
            'ı' => word.push('i'),
            'æ' => word.push_str("ae"),
            'œ' => word.push_str("oe"),
            // A capital I with a dot comes apart only here.
            c if is_combining_mark(c) => {}
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_names_and_texts() {
        for (text, expected) in [
            ("create_issue", "create issue"),
            ("createIssue", "create issue"),
            ("GitHub__list-PRs", "git hub list p rs"),
            ("HTTPServer2Go", "http server2 go"),
            ("Café in Łódź, Straße", "cafe in lodz strasse"),
            ("İstanbul ﬁle", "istanbul file"),
            ("天気 info", "天 気 info"),
            ("  --- ", ""),
            ("v1.2", "v1 2"),
        ] {
            assert_eq!(words(text).join(" "), expected, "{text}");
        }
    }

    #[test]
    fn a_word_has_an_end() {
        assert_eq!(words(&"x".repeat(1000))[0].len(), 64);
    }
}
