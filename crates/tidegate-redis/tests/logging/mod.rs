//! Records, and those who write and read the log of a test's server.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::time::{Duration, Instant};
use tidegate_core::revoke::{EVER, Id, Kind, Position, Record};
use tidegate_redis::log::{Appended, ENTRY_RECORDS_MAX, Entry, Known, News, Read, Reader, Writer};

/// The longest wait for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

/// The stream.
pub const LOG: &str = "tidegate:{revocations}:log";

pub fn record(number: u64) -> Record {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Record {
        id: Id(id),
        kind: Kind::Token,
        lifts: false,
        before_secs: EVER,
        until_secs: 2_000_000_000,
        by_exp: true,
        at_ms: number,
    }
}

pub fn records(count: u64) -> Vec<Record> {
    (0..count).map(record).collect()
}

/// Appends one entry, to a log that begins with it if there is none.
pub async fn append(writer: &mut Writer, known: Known, records: &[Record]) -> Position {
    let entries: Vec<_> = records.chunks(ENTRY_RECORDS_MAX).collect();
    match writer.append(known, &entries, None).await.unwrap() {
        Appended::Done { positions, .. } => positions[entries.len() - 1],
        other => panic!("{other:?}"),
    }
}

/// What there is now after a position, all of it.
pub async fn all_after(reader: &mut Reader, mut after: Position) -> (Vec<Entry>, Position) {
    let mut all = Vec::new();
    loop {
        let News { entries, complete_at } = news(reader, after, Duration::ZERO).await;
        after = entries.last().map_or(after, |entry| entry.position);
        all.extend(entries);
        if complete_at.is_some() {
            return (all, after);
        }
    }
}

pub async fn news(reader: &mut Reader, after: Position, patience: Duration) -> News {
    match reader.read(after, patience).await.unwrap() {
        Read::News(news) => news,
        other => panic!("{other:?}"),
    }
}

/// What a reader is told once it can read again.
pub async fn once_read(reader: &mut Reader, after: Position) -> Read {
    let end = Instant::now() + DEADLINE;
    loop {
        match reader.read(after, Duration::ZERO).await {
            Ok(read) => return read,
            Err(error) => assert!(Instant::now() < end, "{error:?}"),
        }
    }
}

/// What came of appending once the log can be written again.
pub async fn once_appended(writer: &mut Writer, known: Known, records: &[Record]) -> Appended {
    let end = Instant::now() + DEADLINE;
    loop {
        match writer.append(known, &[records], None).await {
            Ok(appended) => return appended,
            Err(error) => assert!(Instant::now() < end, "{error:?}"),
        }
    }
}
