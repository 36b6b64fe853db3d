//! `search_tools`: finds tools by words, among all that the caller may call, whether or not lists show them.
//!
//! The words of all tools are gathered once for each state of the catalogue, away from the threads that serve requests.

mod table;
mod words;

use super::report::{Verdict, quoted, whole};
use crate::{
    call::Outcome,
    catalogue::Catalogue,
    index::{Index, Listed, Scope},
    raw::Members,
    reading::Usable,
    rpc::{array, object},
    source::Tool,
    tools::typed,
};
use forebay_domain::{Code, Failure, Principal};
use serde::Deserialize;
use serde_json::Value;
use std::{
    fmt::Display,
    sync::{Arc, Mutex, OnceLock, Weak},
};
use table::{Found, Table};

/// How many tools are returned where the caller does not say.
pub(super) const LIMIT: usize = 10;
pub(super) const LIMIT_MAX: usize = 50;

pub(super) const QUERY_CHARS_MAX: usize = 500;

/// All definitions of one answer together; what comes behind is told without its definition.
const DEFINITIONS_BYTES_MAX: usize = 1 << 20;

/// What a definition is shown with.
const SHOWN: [&str; 5] = ["title", "description", "inputSchema", "outputSchema", "annotations"];

#[derive(Default)]
pub(super) struct Search {
    /// Held only to look which table there is, never while one is made.
    cached: Mutex<Cached>,
}

/// The words of one state of the catalogue, which is known by where it lies: as long as this points there, nothing else
/// can come to lie there.
#[derive(Default)]
struct Cached {
    of: Weak<Index>,
    table: Arc<OnceLock<Table>>,
}

#[derive(Deserialize)]
struct Wanted {
    query: String,
    limit: Option<usize>,
    server: Option<String>,
}

impl Search {
    pub(super) async fn run(
        &self,
        catalogue: &Catalogue,
        principal: &Principal,
        arguments: Value,
    ) -> Result<Outcome, Failure> {
        let wanted: Wanted = typed(arguments)?;
        let index = catalogue.index();
        let table = self.table(&index).await?;
        let table = table.get().ok_or_else(|| unmade(&"it is empty"))?;
        let usable = Usable::by(principal);
        let mut found = table.find(&wanted.query, |tool| {
            let here = wanted
                .server
                .as_deref()
                .is_none_or(|server| tool.source.name() == server);
            here && usable.tool(tool)
        });
        let total = found.len();
        found.truncate(wanted.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX));
        Ok(report(&found, total))
    }

    /// The table for this state of the catalogue, made now where there is none yet.
    async fn table(&self, index: &Arc<Index>) -> Result<Arc<OnceLock<Table>>, Failure> {
        let table = self.cached_for(index);
        if table.get().is_none() {
            let (index, table) = (index.clone(), table.clone());
            // Whoever comes meanwhile waits in here for the same table, and makes none of its own.
            tokio::task::spawn_blocking(move || {
                let tools = index
                    .view(&Scope::Whole)
                    .into_iter()
                    .flat_map(|view| view.tools.values());
                let _made = table.get_or_init(|| Table::of(tools));
            })
            .await
            .map_err(|fault| unmade(&fault))?;
        }
        Ok(table)
    }

    fn cached_for(&self, index: &Arc<Index>) -> Arc<OnceLock<Table>> {
        let mut cached = self.cached.lock().expect("nobody panics while holding the cache");
        if !std::ptr::eq(cached.of.as_ptr(), Arc::as_ptr(index)) {
            *cached = Cached {
                of: Arc::downgrade(index),
                table: Arc::default(),
            };
        }
        cached.table.clone()
    }
}

fn unmade(why: &dyn Display) -> Failure {
    Failure::new(Code::InternalError, "The words of the tools could not be gathered.").caused_by(why.to_string())
}

fn report(found: &[Found], total: usize) -> Outcome {
    let mut left = DEFINITIONS_BYTES_MAX;
    let tools: Vec<String> = found
        .iter()
        .map(|found| entry(&found.tool, found.score, &mut left))
        .collect();
    let tools = array(tools.iter().map(String::as_str));
    whole(&[("tools", &tools), ("total", &total.to_string())], Verdict::Fine)
}

fn entry(tool: &Listed<Tool>, score: f64, left: &mut usize) -> String {
    let definition = Members::of(&tool.raw).unwrap_or_default();
    let (name, server, score) = (quoted(&tool.exposed), quoted(tool.source.name()), rounded(score));
    let mut members = vec![("name", name.as_str()), ("server", &server)];
    let shown = SHOWN.iter().filter_map(|part| Some((*part, definition.get(part)?)));
    match left.checked_sub(tool.raw.get().len()) {
        Some(rest) => {
            *left = rest;
            members.extend(shown);
        }
        None => members.push(("truncated", "true")),
    }
    members.push(("score", &score));
    object(&members)
}

/// Thousandths are enough to compare by.
fn rounded(score: f64) -> String {
    format!("{score:.3}")
}
