//! What a search engine writes, as plain text: without markup, and without what people cannot see.

use forebay_domain::quarantine::clean_text;

/// Text without markup and without what people cannot see, on one line.
pub(super) fn plain(html: &str, chars_max: usize) -> String {
    let text = entities(&without_tags(html));
    let (clean, _) = clean_text(&text);
    let words: Vec<&str> = clean
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ").chars().take(chars_max).collect()
}

/// Everything between `<` and `>` that begins like a tag. `3 < 4` stays.
fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let is_tag = tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'));
        rest = match tag.find('>') {
            Some(end) if is_tag => &tag[end + 1..],
            // A tag that never ends takes the rest with it.
            None if is_tag => "",
            _ => {
                text.push('<');
                &tag[1..]
            }
        };
    }
    text.push_str(rest);
    text
}

/// The entities that search engines write; `&amp;` last, so that nothing is read twice.
fn entities(text: &str) -> String {
    const NAMED: [(&str, &str); 7] = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ];
    if !text.contains('&') {
        return text.to_owned();
    }
    NAMED
        .iter()
        .fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_becomes_plain_text() {
        for (html, text) in [
            ("The <strong>best</strong> of<br/>all", "The best ofall"),
            ("3 < 4 &amp; 5 > 4", "3 < 4 & 5 > 4"),
            ("<script>x</script>y<!-- z -->", "xy"),
            ("cut <img src=\"", "cut"),
            ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
            ("a\u{200b}b\u{202e}c\u{7}d\r\n e\u{e0041}", "abcd e"),
            ("a<", "a<"),
            ("", ""),
        ] {
            assert_eq!(plain(html, 100), text, "{html:?}");
        }
        assert_eq!(plain(&"é".repeat(50), 10).chars().count(), 10);
    }
}
