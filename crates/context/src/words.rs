//! The words of a question, as keyword search wants them.

/// Words that are looked for at most.
pub(crate) const WORDS_MAX: usize = 24;
const WORD_BYTES_MAX: usize = 64;

/// Words that stand in every question and in every text. They are left out as long as anything else remains; a list for
/// English alone, since without one nothing worse happens than a coarser ranking.
const COMMON: &[&str] = &[
    "a", "about", "an", "and", "are", "as", "at", "be", "by", "can", "could", "did", "do", "does", "for", "from",
    "has", "have", "how", "i", "in", "is", "it", "its", "me", "my", "of", "on", "or", "our", "please", "should",
    "tell", "that", "the", "their", "there", "this", "to", "was", "we", "were", "what", "when", "where", "which",
    "who", "why", "will", "with", "would", "you", "your",
];

/// The words, in lower case, each once, in their order.
pub(crate) fn words(query: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in query.split(|c: char| !c.is_alphanumeric()) {
        let word = word.to_lowercase();
        if !word.is_empty() && word.len() <= WORD_BYTES_MAX && !all.contains(&word) {
            all.push(word);
        }
        if all.len() > 4 * WORDS_MAX {
            break;
        }
    }
    let telling: Vec<String> = all.iter().filter(|word| !is_common(word)).cloned().collect();
    let mut chosen = if telling.is_empty() { all } else { telling };
    chosen.truncate(WORDS_MAX);
    chosen
}

/// The texts that have some of the words, best first, by their places: a word counts the more, the fewer texts have it.
pub(crate) fn rank(texts: &[&str], words: &[String]) -> Vec<usize> {
    let texts: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
    let mut scores = vec![0.0_f64; texts.len()];
    for word in words {
        let having: Vec<usize> = (0..texts.len())
            .filter(|place| texts[*place].contains(word.as_str()))
            .collect();
        let (all, some) = (small(texts.len()), small(having.len()));
        for place in having {
            scores[place] += (1.0 + all / some).ln();
        }
    }
    let mut places: Vec<usize> = (0..texts.len()).filter(|place| scores[*place] > 0.0).collect();
    places.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    places
}

fn small(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_question() {
        let check = |query: &str, expected: &str| assert_eq!(words(query).join(" "), expected, "{query}");
        check("What is the capital of Zubrowka?", "capital zubrowka");
        check(
            "Wie heißt die Hauptstadt von Österreich?",
            "wie heißt die hauptstadt von österreich",
        );
        check("error E4711, error!", "error e4711");
        check("what is it?", "what is it");
        check("a' OR 1=1; DROP TABLE x --", "1 drop table x");
        check(" ?! ", "");
    }

    #[test]
    fn rare_words_count_most() {
        let texts = ["the gate is red", "the gate is blue", "Zubrowka is red", "nothing"];
        assert_eq!(rank(&texts, &words("red gate of Zubrowka")), [2, 0, 1]);
        assert_eq!(rank(&texts, &words("zubrowka")), [2]);
        assert_eq!(rank(&texts, &[]), Vec::<usize>::new());
    }

    #[test]
    fn they_are_bounded() {
        let many: Vec<String> = (0..10_000).map(|n| format!("w{n}")).collect();
        assert_eq!(words(&many.join(" ")).len(), WORDS_MAX);
        assert_eq!(words(&"x".repeat(100_000)), Vec::<String>::new());
    }

    #[test]
    fn the_list_can_be_searched() {
        assert!(COMMON.is_sorted());
    }
}
