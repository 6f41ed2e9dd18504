//! Hosts of a test: each has a ledger in a folder of its own, and follows the log.
#![allow(unreachable_pub, reason = "a module of a test")]

use crate::made_up;
use crate::server::Server;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate::revocations::{
    Accepted, Durability, ENTRY_RECORDS_MAX, Home, Problem, Reach, Revocations, Settings,
    SharedLog, Wall,
};
use tidegate_core::revoke::{Position, Record};
use tidegate_redis::log::Read;
use tidegate_redis::{Settings as Redis, Store};

/// The stream.
pub const LOG: &str = "tidegate:{revocations}:log";

/// The longest wait for what must come: a fail-over with a split vote, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(40);

/// Often enough for tests.
const TRIM_EVERY: Duration = Duration::from_millis(50);

/// One host.
pub struct Host {
    pub ledger: Arc<Revocations>,
    pub shared: Arc<SharedLog>,
    /// Connected for as long as the host is there.
    _store: Store,
    folder: TempDir,
}

impl Host {
    /// A new host, with nothing on its disk.
    pub fn new(redis: &Redis) -> Self {
        Self::on(tempfile::tempdir().unwrap(), redis)
    }

    /// A host with this disk.
    pub fn on(folder: TempDir, redis: &Redis) -> Self {
        // Who had it may still be closing it.
        let end = Instant::now() + DEADLINE;
        let ledger = loop {
            match try_open(folder.path(), true) {
                Ok(ledger) => break ledger,
                Err(why) => assert!(Instant::now() < end, "{why}"),
            }
            std::thread::yield_now();
        };
        let store = Store::start(redis.clone());
        let shared = SharedLog::start_with(&ledger, &store.log(), TRIM_EVERY);
        Self { ledger, shared, _store: store, folder }
    }

    /// Stops it; what is left is its disk.
    pub fn stop(self) -> TempDir {
        self.folder
    }

    /// Revokes, and counts on it.
    pub async fn accept(&self, records: &[Record]) -> Vec<Accepted> {
        let mut accepted = Vec::new();
        for part in records.chunks(ENTRY_RECORDS_MAX) {
            let done = self.ledger.accept(part.to_vec(), Durability::Shared).await;
            let done = done.unwrap_or_else(|why| panic!("{why:?}"));
            assert!(matches!(done.reach, Reach::Shared { .. }), "{done:?}");
            accepted.push(done);
        }
        accepted
    }

    pub fn knows(&self, record: &Record) -> bool {
        self.ledger.get(record.id).unwrap() == Some(*record)
    }

    pub fn knows_all(&self, records: &[Record]) -> bool {
        records.iter().all(|record| self.knows(record))
    }

    pub async fn until_following(&self) {
        until("it follows", || self.shared.trouble().is_none()).await;
    }
}

/// Opens a ledger.
pub fn open(folder: &Path, is_shared: bool) -> Arc<Revocations> {
    try_open(folder, is_shared).unwrap()
}

fn try_open(folder: &Path, is_shared: bool) -> Result<Arc<Revocations>, Problem> {
    let home = Home::Folder(folder.to_owned());
    Revocations::open(&Settings {
        home,
        is_shared,
        span_secs: 7_200,
        leeway_secs: 60,
        id_key_files: Vec::new(),
        wall: Wall::of_this_machine(),
    })
}

/// How to reach a server by itself.
pub fn redis(server: &Server) -> Redis {
    Redis::standalone("127.0.0.1".to_owned(), server.port)
}

/// Waits until it is so.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "it did not come to be that {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until both know the log equally far. What an entry says can be looked up a moment before
/// the position says so.
pub async fn until_at_same_place(one: &Host, other: &Host) {
    let at_same_place = || one.ledger.position() == other.ledger.position();
    until("both stand at the same place", at_same_place).await;
}

/// A host with an empty disk knows these before long: they are in the log.
pub async fn are_shared(redis: &Redis, records: &[Record]) {
    let newcomer = Host::new(redis);
    until("the log has all of them", || newcomer.knows_all(records)).await;
}

/// Records, told from others by their numbers.
pub fn tokens(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(made_up::token).collect()
}

/// How many records the log has, all entries together.
pub async fn log_records(redis: &Redis) -> usize {
    let store = Store::start(redis.clone());
    let mut reader = store.log().reader();
    let (mut after, mut count) = (Position::default(), 0);
    loop {
        match reader.read(after, Duration::ZERO).await.unwrap() {
            Read::News(news) => {
                count += news.entries.iter().map(|entry| entry.records.len()).sum::<usize>();
                after = news.entries.last().map_or(after, |entry| entry.position);
                if news.complete_at.is_some() {
                    return count;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
