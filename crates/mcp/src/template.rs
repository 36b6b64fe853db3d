//! Whether a URI could have come from a URI template (RFC 6570). It decides which server is asked, nothing more: the
//! server itself says whether there is such a resource.

/// The longest URI that is held against templates, in bytes.
const URI_BYTES_MAX: usize = 8192;

enum Piece<'a> {
    Literal(&'a str),
    /// An expression, by the characters that it may stand for.
    Open(Reach),
}

#[derive(Clone, Copy)]
enum Reach {
    /// `{name}`: at least one character, all within one segment.
    Segment,
    /// `{+path}`, `{#part}`, `{/list*}`, `{;x}`, `{.ext}`: anything.
    Anything,
    /// `{?query}`, `{&more}`: nothing, or a query.
    Query,
}

/// Whether the template can be expanded to this URI.
pub(crate) fn matches(template: &str, uri: &str) -> bool {
    if uri.len() > URI_BYTES_MAX {
        return false;
    }
    let Some(pieces) = parse(template) else { return false };
    // The places in the URI that some reading of the pieces so far leads to. Each piece costs one pass, so no template
    // takes longer than its length times that of the URI.
    let mut places = vec![false; uri.len() + 1];
    places[0] = true;
    for piece in pieces {
        places = advance(&piece, uri, &places);
    }
    places[uri.len()]
}

fn advance(piece: &Piece<'_>, uri: &str, from: &[bool]) -> Vec<bool> {
    let mut to = vec![false; from.len()];
    match *piece {
        Piece::Literal(text) => {
            for (place, _) in from.iter().enumerate().filter(|(_, reached)| **reached) {
                if uri.as_bytes()[place..].starts_with(text.as_bytes()) {
                    to[place + text.len()] = true;
                }
            }
        }
        Piece::Open(reach) => {
            let mut open = false;
            for (place, reached) in from.iter().enumerate() {
                let before = place.checked_sub(1).map(|last| uri.as_bytes()[last]);
                open = open && before.is_some_and(|b| goes_on(reach, b));
                to[place] = match reach {
                    Reach::Segment => open,
                    Reach::Anything | Reach::Query => open || *reached,
                };
                let begins = match reach {
                    Reach::Segment | Reach::Anything => true,
                    Reach::Query => matches!(uri.as_bytes().get(place), Some(b'?' | b'&')),
                };
                open = open || (*reached && begins);
            }
        }
    }
    to
}

fn goes_on(reach: Reach, byte: u8) -> bool {
    match reach {
        Reach::Segment => !matches!(byte, b'/' | b'?' | b'#'),
        Reach::Anything => true,
        Reach::Query => byte != b'#',
    }
}

/// Nothing where a brace is not closed.
fn parse(template: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let end = start + rest[start..].find('}')?;
        pieces.push(Piece::Literal(&rest[..start]));
        pieces.push(Piece::Open(match rest.as_bytes()[start + 1] {
            b'?' | b'&' => Reach::Query,
            b'+' | b'#' | b'/' | b';' | b'.' => Reach::Anything,
            _ => Reach::Segment,
        }));
        rest = &rest[end + 1..];
    }
    pieces.push(Piece::Literal(rest));
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_fits_what_it_could_expand_to() {
        for (template, uri, expected) in [
            ("test://template/{id}/data", "test://template/123/data", true),
            ("test://template/{id}/data", "test://template//data", false),
            ("test://template/{id}/data", "test://template/1/2/data", false),
            ("file:///{+path}", "file:///srv/a/b.txt", true),
            ("file:///{+path}", "http:///srv", false),
            ("search://{q}{?page,size}", "search://cats?page=2", true),
            ("search://{q}{?page,size}", "search://cats", true),
            ("search://{q}{?page,size}", "search://cats/dogs", false),
            ("a://{x}-{y}", "a://1-2-3", true),
            ("a://plain", "a://plain", true),
            ("a://plain", "a://plainer", false),
            ("a://{broken", "a://broken", false),
            ("a://{}", "a://x", true),
        ] {
            assert_eq!(matches(template, uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn a_template_made_to_be_slow_is_not() {
        let template = "{+a}".repeat(200);
        let uri = "x".repeat(URI_BYTES_MAX);
        assert!(matches(&template, &uri));
        assert!(!matches(&format!("{template}!"), &uri));
    }
}
