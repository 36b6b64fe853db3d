//! A document becomes passages: by headings, then by paragraphs, then, where a paragraph is too long, by sentences.
//! Pure.
//!
//! A passage never crosses a heading. Neighbours under one heading overlap a little, so that what stands across a border
//! is found from both sides.

use crate::join::shorten;

/// Passages of one document at most; what comes after is left out.
pub(crate) const PASSAGES_MAX: usize = 4000;
const HEADING_BYTES_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    pub(crate) bytes_max: usize,
    /// Repeated at the beginning of the next passage, at most.
    pub(crate) overlap_bytes: usize,
}

impl Rules {
    pub(crate) fn of_size(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            overlap_bytes: bytes_max / 8,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) text: String,
    /// The headings above it, outermost first: `Guide > Install`.
    pub(crate) heading: Option<String>,
    /// The line of the document at which it begins, counted from 1; that of its first new line, where it repeats some.
    pub(crate) start_line: u32,
}

pub(crate) fn chunk(document: &str, rules: Rules) -> Vec<Chunk> {
    let mut cutter = Cutter {
        rules,
        done: Vec::new(),
        headings: Vec::new(),
        text: String::new(),
        start_line: 1,
        repeated: 0,
    };
    let mut paragraph = String::new();
    let mut paragraph_line = 1;
    let mut fence: Option<&str> = None;
    for (number, line) in (1..).zip(document.lines()) {
        let bare = line.trim();
        let mark = ["```", "~~~"].into_iter().find(|mark| bare.starts_with(mark));
        match (fence, mark) {
            (None, Some(_)) => fence = mark,
            (Some(open), Some(mark)) if open == mark => fence = None,
            _ => {}
        }
        let heading = (fence.is_none()).then(|| heading(line)).flatten();
        if (bare.is_empty() && fence.is_none()) || heading.is_some() {
            cutter.add(&paragraph, paragraph_line);
            paragraph.clear();
        }
        if let Some((level, title)) = heading {
            cutter.head(level, title);
            cutter.start_line = number;
        }
        if bare.is_empty() && paragraph.is_empty() {
            continue;
        }
        if paragraph.is_empty() {
            paragraph_line = number;
        } else {
            paragraph.push('\n');
        }
        paragraph.push_str(line.trim_end());
    }
    cutter.add(&paragraph, paragraph_line);
    cutter.flush();
    cutter.done
}

/// The level and the title of an ATX heading of Markdown.
fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    let rest = line.get(level..)?;
    let title = rest.trim().trim_end_matches('#').trim_end();
    ((1..=6).contains(&level) && rest.starts_with([' ', '\t']) && !title.is_empty()).then_some((level, title))
}

struct Cutter {
    rules: Rules,
    done: Vec<Chunk>,
    headings: Vec<(usize, String)>,
    text: String,
    start_line: u32,
    /// How much of the text stands in the passage before it too.
    repeated: usize,
}

impl Cutter {
    fn head(&mut self, level: usize, title: &str) {
        self.flush();
        self.text.clear();
        self.repeated = 0;
        self.headings.retain(|(above, _)| *above < level);
        self.headings
            .push((level, shorten(title, HEADING_BYTES_MAX).to_owned()));
    }

    fn add(&mut self, paragraph: &str, line: u32) {
        let mut rest = paragraph;
        let mut line = line;
        while !rest.trim().is_empty() {
            if self.text.len() == self.repeated {
                self.start_line = line;
            }
            let glue = if self.text.is_empty() { "" } else { "\n\n" };
            let room = self.rules.bytes_max.saturating_sub(self.text.len() + glue.len());
            if rest.len() <= room {
                self.text.push_str(glue);
                self.text.push_str(rest);
                return;
            }
            if self.text.len() > self.repeated {
                self.flush();
                continue;
            }
            if self.repeated > 0 && rest.len() <= self.rules.bytes_max {
                // Better a paragraph that is whole than one that overlaps.
                self.text.clear();
                self.repeated = 0;
                continue;
            }
            // A paragraph that fits into no passage: as much of it as there is room for.
            let mut part = shorten(rest, room.max(1));
            if part.is_empty() {
                part = &rest[..rest.ceil_char_boundary(1)];
            }
            line += u32::try_from(part.matches('\n').count()).unwrap_or(u32::MAX);
            self.text.push_str(glue);
            self.text.push_str(part);
            rest = rest[part.len()..].trim_start();
            self.flush();
        }
    }

    /// Ends the passage and begins the next with its last words.
    fn flush(&mut self) {
        if self.text.len() <= self.repeated {
            return;
        }
        let heading = self
            .headings
            .iter()
            .map(|(_, title)| title.as_str())
            .collect::<Vec<_>>()
            .join(" > ");
        if self.done.len() < PASSAGES_MAX {
            self.done.push(Chunk {
                text: self.text.clone(),
                heading: Some(heading).filter(|heading| !heading.is_empty()),
                start_line: self.start_line,
            });
        }
        let tail = tail(&self.text, self.rules.overlap_bytes).to_owned();
        self.repeated = tail.len();
        self.text = tail;
    }
}

/// The last words of a text, from a word's beginning.
fn tail(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        // All of it would make the next passage contain this one.
        return "";
    }
    let window = &text[text.ceil_char_boundary(text.len() - bytes_max)..];
    window
        .find(char::is_whitespace)
        .map_or("", |at| window[at..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(document: &str, bytes_max: usize, overlap_bytes: usize) -> Vec<String> {
        let rules = Rules {
            bytes_max,
            overlap_bytes,
        };
        let one = |chunk: Chunk| {
            format!(
                "{} {} | {}",
                chunk.start_line,
                chunk.heading.unwrap_or_default(),
                chunk.text.replace('\n', "/")
            )
        };
        chunk(document, rules).into_iter().map(one).collect()
    }

    #[test]
    fn headings_part_a_document() {
        let document = "Intro.\n\n# Guide\nText one.\n\n## Install ##\n\nRun it.\n```sh\n# no heading\n\nmake\n```\n# End\nBye.\n#hash";
        let expected = [
            "1  | Intro.",
            "3 Guide | # Guide/Text one.",
            "6 Guide > Install | ## Install ##//Run it./```sh/# no heading//make/```",
            "14 End | # End/Bye./#hash",
        ];
        assert_eq!(shown(document, 200, 0), expected);
    }

    #[test]
    fn paragraphs_are_packed_and_long_ones_are_cut_at_sentences() {
        let document = "One one.\n\nTwo two.\n\nThree three.";
        assert_eq!(shown(document, 20, 0), ["1  | One one.//Two two.", "5  | Three three."]);
        let document = "First sentence here. Second sentence here. Third one.";
        let expected = [
            "1  | First sentence here.",
            "1  | Second sentence here.",
            "1  | Third one.",
        ];
        assert_eq!(shown(document, 30, 0), expected);
    }

    #[test]
    fn neighbours_overlap_and_sections_do_not() {
        let document = "alpha beta gamma\n\ndelta epsilon zeta\n\n# Next\neta theta";
        let expected = [
            "1  | alpha beta gamma",
            "3  | gamma//delta epsilon zeta",
            "5 Next | # Next/eta theta",
        ];
        assert_eq!(shown(document, 26, 8), expected);
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(shown("", 100, 10), Vec::<String>::new());
        assert_eq!(shown("\n \n\t\n", 100, 10), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn every_word_is_in_some_passage_and_none_is_too_long(
            document in "([a-zäß]{1,12}(\\.? |\n|\n\n|\n# )){0,80}", bytes_max in 60_usize..200,
        ) {
            let rules = Rules::of_size(bytes_max);
            let chunks = chunk(&document, rules);
            for one in &chunks {
                prop_assert!(one.text.len() <= bytes_max, "{:?}", one);
            }
            let all: Vec<&str> = chunks.iter().map(|one| one.text.as_str()).collect();
            let all = all.join("\n");
            for word in document.split_whitespace() {
                prop_assert!(all.contains(word), "{word} is lost");
            }
        }
    }
}
