//! The one place that writes to standard output: tables for people, JSON and YAML for programs.
//!
//! A reader that goes away early (`| head`) is no error.

use clap::ValueEnum;
use forebay_domain::{Code, Failure};
use serde::Serialize;
use std::io::{self, ErrorKind, Write};

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// Rows under headings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(headings: [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: rows.into_iter().map(|row| row.to_vec()).collect(),
        }
    }

    /// One thing: its properties, one a line.
    pub fn of_one<'a>(properties: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let rows = properties
            .into_iter()
            .map(|(name, value)| vec![name.to_owned(), value])
            .collect();
        Self {
            headings: Vec::new(),
            rows,
        }
    }

    fn render(&self, headings: Headings) -> String {
        let heading: Vec<String> = match headings {
            Headings::Shown => self.headings.iter().map(|heading| heading.to_uppercase()).collect(),
            Headings::Left => Vec::new(),
        };
        let rows = self.rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect());
        let lines: Vec<Vec<String>> = [heading]
            .into_iter()
            .filter(|row| !row.is_empty())
            .chain(rows)
            .collect();
        let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            lines
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        lines.iter().fold(String::new(), |mut text, row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
            text
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Headings {
    Shown,
    Left,
}

/// Text from elsewhere, on one line and without anything that a terminal would act upon.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Text of a model or a tool as it is, but for what a terminal would act upon.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

/// Writes data to standard output in the form that was asked for.
pub struct Printer {
    format: Format,
    out: Box<dyn Write>,
    /// Items of a list that goes on: headings are written once.
    items: usize,
    closed: bool,
}

impl Printer {
    pub fn new(format: Format) -> Self {
        Self::to(format, Box::new(io::stdout()))
    }

    fn to(format: Format, out: Box<dyn Write>) -> Self {
        Self {
            format,
            out,
            items: 0,
            closed: false,
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// One document.
    pub fn print<T: Serialize>(&mut self, data: &T, table: impl FnOnce(&T) -> Table) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => table(data).render(Headings::Shown),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(data).map_err(unwritable)?),
            Format::Yaml => serde_saphyr::to_string(data).map_err(unwritable)?,
        };
        self.text(&text)
    }

    /// The next items of a list that has no end: JSON lines, or YAML documents.
    pub fn follow<T: Serialize>(&mut self, items: &[T], table: impl FnOnce(&[T]) -> Table) -> Result<(), Failure> {
        if items.is_empty() {
            return Ok(());
        }
        let headings = if self.items == 0 {
            Headings::Shown
        } else {
            Headings::Left
        };
        self.items += items.len();
        let text = match self.format {
            Format::Table => table(items).render(headings),
            Format::Json => documents(items, |item| {
                serde_json::to_string(item)
                    .map(|line| format!("{line}\n"))
                    .map_err(unwritable)
            })?,
            Format::Yaml => documents(items, |item| {
                serde_saphyr::to_string(item)
                    .map(|text| format!("---\n{text}"))
                    .map_err(unwritable)
            })?,
        };
        self.text(&text)
    }

    /// Text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(unwritable(error)),
        }
    }
}

fn documents<T>(items: &[T], each: impl Fn(&T) -> Result<String, Failure>) -> Result<String, Failure> {
    items.iter().map(each).collect()
}

fn unwritable(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(Code::InvalidRequest, "The data cannot be written to standard output.")
        .hint("Check the disk or program that standard output leads to.")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn table(data: &[Value]) -> Table {
        let rows = data
            .iter()
            .map(|item| [item["name"].as_str().unwrap().to_owned(), item["n"].to_string()]);
        Table::new(["name", "n"], rows)
    }

    fn printed(format: Format, print: impl FnOnce(&mut Printer)) -> String {
        let out = Shared::default();
        print(&mut Printer::to(format, Box::new(out.clone())));
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_document_in_each_form() {
        let data = vec![
            json!({"name": "long name", "n": 1}),
            json!({"name": "x\u{1b}[31m\ny", "n": 20}),
        ];
        let print = |printer: &mut Printer| printer.print(&data, |data| table(data)).unwrap();
        assert_eq!(
            printed(Format::Table, print),
            "NAME       N\nlong name  1\nx [31m y   20\n"
        );
        assert_eq!(
            serde_json::from_str::<Vec<Value>>(&printed(Format::Json, print)).unwrap(),
            data
        );
        assert_eq!(
            serde_saphyr::from_str::<Vec<Value>>(&printed(Format::Yaml, print)).unwrap(),
            data
        );
    }

    #[test]
    fn a_list_without_end_is_one_list() {
        let (first, second) = ([json!({"name": "a", "n": 1})], [json!({"name": "b", "n": 2})]);
        let follow = |printer: &mut Printer| {
            printer.follow(&first, table).unwrap();
            printer.follow(&[], table).unwrap();
            printer.follow(&second, table).unwrap();
        };
        assert_eq!(printed(Format::Table, follow), "NAME  N\na     1\nb  2\n");
        let lines = printed(Format::Json, follow);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, [first[0].clone(), second[0].clone()]);
        assert_eq!(printed(Format::Yaml, follow).matches("---\n").count(), 2);
    }

    #[test]
    fn a_reader_that_goes_away_is_no_error() {
        let mut printer = Printer::to(Format::Table, Box::new(Gone));
        printer.text("x").unwrap();
        assert!(printer.is_closed());
        printer.text("y").unwrap();
    }
}
