//! Ledgers that tests open, and what they put in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};
use tidegate::revocations::{
    Accepted, Durability, Entry, Home, Revocations, Settings, Unready, Wall,
};
use tidegate_core::revoke::message::{Form, News, NewsAsk};
use tidegate_core::revoke::{Position, Record};

/// When clocks of tests begin, in seconds of Unix time: where a generation does.
pub const START_SECS: u64 = 2_000_000_000 / SPAN_SECS as u64 * SPAN_SECS as u64;

/// How long a generation is.
pub const SPAN_SECS: u32 = 300;

pub fn settings(folder: &Path, is_shared: bool) -> Settings {
    Settings {
        home: Home::Folder(folder.to_owned()),
        is_shared,
        span_secs: SPAN_SECS,
        leeway_secs: 60,
        id_key_files: Vec::new(),
        wall: Wall::of_this_machine(),
    }
}

pub fn open(folder: &Path) -> Arc<Revocations> {
    Revocations::open(&settings(folder, false)).unwrap()
}

pub fn open_shared(folder: &Path) -> Arc<Revocations> {
    Revocations::open(&settings(folder, true)).unwrap()
}

/// One in memory, on a clock that stands until the test lets it go on.
pub fn in_memory(nanos: &Arc<AtomicU64>) -> Arc<Revocations> {
    let wall = Wall::given(START_SECS * 1_000, nanos.clone());
    let settings = Settings { home: Home::Memory, wall, ..settings(Path::new(""), false) };
    Revocations::open(&settings).unwrap()
}

pub async fn accept(revocations: &Revocations, records: Vec<Record>) -> Accepted {
    revocations.accept(records, Durability::Shared).await.unwrap()
}

/// Entries of the shared log behind `after`.
pub fn entries(after: Position, batches: &[Vec<Record>]) -> Vec<Entry> {
    let mut position = after;
    let entry = |records: &Vec<Record>| {
        position = position.then(&records[0].to_bytes());
        Entry { position, records: records.clone() }
    };
    batches.iter().map(entry).collect()
}

/// What a proxy that knows this is told at once.
pub async fn told(revocations: &Revocations, known: Position, cut: u64) -> Result<News, Unready> {
    let ask = NewsAsk { known, cut, form: Form::Fuse, wants_keys: true };
    revocations.news(&ask, Duration::ZERO).await
}

/// Seconds of Unix time.
pub fn now_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
