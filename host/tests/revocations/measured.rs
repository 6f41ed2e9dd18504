//! Ten million revocations, in figures:
//!
//! ```text
//! cargo test --release -p tidegate --test revocations -- --ignored --nocapture ten_million
//! ```

use crate::opened::{SPAN_SECS, settings};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::revocations::{Durability, ENTRY_RECORDS_MAX, Revocations};
use tidegate_core::revoke::message::{Form, NewsAsk};
use tidegate_core::revoke::{EVER, Id, Kind, Position, Record};

const COUNT: u64 = 10_000_000;

/// Calls at the same time.
const CALLERS: u64 = 32;

/// A token that ends within the next twelve generations.
fn record(number: u64, now_secs: u64) -> Record {
    Record {
        id: Id::of(Kind::Token, &[b"iss", &number.to_le_bytes()]),
        kind: Kind::Token,
        lifts: false,
        before_secs: EVER,
        until_secs: now_secs + 600 + number % (12 * u64::from(SPAN_SECS)),
        by_exp: true,
        at_ms: now_secs * 1_000,
    }
}

/// Memory of this process that is in use, and the most there was, in MB.
fn memory_mb() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

fn told(what: &str, began: Instant) {
    let (now, most) = memory_mb();
    eprintln!("{what}: {:.2} s; {now} MB, at most {most} MB", began.elapsed().as_secs_f64());
}

fn open(folder: &Path) -> Arc<Revocations> {
    Revocations::open(&settings(folder, false)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; it measures"]
async fn ten_million() {
    let folder = tempfile::tempdir().unwrap();
    let now_secs = crate::opened::now_secs();
    let host = open(folder.path());
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let host = host.clone();
            tokio::spawn(async move {
                let numbers = (COUNT * caller / CALLERS..COUNT * (caller + 1) / CALLERS).collect();
                let numbers: Vec<u64> = numbers;
                for some in numbers.chunks(ENTRY_RECORDS_MAX) {
                    let records = some.iter().map(|number| record(*number, now_secs)).collect();
                    host.accept(records, Durability::Shared).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    told("accepted 10 million", began);
    eprintln!("the file has {} MB", host.stats().file_bytes >> 20);
    drop(host);

    let began = Instant::now();
    let host = open(folder.path());
    told("opened", began);
    let began = Instant::now();
    let ask = NewsAsk { known: Position::default(), cut: 0, form: Form::Fuse, wants_keys: true };
    let news = host.news(&ask, Duration::from_secs(600)).await.unwrap();
    told("images", began);
    let manifest = news.manifest.unwrap();
    let bytes: u64 = manifest.images.iter().map(|image| u64::from(image.bytes)).sum();
    eprintln!("{} images of {:.1} MB", manifest.images.len(), bytes as f64 / 1e6);

    let began = Instant::now();
    let looks = 1_000_000;
    for number in 0..looks {
        let number = number * 7_919 % (2 * COUNT);
        let found = host.checked(&[record(number, now_secs).id]).unwrap();
        assert_eq!(found.before_secs[0] == EVER, number < COUNT);
    }
    told(&format!("{looks} exact checks"), began);
    let began = Instant::now();
    let all: usize = host.export().map(|page| page.unwrap().len()).sum();
    assert_eq!(all as u64, COUNT);
    told("exported", began);
    let began = Instant::now();
    for number in 0..200 {
        host.accept(vec![record(COUNT + number, now_secs)], Durability::Shared).await.unwrap();
    }
    told("200 accepted one by one", began);
}
