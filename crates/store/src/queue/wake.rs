//! Tells the other gateways on one PostgreSQL that there may be something to claim, and hears it from them.
//!
//! A notification takes a lock of the whole database when it is committed: so it has a transaction of its own, apart from
//! what it is about, and there are few of them however much is submitted. One that is lost does no harm, since whoever
//! waits for work looks now and then all the same.

use forebay_runtime::{Stop, Tasks};
use sqlx::{PgPool, postgres::PgListener};
use std::{convert::Infallible, time::Duration};
use tokio::sync::watch;
use tracing::debug;

use super::Queue;
use crate::{StoreError, db::Db, sql::Both};

const CHANNEL: &str = "forebay_queue";
const NOTIFY: &str = "SELECT pg_notify($1, $2)";
/// At most one notification in so long.
const EVERY: Duration = Duration::from_millis(20);
/// Before the next attempt to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// On SQLite there is nobody else.
pub(super) fn start(tasks: &Tasks, queue: &Queue, ours: watch::Receiver<u64>) {
    let Both::Postgres(pool) = queue.db.pools() else { return };
    let name = format!("{:016x}", u64::from_be_bytes(queue.db.entropy().bytes()));
    let (db, from) = (queue.db.clone(), pool.clone());
    let telling = name.clone();
    tasks.spawn("store.queue.notify", |stop| notify(stop, db, from, ours, telling));
    let (pool, ready) = (pool.clone(), queue.ready.clone());
    tasks.spawn("store.queue.listen", |stop| listen(stop, pool, ready, name));
}

async fn notify(stop: Stop, db: Db, pool: PgPool, mut ours: watch::Receiver<u64>, name: String) {
    let telling = async {
        while ours.changed().await.is_ok() {
            let told = db.read(async { sqlx::query(NOTIFY).bind(CHANNEL).bind(&name).execute(&pool).await });
            if let Err(error) = told.await {
                debug!(cause = error.chain(), "others were not told of new tasks");
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = telling => {}
        () = stop.draining() => {}
    }
}

async fn listen(stop: Stop, pool: PgPool, ready: watch::Sender<u64>, name: String) {
    let listening = async {
        loop {
            let Err(error) = hear(&pool, &ready, &name).await;
            debug!(
                cause = StoreError::from(error).chain(),
                "nobody hears of others' tasks for a moment"
            );
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = listening => {}
        () = stop.draining() => {}
    }
}

async fn hear(pool: &PgPool, ready: &watch::Sender<u64>, name: &str) -> Result<Infallible, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // Whatever happened while nobody listened.
    bump(ready);
    loop {
        // Nothing is there where the connection was lost in between, and made anew.
        let told = listener.try_recv().await?;
        if told.is_none_or(|told| told.payload() != name) {
            bump(ready);
        }
    }
}

pub(super) fn bump(counter: &watch::Sender<u64>) {
    counter.send_modify(|count| *count = count.wrapping_add(1));
}
