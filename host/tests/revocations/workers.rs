//! What a worker of a proxy knows, that asks a host as proxies do.

use crate::made_up::token;
use crate::opened::{SPAN_SECS, START_SECS, accept, in_memory};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate::revocations::Revocations;
use tidegate_core::revoke::known::{Found, Heard, Known};
use tidegate_core::revoke::{Kind, Record};
use tidegate_core::time::{Instant, Span};

const NOW: Instant = Instant(1_000_000_000);

#[derive(Default)]
struct Worker(Known);

impl Worker {
    async fn polls(&mut self, host: &Revocations) {
        let ask = self.0.news_ask();
        let news = host.news(&ask, Duration::ZERO).await.unwrap();
        assert!(self.0.hear(&news, &ask.known, NOW));
    }

    /// Fetches a piece of an image, if one is wanted.
    fn fetches(&mut self, host: &Revocations) -> bool {
        let chunk = self.0.chunk_ask().and_then(|ask| host.chunk(&ask));
        chunk.is_some_and(|chunk| self.0.hear_chunk(&chunk) == Heard::Kept)
    }

    async fn settles(&mut self, host: &Revocations) {
        for _ in 0..100 {
            self.polls(host).await;
            while self.fetches(host) {}
            if self.is_fresh() && self.0.position() == host.position() {
                return;
            }
        }
        panic!("it does not come to know all");
    }

    fn is_fresh(&self) -> bool {
        self.0.is_fresh(NOW, Span::ZERO)
    }

    fn looks(&self, record: &Record) -> Found {
        self.0.look(&record.id, Some(record.until_secs), &mut |_, _| panic!("nothing is shared"))
    }
}

fn ending(number: u64, until_secs: u64) -> Record {
    Record { until_secs, ..token(number) }
}

/// The time goes on to the next cut.
fn next_cut(nanos: &AtomicU64) {
    nanos.fetch_add(31_000_000_000, Ordering::Relaxed);
}

#[tokio::test]
async fn what_ended_beyond_the_horizon_is_never_missing_while_its_generation_comes() {
    let nanos = Arc::new(AtomicU64::new(0));
    let (host, mut worker) = (in_memory(&nanos), Worker::default());
    let far = ending(1, START_SECS + 121 * u64::from(SPAN_SECS));
    let subject = Record { kind: Kind::Subject, by_exp: false, ..ending(2, far.until_secs) };
    accept(&host, vec![far, subject]).await;
    next_cut(&nanos);
    worker.settles(&host).await;
    assert_eq!(worker.0.size().1, 0, "images alone hold it");

    nanos.fetch_add(u64::from(SPAN_SECS) * 3_000_000_000, Ordering::Relaxed);
    accept(&host, (3..400).map(|number| ending(number, far.until_secs)).collect()).await;
    next_cut(&nanos);
    while worker.0.chunk_ask().is_none() {
        worker.polls(&host).await;
    }
    let mut fetched = 0;
    loop {
        assert!(worker.is_fresh());
        assert_ne!(worker.looks(&far), Found::Clear, "after {fetched} images");
        if !worker.fetches(&host) {
            break;
        }
        fetched += 1;
    }
    assert!(fetched > 1, "generation 0 without it, and its own");
}

#[tokio::test]
async fn one_that_lags_behind_a_cut_comes_to_know_all() {
    let nanos = Arc::new(AtomicU64::new(0));
    let (host, mut worker) = (in_memory(&nanos), Worker::default());
    accept(&host, vec![ending(0, START_SECS + 1_000)]).await;
    next_cut(&nanos);
    worker.settles(&host).await;
    for some in 1..4 {
        let records = some * 300..some * 300 + 299;
        accept(&host, records.map(|number| ending(number, START_SECS + 1_000)).collect()).await;
        next_cut(&nanos);
    }
    accept(&host, vec![ending(1, START_SECS + 1_000)]).await;
    worker.settles(&host).await;
    assert_ne!(worker.looks(&ending(1_000, START_SECS + 1_000)), Found::Clear);
    assert_ne!(worker.looks(&ending(1, START_SECS + 1_000)), Found::Clear);
}

#[tokio::test]
async fn one_that_has_no_room_for_what_leads_to_newer_images_begins_anew() {
    let nanos = Arc::new(AtomicU64::new(0));
    let (host, mut worker) = (in_memory(&nanos), Worker::default());
    accept(&host, vec![ending(0, START_SECS + 1_000)]).await;
    next_cut(&nanos);
    worker.settles(&host).await;
    for some in 1..70_u64 {
        let records = some * 1_000..some * 1_000 + 999;
        accept(&host, records.map(|number| ending(number, START_SECS + 1_000)).collect()).await;
    }
    next_cut(&nanos);
    worker.settles(&host).await;
    assert_ne!(worker.looks(&ending(33_000, START_SECS + 1_000)), Found::Clear);
}
