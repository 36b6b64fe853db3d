//! Opens the two databases: options, bounds, and the file that nobody else may read.

use sqlx::{
    ConnectOptions, Connection, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

use crate::{StoreError, migrations};

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Another replica may be migrating a large table.
const MIGRATION_PATIENCE: Duration = Duration::from_mins(2);
const SQLITE_READERS_MAX: u32 = 4;
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// A connection that has just been used is used again without asking whether it still is one.
const TRUSTED: Duration = Duration::from_secs(1);
/// How long SQLite waits for another process to let go of the file.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
/// Statements that a connection to SQLite keeps prepared.
const STATEMENTS_MAX: usize = 256;
/// Between two attempts to open a file that another process is just making.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// The permissions of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Opens, and where needed makes and migrates, a SQLite file: the writer's pool of one connection, and the readers'.
pub(crate) async fn sqlite(url: &str) -> Result<(SqlitePool, SqlitePool), StoreError> {
    let options = SqliteConnectOptions::from_str(url)?;
    if url.contains(":memory:") || url.contains('?') {
        return Err(StoreError::Url {
            what: "a SQLite database is a file, without parameters".to_owned(),
        });
    }
    let file = options.get_filename().to_owned();
    prepare_file(&file).map_err(|source| StoreError::File {
        path: file.display().to_string(),
        source: Arc::new(source),
    })?;
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_PATIENCE)
        // Each savepoint keeps the pages that it changes aside, in a file otherwise. That one is no help after a crash.
        .pragma("temp_store", "memory")
        // All of them stay prepared.
        .statement_cache_capacity(STATEMENTS_MAX)
        .disable_statement_logging();
    let writer = sqlite_writer(&options).await?;
    migrations::run_sqlite(&mut *writer.acquire().await?).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS_MAX)
        .test_before_acquire(false)
        .acquire_timeout(CONNECT_PATIENCE)
        .connect_lazy_with(options.pragma("query_only", "1"));
    Ok((writer, readers))
}

/// Turning a new file into a WAL database fails at once, whatever the busy timeout, while another process does the same:
/// so it is tried again for as long as the timeout would have lasted.
async fn sqlite_writer(options: &SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    let deadline = Instant::now() + BUSY_PATIENCE;
    loop {
        let connected = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(CONNECT_PATIENCE)
            .connect_with(options.clone())
            .await
            .map_err(StoreError::from);
        match connected {
            Err(error) if error.is_unavailable() && Instant::now() < deadline => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Makes the folder and the file, and takes the file away from everybody but its owner.
fn prepare_file(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let creation = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match creation {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mode = fs::metadata(file)?.permissions().mode();
            if mode & OTHERS == 0 {
                return Ok(());
            }
            fs::set_permissions(file, fs::Permissions::from_mode(0o600))
        }
        Err(error) => Err(error),
    }
}

/// Connects to PostgreSQL, migrates, and opens the pool. TLS is as `sslmode` in the URL says.
pub(crate) async fn postgres(url: &str) -> Result<PgPool, StoreError> {
    let options = PgConnectOptions::from_str(url)?
        .application_name("forebay")
        .disable_statement_logging();
    migrate_postgres(&options).await?;
    let bounded = options.options([
        ("statement_timeout", "8s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "30s"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS_MAX)
        .acquire_timeout(CONNECT_PATIENCE)
        .test_before_acquire(false)
        // The pool asks for a sign of life when it gets a connection back; one more is a way there and back for each statement.
        .before_acquire(|connection, of| {
            Box::pin(async move {
                if of.idle_for > TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(bounded)
        .await?;
    Ok(pool)
}

async fn migrate_postgres(options: &PgConnectOptions) -> Result<(), StoreError> {
    let silent = |_| StoreError::unavailable("it did not answer in time");
    let connection = tokio::time::timeout(CONNECT_PATIENCE, options.connect())
        .await
        .map_err(silent)??;
    tokio::time::timeout(MIGRATION_PATIENCE, migrations::run_postgres(connection))
        .await
        .map_err(silent)?
}
