//! Which characters deceive: those that nobody sees, those that change the order in which people read, and those that
//! steer a terminal.
//!
//! A model reads every character and its user only the visible ones, so text that only the model gets is how a tool is
//! poisoned. The lists follow Unicode's properties `Bidi_Control` and `Default_Ignorable_Code_Point`, with private use
//! and noncharacters added, because nobody can say what those show. This module names characters and refuses nothing.
//!
//! Some invisible characters are part of how people write, and stay where they do their work and nowhere else:
//!
//! * a zero-width joiner between two emoji (a family is several emoji that are joined), and either joiner between two
//!   letters of a script in which it changes the word's form (Persian, Hindi and others). One at a time: a run of them
//!   is a message and no spelling;
//! * one variation selector 15 or 16 after an emoji, which says whether it is drawn as text or in colour. All other
//!   selectors go: there are 256 of them, so a row of them behind one emoji holds any text at all;
//! * a carriage return before a line feed, since that is how some systems end a line. Alone it lets a terminal write
//!   over what was there.
//!
//! The tag characters that spell the flags of England, Scotland and Wales go with all other tags: they can spell
//! anything else as well.

/// Why a character is unwanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// Nobody sees it.
    Hidden,
    /// It turns the order in which text is shown.
    Bidi,
    /// It steers a terminal.
    Control,
}

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';
const TEXT_SELECTOR: char = '\u{fe0e}';
const EMOJI_SELECTOR: char = '\u{fe0f}';

/// What is wrong with a character, whatever stands beside it.
pub(super) fn unwanted(c: char) -> Option<Unwanted> {
    match c {
        '\n' | '\t' | ' '..='~' => None,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => Some(Unwanted::Control),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some(Unwanted::Bidi),
        c if is_invisible(c) || is_private(c) => Some(Unwanted::Hidden),
        _ => None,
    }
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}'                    // soft hyphen
        | '\u{34f}'                 // combining grapheme joiner
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // fillers of Hangul
        | '\u{17b4}' | '\u{17b5}'   // inherent vowels of Khmer
        | '\u{180b}'..='\u{180f}'   // selectors and the vowel separator of Mongolian
        | '\u{200b}'..='\u{200d}'   // zero-width space and joiners
        | '\u{2060}'..='\u{2065}'   // word joiner and invisible operators
        | '\u{206a}'..='\u{206f}'   // deprecated format characters
        | '\u{fe00}'..='\u{fe0f}'   // variation selectors
        | '\u{feff}'                // zero-width no-break space
        | '\u{fff0}'..='\u{fffb}'   // unassigned ignorables and interlinear annotation
        | '\u{1bca0}'..='\u{1bca3}' // format of shorthand
        | '\u{1d173}'..='\u{1d17a}' // format of music
        | '\u{e0000}'..='\u{e0fff}' // tags and the supplement of variation selectors
    )
}

fn is_private(c: char) -> bool {
    let noncharacter = u32::from(c) & 0xfffe == 0xfffe;
    noncharacter || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..='\u{10ffff}')
}

/// Whether an unwanted character does its proper work between `before`, which was kept, and `after`.
pub(super) fn belongs(before: Option<char>, c: char, after: Option<char>) -> bool {
    let Some(before) = before else { return false };
    match c {
        '\r' => after == Some('\n'),
        TEXT_SELECTOR | EMOJI_SELECTOR => is_emoji(before) || matches!(before, '0'..='9' | '#' | '*'),
        ZERO_WIDTH_JOINER if is_emoji(before) || before == EMOJI_SELECTOR => after.is_some_and(is_emoji),
        ZERO_WIDTH_JOINER | ZERO_WIDTH_NON_JOINER => is_joining(before) && after.is_some_and(is_joining),
        _ => false,
    }
}

/// The blocks in which emoji stand. Too wide does no harm: it is about what may stand beside a visible character.
fn is_emoji(c: char) -> bool {
    matches!(c,
        '©' | '®' | '‼' | '⁉' | '™' | 'ℹ' | 'Ⓜ' | '〰' | '〽' | '㊗' | '㊙' | '\u{20e3}'
        | '\u{2190}'..='\u{21ff}'
        | '\u{2300}'..='\u{23ff}'
        | '\u{25a0}'..='\u{27bf}'
        | '\u{2934}' | '\u{2935}'
        | '\u{2b00}'..='\u{2bff}'
        | '\u{1f000}'..='\u{1faff}'
    )
}

/// Letters and marks of scripts in which a joiner changes how a word is written: Arabic, Syriac, N'Ko, the scripts of
/// India, Sinhala, Myanmar, Khmer and Mongolian.
fn is_joining(c: char) -> bool {
    let block = matches!(c,
        '\u{620}'..='\u{8ff}'
        | '\u{900}'..='\u{dff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{18af}'
        | '\u{fb50}'..='\u{fdcf}'
        | '\u{fe70}'..='\u{fefc}'
    );
    block && unwanted(c).is_none()
}

/// How many bytes of `text`, which begins with an escape or its one-character form, a terminal would swallow.
pub(super) fn escape_bytes(text: &str) -> Option<usize> {
    let mut characters = text.char_indices();
    let (_, first) = characters.next()?;
    let introducer = match first {
        '\u{1b}' => characters.next().map_or('\0', |(_, c)| c),
        '\u{90}' | '\u{98}' | '\u{9b}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
            char::from_u32(u32::from(first) - 0x40).unwrap_or('\0')
        }
        _ => return None,
    };
    let rest = characters.as_str();
    let head = text.len() - rest.len();
    let tail = match introducer {
        '[' => sequence_bytes(rest),
        ']' | 'P' | 'X' | '^' | '_' => string_bytes(rest),
        ' '..='/' => intermediate_bytes(rest),
        '0'..='~' => Some(0),
        // A lone escape: only the character itself goes.
        _ => return Some(first.len_utf8()),
    };
    // What does not end as it should is no sequence. Its introducer goes, and its text stays where people see it.
    Some(tail.map_or(first.len_utf8(), |tail| head + tail))
}

/// Parameters, then one final character.
fn sequence_bytes(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !matches!(c, ' '..='?'))?;
    matches!(text[end..].chars().next()?, '@'..='~').then_some(end + 1)
}

fn intermediate_bytes(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !matches!(c, ' '..='/'))?;
    matches!(text[end..].chars().next()?, '0'..='~').then_some(end + 1)
}

/// Up to the string's terminator: a bell, or `ESC \`, or its one-character form.
fn string_bytes(text: &str) -> Option<usize> {
    let ends = ["\u{7}", "\u{1b}\\", "\u{9c}"];
    let found = ends.iter().filter_map(|end| text.find(end).map(|at| at + end.len()));
    found.min()
}

/// The text with every character that may deceive written as its number, as `\u{200b}`. Also those that belong where
/// they stand: a difference is shown whole.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if unwanted(c).is_some() {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}
