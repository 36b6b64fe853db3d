//! `postgresql`: somebody's PostgreSQL database, read only.
//!
//! By words: one SQL query that the configuration names, or full text search over the text columns of tables. By meaning:
//! one SQL query over vectors, or the vector columns of the tables, for a database with pgvector. What is asked is a
//! parameter of a statement, never part of one. Every statement runs in a read-only transaction with a time limit; what
//! the database's user may not read stays unread, so give it a user of its own.

mod settings;
mod tables;

pub(crate) use settings::Settings;

use super::Ground;
use crate::{
    embed::Embedder,
    fuse::fuse,
    item::Item,
    pick::Picker,
    provider::{Ability, Asking, Connections, Finding, Provider, look},
    secret::Origin,
    words::words,
};
use forebay_domain::{Code, Failure, context::Strategy, port::BoxFuture};
use forebay_runtime::{Clock, http::AllowList};
use forebay_store::{
    StoreError,
    foreign::{Foreign, ForeignRow, Param, Search, Table},
};
use serde_json::{Map, Value};
use settings::Keyword;
use std::{
    fmt::Write,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// How long it is believed which tables there are.
const TABLES_GOOD_FOR: Duration = Duration::from_mins(5);
/// Tables that are searched at most, where none are named.
const TABLES_MAX: u32 = 20;
/// Rows of one table that are ranked, beside one another.
const CANDIDATES: u32 = 50;
/// Columns that tell how good a row is, and nothing about it.
const SCORES: &[&str] = &["score", "rank", "similarity", "distance"];
/// The tables and views of the schemas in which the user looks, as far as it may read them.
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name \
     FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
     AND has_any_column_privilege(c.oid, 'SELECT') ORDER BY c.relname";

pub(crate) struct Postgresql {
    settings: Settings,
    embedder: Option<Embedder>,
    allow: AllowList,
    clock: Clock,
    database: Mutex<Option<Foreign>>,
    tables: Mutex<Option<(Duration, Arc<Vec<Table>>)>>,
}

impl Postgresql {
    pub(crate) fn new(settings: Settings, ground: &Ground) -> Self {
        Self {
            embedder: ground.embedder(settings.semantic.as_ref().map(|semantic| &semantic.model)),
            allow: ground.allow.clone(),
            clock: ground.clock.clone(),
            settings,
            database: Mutex::default(),
            tables: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Foreign>> {
        self.database.lock().expect("nobody panics while holding a database")
    }

    /// The database, at an address that may be reached: one that somebody else chose is looked up once and checked, and
    /// connected to by what was checked.
    async fn database(&self) -> Result<Foreign, Failure> {
        let known = self.known().clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let mut target = self.settings.target.clone();
        if self.settings.origin == Origin::Api {
            target.address = Some(self.checked(&target.host, target.port).await?);
        }
        let database = Foreign::new(&target)?;
        Ok(self.known().get_or_insert(database).clone())
    }

    async fn checked(&self, host: &str, port: u16) -> Result<IpAddr, Failure> {
        let unreachable = || Failure::new(Code::UpstreamFailed, format!("{host} cannot be reached."));
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<_> = found.map_err(|fault| unreachable().caused_by(fault))?.collect();
        for address in &found {
            self.allow.check(host, address.ip()).map_err(|class| {
                let message = format!("{host} leads to {class} address, which is not allowed.");
                Failure::new(Code::AddressNotAllowed, message)
                    .hint("An administrator can list it under `mcp.allow_addresses`.")
            })?;
        }
        // One of them is tried, and many a server listens on IPv4 alone.
        let one = found.iter().find(|address| address.is_ipv4()).or(found.first());
        Ok(one.ok_or_else(unreachable)?.ip())
    }

    fn fault(&self, fault: StoreError) -> Failure {
        if self.settings.origin == Origin::Api {
            // The name may lead elsewhere by now; the next question looks it up again.
            *self.known() = None;
        }
        fault.into()
    }

    async fn keyword(&self, asking: Asking<'_>) -> Result<Vec<Item>, Failure> {
        match &self.settings.keyword {
            None => Ok(Vec::new()),
            Some(Keyword::Query(sql)) => self.query(sql, asking.query, asking.limit).await,
            Some(Keyword::Tables { language, .. }) => self.by_words(language.as_deref(), asking).await,
        }
    }

    async fn semantic(&self, asking: Asking<'_>) -> Result<Vec<Item>, Failure> {
        let (Some(semantic), Some(embedder)) = (&self.settings.semantic, &self.embedder) else {
            return Ok(Vec::new());
        };
        let vector = embedder.one(asking.principal, asking.via, asking.query).await?;
        match &semantic.query {
            Some(sql) => self.query(sql, &literal(&vector), asking.limit).await,
            None => self.by_vector(&vector, asking.limit).await,
        }
    }

    /// A query of the configuration. Its columns are picked as the members of a JSON answer are.
    async fn query(&self, sql: &str, question: &str, limit: usize) -> Result<Vec<Item>, Failure> {
        let mut params = vec![Param::Text(question.to_owned())];
        if sql.contains("$2") {
            params.push(Param::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
        }
        let database = self.database().await?;
        let answer = database.rows(sql, &params, count(limit), self.settings.timeout).await;
        let answer = answer.map_err(|fault| self.fault(fault))?;
        let rows: Value = answer.rows.into_iter().map(object).collect();
        Picker::default()
            .pick(&rows, &self.settings.target.database, limit)
            .map_err(|problem| Failure::new(Code::UpstreamFailed, format!("The answer of the database {problem}.")))
    }

    /// Full text over the tables. Each answers with its best rows; those are ranked together.
    async fn by_words(&self, language: Option<&str>, asking: Asking<'_>) -> Result<Vec<Item>, Failure> {
        let words = words(asking.query);
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let search = Search::Words {
            question: &words.join(" "),
            language,
        };
        let mut items = Vec::new();
        for table in self.tables().await?.iter() {
            items.extend(self.search(table, search, CANDIDATES).await?);
        }
        Ok(tables::reranked(&items, &words)
            .into_iter()
            .take(asking.limit)
            .collect())
    }

    async fn by_vector(&self, vector: &[f32], limit: usize) -> Result<Vec<Item>, Failure> {
        let mut lists = Vec::new();
        for table in self.tables().await?.iter() {
            let fits = |wanted: Option<u32>| wanted.is_none_or(|wanted| usize::try_from(wanted) == Ok(vector.len()));
            let Some(column) = table.vectors.iter().find(|column| fits(column.dimensions)) else {
                continue;
            };
            lists.push(
                self.search(table, Search::Nearest { column, vector }, count(limit))
                    .await?,
            );
        }
        if lists.is_empty() {
            let message = format!("No table has a column for vectors of {} numbers.", vector.len());
            return Err(Failure::new(Code::UpstreamFailed, message)
                .hint("Is `embedding_model` the model with which the rows were embedded?"));
        }
        let fused = fuse(lists, |item: &Item| item.id.clone());
        Ok(fused.into_iter().map(|(item, _)| item).take(limit).collect())
    }

    async fn search(&self, table: &Table, search: Search<'_>, rows_max: u32) -> Result<Vec<Item>, Failure> {
        let database = self.database().await?;
        let found = database.search(table, search, rows_max, self.settings.timeout).await;
        let found = found.map_err(|fault| self.fault(fault))?;
        Ok(found.hits.iter().filter_map(|hit| tables::item(table, hit)).collect())
    }

    /// The tables that are searched: those that are named, or all.
    async fn tables(&self) -> Result<Arc<Vec<Table>>, Failure> {
        let now = self.clock.monotonic();
        let known = self
            .tables
            .lock()
            .expect("nobody panics while holding the tables")
            .clone();
        if let Some((at, tables)) = known
            && now.saturating_sub(at) < TABLES_GOOD_FOR
        {
            return Ok(tables);
        }
        let database = self.database().await?;
        let timeout = self.settings.timeout;
        let mut names = match &self.settings.keyword {
            Some(Keyword::Tables { names, .. }) => names.clone(),
            Some(Keyword::Query(_)) | None => Vec::new(),
        };
        let are_named = !names.is_empty();
        if !are_named {
            let all = database.rows(TABLES, &[], TABLES_MAX, timeout).await;
            let all = all.map_err(|fault| self.fault(fault))?;
            names = all
                .rows
                .iter()
                .filter_map(|row| row.get("name").map(ToOwned::to_owned))
                .collect();
        }
        let mut tables = Vec::new();
        for name in names {
            let table = database
                .table(&name, timeout)
                .await
                .map_err(|fault| self.fault(fault))?;
            // Whoever names a table without text is told so by the search.
            if are_named || !table.text_columns.is_empty() {
                tables.push(table);
            }
        }
        let tables = Arc::new(tables);
        *self.tables.lock().expect("nobody panics while holding the tables") = Some((now, tables.clone()));
        Ok(tables)
    }

    /// Tables without vectors can be searched by words alone.
    async fn able(&self, wanted: Strategy) -> Result<Strategy, Failure> {
        let by_columns = self
            .settings
            .semantic
            .as_ref()
            .is_some_and(|semantic| semantic.query.is_none());
        let has_vectors = |tables: &[Table]| tables.iter().any(|table| !table.vectors.is_empty());
        if wanted != Strategy::Keyword && by_columns && !has_vectors(&self.tables().await?) {
            return Ok(Strategy::Keyword);
        }
        Ok(wanted)
    }

    async fn ask(&self, asking: Asking<'_>) -> Result<Finding, Failure> {
        let strategy = self.able(asking.strategy).await?;
        // Boxed, because much is held on the way to a database and back.
        let (words, meaning) = (Box::pin(self.keyword(asking)), Box::pin(self.semantic(asking)));
        look(strategy, words, meaning).await
    }
}

fn count(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// A vector as pgvector writes it.
fn literal(vector: &[f32]) -> String {
    let mut text = String::from("[");
    for (place, number) in vector.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        write!(text, "{comma}{number}").expect("a string takes whatever is written");
    }
    text.push(']');
    text
}

/// A row as a JSON object; what only tells how good it is is left out.
fn object(row: ForeignRow) -> Value {
    let columns = row.0.into_iter().filter(|(name, _)| !SCORES.contains(&name.as_str()));
    let members: Map<String, Value> = columns.map(|(name, value)| (name, Value::from(value))).collect();
    members.into()
}

impl Provider for Postgresql {
    fn ability(&self) -> Ability {
        match (&self.settings.keyword, &self.settings.semantic) {
            (_, None) => Ability::Keyword,
            (None, Some(_)) => Ability::Semantic,
            (Some(_), Some(_)) => Ability::Both,
        }
    }

    fn find<'a>(&'a self, asking: Asking<'a>) -> BoxFuture<'a, Result<Finding, Failure>> {
        Box::pin(self.ask(asking))
    }

    fn connections(&self) -> Option<Connections> {
        let pool = self.known().as_ref()?.pool();
        Some(Connections {
            used: pool.open.saturating_sub(pool.idle),
            idle: pool.idle,
            max: pool.max,
        })
    }
}
