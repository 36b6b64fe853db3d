//! Opening: who may read the file, which URLs are taken, which databases are not.

use crate::{open, try_open};
use forebay_domain::{Code, Failure};
use forebay_store::{StoreError, sqlite_url};
use forebay_testkit::db::TestDb;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// How many migrations there are in the folder of an engine.
fn migrations(db: &TestDb) -> i64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(db.name());
    fs::read_dir(folder).unwrap().count().try_into().unwrap()
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    for db in TestDb::both().await {
        let (one, two, three) = tokio::join!(open(&db), open(&db), open(&db));
        for opened in [one, two, three] {
            opened.store.ping().await.unwrap();
            assert!(opened.store.is_healthy());
            opened.close().await;
        }
        assert_eq!(
            db.number("SELECT COUNT(*) FROM _sqlx_migrations").await,
            migrations(&db),
            "{}",
            db.name()
        );
    }
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    for db in TestDb::both().await {
        open(&db).await.close().await;
        db.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 99, 'of a later version', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
        let refused = try_open(db.url()).await.err().unwrap();
        assert!(
            matches!(refused, StoreError::Newer { found: 99, known } if known == migrations(&db)),
            "{}: {refused:?}",
            db.name()
        );
        let failure = Failure::from(refused);
        assert_eq!(failure.code, Code::InvalidConfig);
        assert!(failure.sentence().contains("version 99"), "{}", failure.sentence());
        let left = db.number("SELECT COUNT(*) FROM _sqlx_migrations").await;
        assert_eq!(left, migrations(&db) + 1, "{}", db.name());
    }
}

#[tokio::test]
async fn a_migration_that_was_edited_is_refused() {
    for db in TestDb::both().await {
        open(&db).await.close().await;
        let other = if db.is_postgres() { "'\\x00'::bytea" } else { "x'00'" };
        db.execute(&format!("UPDATE _sqlx_migrations SET checksum = {other}"))
            .await;
        let refused = try_open(db.url()).await.err().unwrap();
        assert!(
            matches!(refused, StoreError::Migration(_)),
            "{}: {refused:?}",
            db.name()
        );
    }
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    let db = TestDb::sqlite();
    let folder = db.folder().unwrap().join("data");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let opened = open(&db).await;
    assert_eq!(mode(&folder), 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    opened.close().await;
    let file = folder.join("forebay.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    open(&db).await.close().await;
    assert_eq!(mode(&file), 0o600, "what was open to others is closed");
}

#[tokio::test]
async fn what_is_no_database_is_refused_with_a_reason() {
    for url in [
        "mysql://x",
        "",
        "nonsense",
        "sqlite::memory:",
        "sqlite:///x.db?mode=ro",
        "postgres://[",
    ] {
        let refused = try_open(url).await.err().unwrap();
        assert!(matches!(refused, StoreError::Url { .. }), "{url}: {refused:?}");
        assert_eq!(Failure::from(refused).code, Code::InvalidConfig);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter.txt");
    fs::write(&file, "Dear database, ".repeat(1000)).unwrap();
    let refused = try_open(&sqlite_url(&file)).await.err().unwrap();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
    let refused = try_open(&sqlite_url(&file.join("forebay.db"))).await.err().unwrap();
    assert!(matches!(refused, StoreError::File { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_file_of_any_name_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("50% ? # ü.db");
    try_open(&sqlite_url(&file)).await.unwrap().close().await;
    assert!(file.exists());
}
