//! Fresh databases for tests: a SQLite file in a temporary folder, and a PostgreSQL database in the private cluster that
//! `scripts/with-postgres` makes. Both are removed when the [`TestDb`] is dropped.

use forebay_runtime::Entropy;
use forebay_store::sqlite_url;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection, postgres::PgConnectOptions};
use std::str::FromStr;
use tempfile::TempDir;

/// Names the cluster; set by `scripts/with-postgres`.
pub const CLUSTER_VARIABLE: &str = "FOREBAY_TEST_POSTGRES_URL";

/// One empty database.
pub struct TestDb {
    url: String,
    kind: Kind,
}

enum Kind {
    Sqlite { folder: TempDir },
    Postgres { cluster_url: String, name: String },
}

impl TestDb {
    /// One of each: what a test of the store runs on.
    pub async fn both() -> [Self; 2] {
        [Self::sqlite(), Self::postgres().await]
    }

    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self {
            url: sqlite_url(&folder.path().join("data").join("forebay.db")),
            kind: Kind::Sqlite { folder },
        }
    }

    pub async fn postgres() -> Self {
        let cluster_url = cluster_url();
        let name = format!("test_{:032x}", u128::from_le_bytes(Entropy::system().bytes()));
        let mut cluster = PgConnection::connect(&cluster_url)
            .await
            .expect("the test cluster answers");
        // The name is ours: letters, digits and an underscore.
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut cluster)
            .await
            .expect("the test cluster makes a database");
        cluster.close().await.ok();
        let options = PgConnectOptions::from_str(&cluster_url).expect("it was just used");
        Self {
            url: options.database(&name).to_url_lossy().to_string(),
            kind: Kind::Postgres { cluster_url, name },
        }
    }

    /// What `Store::open` and `store.url` take.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `sqlite` or `postgres`, for messages.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite { .. } => "sqlite",
            Kind::Postgres { .. } => "postgres",
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.kind, Kind::Postgres { .. })
    }

    /// The folder around the SQLite file's own folder.
    pub fn folder(&self) -> Option<&std::path::Path> {
        match &self.kind {
            Kind::Sqlite { folder } => Some(folder.path()),
            Kind::Postgres { .. } => None,
        }
    }

    /// Takes the database away from whoever uses it, until [`TestDb::accept_connections`]. PostgreSQL only.
    pub async fn refuse_connections(&self) {
        let Kind::Postgres { name, .. } = &self.kind else {
            panic!("a SQLite file cannot be taken away like this");
        };
        // Apart from the next one: together they would be one transaction, and whoever comes back before its end stays.
        self.on_cluster(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            .await;
        self.on_cluster(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
    }

    pub async fn accept_connections(&self) {
        let Kind::Postgres { name, .. } = &self.kind else {
            return;
        };
        self.on_cluster(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
            .await;
    }

    async fn on_cluster(&self, sql: &str) {
        let mut cluster = PgConnection::connect(&cluster_url())
            .await
            .expect("the test cluster answers");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut cluster)
            .await
            .expect("the statements run");
        cluster.close().await.ok();
    }

    /// Runs statements behind the store's back, as somebody would who tampers with it.
    pub async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind {
            Kind::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url).await.expect("the file opens");
                sqlx::raw_sql(sql)
                    .execute(&mut connection)
                    .await
                    .expect("the statements run");
                connection.close().await.expect("the connection closes");
            }
            Kind::Postgres { .. } => {
                let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
                sqlx::raw_sql(sql)
                    .execute(&mut connection)
                    .await
                    .expect("the statements run");
                connection.close().await.expect("the connection closes");
            }
        }
    }

    /// The one number that a query returns.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind {
            Kind::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url).await.expect("the file opens");
                sqlx::query_scalar(sql)
                    .fetch_one(&mut connection)
                    .await
                    .expect("the query runs")
            }
            Kind::Postgres { .. } => {
                let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
                sqlx::query_scalar(sql)
                    .fetch_one(&mut connection)
                    .await
                    .expect("the query runs")
            }
        }
    }
}

/// Nobody else writes to the SQLite file for as long as this is kept; they wait for it.
pub struct Lock(SqliteConnection);

impl TestDb {
    /// Keeps everybody else from writing. SQLite only.
    pub async fn lock(&self) -> Lock {
        let mut connection = SqliteConnection::connect(&self.url).await.expect("the file opens");
        sqlx::raw_sql("BEGIN IMMEDIATE")
            .execute(&mut connection)
            .await
            .expect("nobody else writes now");
        Lock(connection)
    }
}

impl Lock {
    pub async fn release(mut self) {
        let let_go = sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await;
        let_go.expect("the statement runs");
        self.0.close().await.expect("the connection closes");
    }
}

impl Drop for TestDb {
    /// On a thread of its own, because a test's runtime cannot be waited on from within.
    fn drop(&mut self) {
        let Kind::Postgres { cluster_url, name } = &self.kind else {
            return;
        };
        let (cluster_url, name) = (cluster_url.clone(), name.clone());
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            runtime.block_on(async {
                let mut cluster = PgConnection::connect(&cluster_url).await.ok()?;
                // The server waits for whoever is just connecting; that may be a task of the runtime that waits here.
                sqlx::query("SET statement_timeout = '2s'")
                    .execute(&mut cluster)
                    .await
                    .ok()?;
                sqlx::query(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
                    .execute(&mut cluster)
                    .await
                    .ok()
            })
        });
        // A database that stays behind goes with its cluster.
        removal.join().ok();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by their environment where the cluster is"
)]
fn cluster_url() -> String {
    std::env::var(CLUSTER_VARIABLE).unwrap_or_else(|_| {
        panic!(
            "{CLUSTER_VARIABLE} is not set: run `make test`, or `scripts/with-postgres cargo nextest run -p <package>`"
        )
    })
}
