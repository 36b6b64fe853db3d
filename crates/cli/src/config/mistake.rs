//! What is wrong with a configuration: all of it at once, each with its place and what to do.
//!
//! A mistake never repeats the text of a value, which may be a secret in the wrong place.

use super::tree::Origin;
use forebay_domain::{Code, Failure};
use std::{fmt, path::PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub origin: Option<Origin>,
    /// The key, dotted; empty for the file as a whole.
    pub path: String,
    pub problem: String,
    pub hint: Option<String>,
}

impl Mistake {
    pub(super) fn of_file(problem: impl Into<String>) -> Self {
        Self {
            origin: None,
            path: String::new(),
            problem: problem.into(),
            hint: None,
        }
    }

    pub(super) fn at(origin: Origin, problem: impl Into<String>) -> Self {
        Self {
            origin: Some(origin),
            ..Self::of_file(problem)
        }
    }

    fn line(&self) -> u64 {
        match self.origin {
            Some(Origin::File { line, .. }) => line,
            Some(Origin::Env(_) | Origin::Flag(_)) => u64::MAX,
            None => 0,
        }
    }
}

/// All that is wrong with one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    pub file: Option<PathBuf>,
    pub list: Vec<Mistake>,
}

impl Mistakes {
    /// In the order of the file, each once.
    pub(super) fn new(file: Option<PathBuf>, mut list: Vec<Mistake>) -> Self {
        list.sort_by(|a, b| (a.line(), &a.path).cmp(&(b.line(), &b.path)));
        list.dedup();
        Self { file, list }
    }

    pub fn place(&self, mistake: &Mistake) -> String {
        let file = || {
            self.file
                .as_ref()
                .map_or_else(|| "configuration".to_owned(), |file| file.display().to_string())
        };
        match &mistake.origin {
            Some(Origin::File { line, column }) => format!("{}:{line}:{column}", file()),
            Some(Origin::Env(name)) => name.clone(),
            Some(Origin::Flag(flag)) => (*flag).to_owned(),
            None => file(),
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            1 => f.write_str("The configuration has a mistake:")?,
            count => write!(f, "The configuration has {count} mistakes:")?,
        }
        for mistake in &self.list {
            write!(f, "\n  {}: ", self.place(mistake))?;
            if !mistake.path.is_empty() {
                write!(f, "`{}`: ", mistake.path)?;
            }
            f.write_str(&mistake.problem)?;
            if let Some(hint) = &mistake.hint {
                write!(f, "\n    {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::new(Code::InvalidConfig, mistakes.to_string()).hint(
            "`forebay config schema` has every key; `forebay config validate` checks a file without starting anything.",
        )
    }
}
