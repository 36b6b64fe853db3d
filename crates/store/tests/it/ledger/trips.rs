//! How often a group of movements goes to PostgreSQL and back: what a tenant waits for, and others of it with it.

use super::{came_to, hard, once};
use crate::try_open;
use forebay_testkit::db::TestDb;
use futures_util::future::join_all;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    task::JoinSet,
};
use url::Url;

const SSL_REQUEST: u32 = 80_877_103;

/// Carries what a client says, and counts how often it waits for an answer: at each Sync, and at each simple query.
async fn count(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trips: Arc<AtomicU64>) -> std::io::Result<()> {
    // What comes first has no type: a wish for TLS, which the server may refuse, and then who it is.
    loop {
        let (length, code) = (from.read_u32().await?, from.read_u32().await?);
        let mut body = vec![0; length as usize - 8];
        from.read_exact(&mut body).await?;
        to.write_u32(length).await?;
        to.write_u32(code).await?;
        to.write_all(&body).await?;
        if code != SSL_REQUEST {
            break;
        }
    }
    loop {
        let (kind, length) = (from.read_u8().await?, from.read_u32().await?);
        let mut message = vec![0; length as usize - 4];
        from.read_exact(&mut message).await?;
        trips.fetch_add(u64::from(matches!(kind, b'S' | b'Q')), Ordering::SeqCst);
        let mut whole = vec![kind];
        whole.extend(length.to_be_bytes());
        whole.extend(message);
        to.write_all(&whole).await?;
    }
}

/// A URL at which everything is counted.
async fn counted(db: &TestDb) -> (String, Arc<AtomicU64>, JoinSet<()>) {
    let mut url = Url::parse(db.url()).unwrap();
    let far = ("127.0.0.1", url.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let trips = Arc::new(AtomicU64::new(0));
    let (counter, mut carriers) = (trips.clone(), JoinSet::new());
    carriers.spawn(async move {
        let mut both = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            near.set_nodelay(true).unwrap();
            let (far, counter) = (TcpStream::connect(far).await.unwrap(), counter.clone());
            far.set_nodelay(true).unwrap();
            let ((near_reads, mut near_writes), (mut far_reads, far_writes)) = (near.into_split(), far.into_split());
            both.spawn(async move { drop(count(near_reads, far_writes, counter).await) });
            both.spawn(async move { drop(copy(&mut far_reads, &mut near_writes).await) });
        }
    });
    (url.to_string(), trips, carriers)
}

#[tokio::test]
async fn a_group_of_movements_is_a_few_ways_to_the_database_however_many_they_are() {
    const ROUNDS: u64 = 40;
    let db = TestDb::postgres().await;
    let (url, trips, _carriers) = counted(&db).await;
    let opened = try_open(&url).await.unwrap();
    let ledger = opened.store.ledger();
    ledger.configure(vec![hard(60, "100"), hard(1440, "100")]);
    let groups = || opened.metric("forebay_ledger_group_size_count");
    let sixteen = async || {
        let holds = join_all((0..16).map(|_| ledger.hold(once("0.01")))).await;
        holds.into_iter().map(|hold| hold.unwrap().id).collect::<Vec<_>>()
    };
    // Statements are prepared once, which takes a way each.
    let settled = sixteen().await;
    join_all(settled.iter().map(|hold| ledger.settle(hold, came_to("0.01")))).await;

    let (before, ways) = (groups(), trips.load(Ordering::SeqCst));
    let mut held = Vec::new();
    for _ in 0..ROUNDS {
        held.extend(sixteen().await);
    }
    let (holding, ways_of_holds) = (groups() - before, trips.load(Ordering::SeqCst) - ways);
    // BEGIN, the purses, the windows, all that is written, COMMIT; and a sign of life when the connection is given back.
    // The loops of the store ask now and then, too.
    assert!(
        ways_of_holds >= 5 * holding && ways_of_holds <= 6 * holding + ROUNDS,
        "{holding} groups of holds took {ways_of_holds} ways"
    );
    assert!(
        holding < 8 * ROUNDS,
        "{holding} groups for {ROUNDS} times sixteen holds"
    );

    let (before, ways) = (groups(), trips.load(Ordering::SeqCst));
    for sixteen in held.chunks(16) {
        join_all(sixteen.iter().map(|hold| ledger.settle(hold, came_to("0.01")))).await;
    }
    let (settling, ways_of_settlements) = (groups() - before, trips.load(Ordering::SeqCst) - ways);
    // The holds instead of the windows.
    assert!(
        ways_of_settlements >= 5 * settling && ways_of_settlements <= 6 * settling + ROUNDS,
        "{settling} groups of settlements took {ways_of_settlements} ways"
    );
    opened.close().await;
}
