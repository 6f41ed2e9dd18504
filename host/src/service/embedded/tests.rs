use super::*;
use http_body_util::BodyExt;
use std::sync::atomic::Ordering;
use tidegate_core::ask::LimitTag;
use tidegate_core::key::Key;
use tidegate_core::lease::{Ask, Grant, HolderId, Settled, Want};
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;
use tidegate_core::wire;

/// A store on a clock that stands still unless it is told to go on.
struct Store {
    nanos: Arc<AtomicU64>,
    embedded: Embedded,
}

impl Store {
    fn new() -> Self {
        let nanos = Arc::new(AtomicU64::new(0));
        Self { embedded: Embedded::on_clock(nanos.clone(), 0, 1_000, Plugins::none()), nanos }
    }

    fn passes(&self, ms: u64) {
        self.nanos.fetch_add(ms * 1_000_000, Ordering::Relaxed);
    }

    async fn send(&self, ask: &Ask) -> (u16, Bytes) {
        let request = Request::post("/v1/ask")
            .header("content-type", wire::ASK_TYPE)
            .body(Full::from(wire::encode_lease_ask(ask)));
        let reply = self.embedded.answer(request.unwrap()).await;
        let status = reply.status().as_u16();
        (status, reply.into_body().collect().await.unwrap().to_bytes())
    }

    async fn grant(&self, seq: u64, want: Want) -> Grant {
        let ask = Ask { holder: HolderId::new(1, 0), seq, wants: vec![want] };
        let (status, body) = self.send(&ask).await;
        assert_eq!(status, 200, "{body:?}");
        wire::decode_lease_reply(&body).unwrap().grants[0].unwrap()
    }
}

fn want() -> Want {
    let quota = Quota::new(Algorithm::TokenBucket, 100, Span::from_secs(3_600), 100).unwrap();
    Want::nothing(Key([1; 16]), LimitTag(1), quota)
}

/// Nobody held anything before the process began, so the first ask may have all there is.
async fn history() -> Vec<Grant> {
    let store = Store::new();
    store.grant(1, want()).await;
    let leased = store.grant(2, Want { units: 20, least: 1, ..want() }).await;
    store.passes(400);
    let mut told = Want { era: leased.era, version: leased.version, ..want() };
    told.settled[0] = Settled { epoch: leased.epoch, spent: 12, returned: 8 };
    let settled = store.grant(3, told).await;
    let waited = store.grant(4, Want { units: 3, soon: 3, least: 3, ..want() }).await;
    vec![leased, settled, waited]
}

#[tokio::test]
async fn leases_on_a_clock_that_is_given_are_the_same_on_every_run() {
    let first = history().await;
    let brief = first.iter().map(|grant| (grant.units, grant.soon, grant.remaining));
    assert_eq!(brief.collect::<Vec<_>>(), [(20, 0, 80), (0, 0, 88), (3, 3, 85)]);
    assert_eq!(history().await, first);
}

#[tokio::test]
async fn what_comes_twice_and_what_is_no_ask_is_told_as_through_a_door() {
    let store = Store::new();
    let ask = Ask { holder: HolderId::new(1, 0), seq: 1, wants: vec![want()] };
    assert_eq!(store.send(&ask).await.0, 200);
    assert_eq!(store.send(&ask).await.0, 409);
    let none = Ask { wants: Vec::new(), ..ask };
    assert_eq!(store.send(&none).await.0, 400);
    let mut page = String::new();
    store.embedded.write_metrics(&mut page);
    for line in [
        "tidegate_asks_total{outcome=\"leased\"} 1",
        "tidegate_asks_total{outcome=\"again\"} 1",
        "tidegate_asks_total{outcome=\"malformed\"} 1",
        "tidegate_lease_asks_unsettled_total 1",
    ] {
        assert!(page.lines().any(|it| it == line), "no {line} in:\n{page}");
    }
}

/// A store that went away with all it knew, as `tidegate test` lets it, is another one: what a
/// holder tells of the first is not believed by the second.
#[tokio::test]
async fn a_store_that_comes_back_empty_is_of_another_era() {
    let (first, second) = (Store::new(), Store::new());
    let leased = first.grant(1, Want { units: 20, least: 1, ..want() }).await;
    second.passes(400);
    let holds =
        Want { era: leased.era, version: leased.version, known: 20, units: 1, least: 1, ..want() };
    let grant = second.grant(1, holds).await;
    assert_ne!(grant.era, leased.era);
    assert_eq!((grant.units, grant.remaining), (1, 79), "what it knows to be taken is");
}

/// As through a door, and the same on every run: what is revoked in this process is told to the
/// filters in it, at once and without waiting for what may come.
#[tokio::test]
async fn filters_are_told_what_is_revoked_in_this_process() {
    use crate::revocations::Durability;
    use tidegate_core::revoke::message::{Check, Form, NewsAsk};
    use tidegate_core::revoke::{EVER, Id, Kind, Position, Record};

    async fn post(store: &Store, body: Vec<u8>) -> Bytes {
        let request = Request::post("/v1/ask")
            .header("content-type", wire::ASK_TYPE)
            .header(wire::WAITS_MS, "60000")
            .body(Full::from(body));
        let reply = store.embedded.answer(request.unwrap()).await;
        assert_eq!(reply.status(), 200);
        reply.into_body().collect().await.unwrap().to_bytes()
    }

    let store = Store::new();
    let mut ask =
        NewsAsk { known: Position::default(), cut: 0, form: Form::Fuse, wants_keys: true };
    let first = post(&store, wire::revoke::encode_news_ask(&ask)).await;
    ask.known = wire::revoke::decode_news(&first).unwrap().position;
    let id = Id::of(Kind::Session, &[b"iss", b"sid"]);
    let record = Record {
        id,
        kind: Kind::Session,
        lifts: false,
        before_secs: EVER,
        until_secs: EVER,
        by_exp: false,
        at_ms: 0,
    };
    let revocations = store.embedded.revocations().unwrap();
    revocations.accept(vec![record], Durability::Shared).await.unwrap();
    store.passes(30);
    let news = post(&store, wire::revoke::encode_news_ask(&ask)).await;
    let news = wire::revoke::decode_news(&news).unwrap();
    assert_eq!((news.deltas[0].id, news.deltas[0].age_ms, news.held_ms), (id, 30, 0));
    let checked = post(&store, wire::revoke::encode_check(&Check { ids: vec![id] })).await;
    assert_eq!(wire::revoke::decode_checked(&checked).unwrap().before_secs, [EVER]);
}
