//! Somebody else's PostgreSQL, to be read from and never written to.
//!
//! Every statement runs alone in a `READ ONLY` transaction under a time limit, which is rolled back whatever came of it.
//! It is prepared, so it is one statement, and it stands inside a `SELECT`, so it is a query. What comes back is text, and
//! bounded before it leaves the server.
//!
//! What that does **not** stop is what the database's user may do by calling functions: read files, end other people's
//! sessions, take advisory locks, reach out through `dblink`. A superuser may do all of it. So [`Foreign::about`] says
//! whether it is one, and whoever offers such a database gives it a user who may read what is to be read, and nothing
//! else. Which addresses may be reached at all is decided before one of these is made.

mod answer;
mod fault;
mod search;
mod statement;
mod table;

use forebay_runtime::secret::Secret;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};
use std::{net::IpAddr, time::Duration};
use tokio::net::TcpStream;

use crate::StoreError;
pub use answer::{Answer, ForeignRow};
pub use fault::ForeignFault;
pub(crate) use fault::RETRY_AFTER;
pub use search::{Hit, Hits, Search};
pub use table::{Table, VectorColumn};

/// Connections to one database at most.
pub const CONNECTIONS_MAX: u32 = 4;

/// How long anybody waits for one of them, or for a new one.
const ACQUIRE_PATIENCE: Duration = Duration::from_secs(3);
const IDLE_FOR: Duration = Duration::from_mins(5);
const LIVE_FOR: Duration = Duration::from_mins(30);

/// Longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 64 * 1024;

/// All values of one statement, in bytes.
pub const PARAMS_BYTES_MAX: usize = 1024 * 1024;

/// Most rows of one answer.
pub const ROWS_MAX: u32 = 1_000;

/// Largest row, in bytes of JSON; larger ones are left out.
pub const ROW_BYTES_MAX: usize = 256 * 1024;

/// Most bytes of one answer; the rows after that are left out.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest name of a host, database, user or schema, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Most schemas of a search path.
const SCHEMAS_MAX: usize = 16;

/// Which database, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    pub host: String,
    /// Where that host is, if somebody has looked it up and found that it may be reached. Else it is looked up anew for
    /// each connection.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    pub tls: Tls,
    /// The schemas in which names are looked for; the user's own search path, if there are none.
    pub search_path: Vec<String>,
}

/// Whether the connection is encrypted. The server's certificate is believed either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// If the server can.
    Prefer,
    Require,
    Disable,
}

/// A value of a statement: `$1`, `$2`, … in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// Also what is cast in the statement: `$1::uuid`, `$1::vector`.
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Null,
}

/// How much of the pool is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolState {
    pub open: u32,
    pub idle: u32,
    pub max: u32,
}

/// What kind of database it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub version: String,
    /// Such a user may do things that no read-only transaction stops.
    pub is_superuser: bool,
}

/// A database of somebody else. Cheap to clone; all clones share their connections. Nothing is connected before it is
/// asked for something.
#[derive(Clone)]
pub struct Foreign {
    pool: PgPool,
    /// A host or an address, and a port.
    address: (String, u16),
    /// How messages name it.
    name: String,
    search_path: Vec<String>,
}

impl Foreign {
    pub fn new(target: &Target) -> Result<Self, StoreError> {
        let name = format!("the database {} on {}:{}", target.database, target.host, target.port);
        let unusable = |what| Err(fault::unusable(&name, what));
        // A path would be a socket of this machine.
        if target.host.is_empty() || target.host.contains('/') {
            return unusable("its host is no name and no address");
        }
        let texts = [&target.host, &target.database, &target.user];
        let mut texts = texts.into_iter().chain(&target.search_path);
        if texts.any(|text| text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains('\0')) {
            return unusable("a name is empty, longer than 256 bytes, or holds a NUL");
        }
        if target.search_path.len() > SCHEMAS_MAX {
            return unusable("its search path is too long");
        }
        let mode = match target.tls {
            Tls::Prefer => PgSslMode::Prefer,
            Tls::Require => PgSslMode::Require,
            Tls::Disable => PgSslMode::Disable,
        };
        let address = target.address.map(|address| address.to_string());
        let address = address.unwrap_or_else(|| target.host.clone());
        let options = PgConnectOptions::new_without_pgpass()
            .host(&address)
            .port(target.port)
            .database(&target.database)
            .username(&target.user)
            // An empty one where there is none: else the one in our own environment would be tried.
            .password(target.password.as_ref().map_or("", Secret::expose))
            .ssl_mode(mode)
            .application_name("forebay");
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_PATIENCE)
            .idle_timeout(IDLE_FOR)
            .max_lifetime(LIVE_FOR)
            .connect_lazy_with(sqlx::ConnectOptions::disable_statement_logging(options));
        Ok(Self {
            pool,
            address: (address, target.port),
            name,
            search_path: target.search_path.clone(),
        })
    }

    pub fn pool(&self) -> PoolState {
        PoolState {
            open: self.pool.size(),
            idle: u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX),
            max: CONNECTIONS_MAX,
        }
    }

    /// The pool waits out a refused connection, as one of a database that is just starting. Where it has none to begin with
    /// nobody listening is an answer, and told at once.
    async fn knock(&self) -> Result<(), StoreError> {
        if self.pool.size() > 0 {
            return Ok(());
        }
        let knocking = TcpStream::connect((self.address.0.as_str(), self.address.1));
        match tokio::time::timeout(ACQUIRE_PATIENCE, knocking).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(fault::unreached(&self.name, error)),
            Err(_) => Err(fault::of(&self.name, sqlx::Error::PoolTimedOut)),
        }
    }

    /// Ends all connections, and those who wait for one.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Says who is there; also a sign of life.
    pub async fn about(&self, timeout: Duration) -> Result<About, StoreError> {
        let sql = "SELECT current_setting('server_version') AS version, \
                   current_setting('is_superuser') AS superuser";
        let answer = self.rows(sql, &[], 1, timeout).await?;
        let row = answer.rows.first();
        let text = |column| row.and_then(|row| row.get(column)).unwrap_or_default().to_owned();
        Ok(About {
            version: text("version"),
            is_superuser: text("superuser") == "on",
        })
    }

    /// Whether an extension is installed in the database: `vector`, for one.
    pub async fn has_extension(&self, name: &str, timeout: Duration) -> Result<bool, StoreError> {
        let sql = "SELECT 1 AS one FROM pg_catalog.pg_extension WHERE extname = $1";
        let answer = self.rows(sql, &[Param::Text(name.to_owned())], 1, timeout).await?;
        Ok(!answer.rows.is_empty())
    }
}
