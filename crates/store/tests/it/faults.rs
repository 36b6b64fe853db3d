//! The database goes away, or stops answering, and comes back.

use crate::{Opened, activity, at, audit_event, open, trace, try_open, until};
use forebay_domain::{Code, Failure, id::KeyId, quarantine::ServerName};
use forebay_store::{StoreError, mcp::signing::Purpose};
use forebay_testkit::db::TestDb;
use sqlx::{Connection, SqliteConnection};
use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use url::Url;

/// A wire to PostgreSQL that can be cut.
struct Wire {
    url: String,
    cut: Arc<AtomicBool>,
    changed: Arc<Notify>,
    _carriers: JoinSet<()>,
}

impl Wire {
    async fn to(db: &TestDb) -> Self {
        let mut url = Url::parse(db.url()).unwrap();
        let far: SocketAddr = format!("127.0.0.1:{}", url.port().unwrap()).parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (cut, changed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let mut carriers = JoinSet::new();
        carriers.spawn(carry(listener, far, cut.clone(), changed.clone()));
        Self {
            url: url.to_string(),
            cut,
            changed,
            _carriers: carriers,
        }
    }

    /// Ends every connection, and each new one as soon as it is made.
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

async fn carry(listener: TcpListener, far: SocketAddr, cut: Arc<AtomicBool>, changed: Arc<Notify>) {
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        if cut.load(Ordering::SeqCst) {
            continue;
        }
        let changed = changed.clone();
        connections.spawn(async move {
            let mut far = TcpStream::connect(far).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                () = changed.notified() => {}
            }
        });
    }
}

async fn refusals(opened: &Opened) -> Vec<StoreError> {
    let store = &opened.store;
    let id = KeyId::try_from("a").unwrap();
    let server = ServerName::try_from("a").unwrap();
    vec![
        store.ping().await.unwrap_err(),
        store.keys().find(&id).await.unwrap_err(),
        store.events().audit(audit_event(1)).await.unwrap_err(),
        store.events().verify().await.unwrap_err(),
        store.upstreams().list().await.unwrap_err(),
        store.pins().forget(&server).await.unwrap_err(),
        store.mcp_sessions().sweep(at(0)).await.unwrap_err(),
        store.mcp_streams().sweep(at(0)).await.unwrap_err(),
        store
            .signing()
            .verify_set(Purpose::REQUEST_STATE, at(0))
            .await
            .unwrap_err(),
    ]
}

#[tokio::test]
async fn a_lost_database_is_unavailable_and_activity_waits_for_it() {
    let db = TestDb::postgres().await;
    let wire = Wire::to(&db).await;
    let opened = try_open(&wire.url).await.unwrap();
    opened.store.events().audit(audit_event(1)).await.unwrap();

    wire.cut();
    for error in refusals(&opened).await {
        let failure = Failure::from(error);
        assert_eq!(failure.code, Code::StoreUnavailable, "{}", failure.chain());
        assert!(failure.retry_after.is_some());
    }
    assert!(!opened.store.is_healthy());
    for number in 10..20 {
        opened.store.events().record(activity(number));
    }

    wire.mend();
    until("the database answers again", || async {
        opened.store.ping().await.is_ok()
    })
    .await;
    until("what happened meanwhile is written", || async {
        db.number("SELECT COUNT(*) FROM event WHERE class = 'activity'").await == 10
    })
    .await;
    until("all is well", || async { opened.store.is_healthy() }).await;
    opened.store.events().audit(audit_event(2)).await.unwrap();
    assert!(opened.store.events().verify().await.unwrap().is_whole());
    opened.close().await;
}

#[tokio::test]
async fn killed_sessions_are_replaced() {
    let db = TestDb::postgres().await;
    let opened = open(&db).await;
    opened.store.events().audit(audit_event(1)).await.unwrap();
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'forebay'",
    )
    .await;
    until("a new session", || async {
        opened.store.events().audit(audit_event(2)).await.is_ok()
    })
    .await;
    assert!(opened.store.events().verify().await.unwrap().is_whole());
    opened.close().await;
}

#[tokio::test]
async fn nobody_there_is_unavailable_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let refused = try_open(&format!("postgres://me@127.0.0.1:{port}/x"))
        .await
        .err()
        .unwrap();
    assert_eq!(Failure::from(refused).code, Code::StoreUnavailable);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_never_answers_is_unavailable_in_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut silence = JoinSet::new();
    silence.spawn(async move {
        let _held = listener.accept().await;
        pending::<()>().await;
    });
    let refused = try_open(&format!("postgres://me@127.0.0.1:{port}/x?sslmode=disable"))
        .await
        .err()
        .unwrap();
    assert_eq!(Failure::from(refused).code, Code::StoreUnavailable);
}

#[tokio::test]
async fn a_file_that_somebody_else_locks_is_unavailable_until_it_is_free() {
    let db = TestDb::sqlite();
    let opened = open(&db).await;
    let mut other = SqliteConnection::connect(db.url()).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = opened.store.events().audit(audit_event(1)).await.unwrap_err();
    assert_eq!(Failure::from(refused).code, Code::StoreUnavailable);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    opened.store.events().audit(audit_event(2)).await.unwrap();
    // The first may be done as well: whoever waited gave up before SQLite did, if something else was written before it.
    let second = format!("SELECT COUNT(*) FROM event WHERE trace = '{}'", trace(2));
    assert_eq!(db.number(&second).await, 1);
    opened.close().await;
}

#[tokio::test]
async fn a_database_of_the_wrong_password_says_so_without_it() {
    let db = TestDb::postgres().await;
    let mut url = Url::parse(db.url()).unwrap();
    url.set_password(Some("canary-of-a-password")).unwrap();
    let refused = try_open(url.as_str()).await.err().unwrap();
    let failure = Failure::from(refused);
    assert_eq!(failure.code, Code::StoreUnavailable);
    let told = format!("{} {:?} {}", failure.chain(), failure.source, failure.sentence());
    assert!(!told.contains("canary"), "{told}");
    assert!(told.contains("user or password"), "{told}");
}
