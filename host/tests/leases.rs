//! Leases from the real service, whose memory they are kept in.

mod common;
mod leasing;

use common::{Caller, DEADLINE, Host, ask_request, one};
use leasing::{asking, granted, hourly, replied, send, waiting};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tidegate_core::lease::WANTS_MAX;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;
use tidegate_core::wire;

const LEASED: &str = "tidegate_asks_total{outcome=\"leased\"}";

#[tokio::test]
async fn both_kinds_of_asks_are_answered_on_one_path() {
    let host = Host::serve("");
    for (process, mut caller) in [(1, host.http1().await), (2, host.http2().await)] {
        caller.reply(&one(1, 100)).await;
        let all: Vec<u8> = (0..WANTS_MAX as u8).collect();
        replied(&mut caller, &asking(process, 1, &all, hourly(100), 1)).await;
    }
    assert_eq!(host.metric(LEASED).await, 2.0);
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"admitted\"}").await, 2.0);
    assert_eq!(host.metric("tidegate_items_total{outcome=\"admitted\"}").await, 2.0);
    assert_eq!(host.metric("tidegate_ask_seconds_count").await, 4.0);
}

#[tokio::test]
async fn an_ask_that_comes_twice_gets_409_the_second_time() {
    let host = Host::serve("");
    let mut proxy = host.http2().await;
    let ask = asking(1, 1, &[1], hourly(100), 0);
    replied(&mut proxy, &ask).await;
    let (head, body) = send(&mut proxy, &ask).await;
    assert_eq!((head.status().as_u16(), &body[..]), (409, &b"this ask has come before\n"[..]));
    replied(&mut proxy, &asking(1, 2, &[1], hourly(100), 0)).await;
    // Who never numbered an ask so is another.
    replied(&mut proxy, &asking(2, 1, &[1], hourly(100), 0)).await;
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"again\"}").await, 1.0);
    assert_eq!(host.metric("tidegate_lease_asks_unsettled_total").await, 2.0);
    assert_eq!(host.metric("tidegate_lease_wants_total{outcome=\"told\"}").await, 3.0);
}

#[tokio::test]
async fn what_is_wrong_with_an_ask_for_leases_is_said_and_where() {
    let host = Host::serve("");
    let ask = asking(1, 1, &[1, 2], hourly(100), 3);
    let good = wire::encode_lease_ask(&ask);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut twice = ask.clone();
    twice.wants[1].key = twice.wants[0].key;
    let mut greedy = ask.clone();
    greedy.wants[0].soon = 4;
    let mut long = good.clone();
    long.push(0);
    for (bytes, status, says) in [
        (with(0, 1), 400, "malformed ask: a version other than 2 at byte 0"),
        (with(1, b'G'), 400, "malformed ask: another kind of message at byte 1"),
        (with(2, 0), 400, "malformed ask: not 1 to 64 wants at byte 2"),
        (with(2, 3), 400, "malformed ask: cut short at byte 261"),
        (with(43, 3), 400, "malformed ask: a quota that is not leased at byte 43"),
        (good[..100].to_vec(), 400, "malformed ask: cut short at byte 100"),
        (long, 400, "malformed ask: bytes after the end at byte 261"),
        (wire::encode_lease_ask(&twice), 400, "malformed ask: the same key twice at byte 140"),
        (
            wire::encode_lease_ask(&greedy),
            400,
            "malformed ask: more than all that is wanted at byte 120",
        ),
        (vec![b'L'; wire::LEASE_ASK_BYTES_MAX + 1], 413, "an ask has at most 7763 bytes"),
    ] {
        for mut caller in [host.http1().await, host.http2().await] {
            let (head, body) = caller.ask(bytes.clone()).await;
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert_eq!((head.status().as_u16(), body.trim_end()), (status, says));
        }
    }
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"malformed\"}").await, 18.0);
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"too_large\"}").await, 2.0);
    assert_eq!(host.metric(LEASED).await, 0.0);
}

#[tokio::test]
async fn demand_for_leases_counts_for_shares_of_exact_asks() {
    let host = Host::serve("");
    let mut proxy = host.http2().await;
    let mut ask = asking(1, 1, &[1], hourly(100), 0);
    (ask.wants[0].limit, ask.wants[0].tried) = (one(1, 100).items[0].limit, 3);
    let mut request = ask_request(wire::encode_lease_ask(&ask));
    request.headers_mut().insert(wire::PROXY, "proxy-2".parse().unwrap());
    assert_eq!(proxy.send(request).await.0.status(), 200);
    let share = proxy.reply(&one(1, 100)).await.answers[0].share_ppm;
    assert!((274_000..277_000).contains(&share), "a quarter of 90 %, half of 10 %: {share}");
}

/// Whoever asks wants all that there is, for requests that wait, and each host is killed when it
/// has no more. What it granted the next one knows nothing of; but it knows that.
#[tokio::test]
async fn a_host_that_is_killed_and_started_again_grants_nobody_more_than_the_limit() {
    const RATE: u32 = 200;
    let quota = Quota::new(Algorithm::TokenBucket, RATE, Span::from_secs(1), RATE).unwrap();
    let mut host = Host::serve("");
    let mut proxy = host.http2().await;
    // The first host does not know that it is the first. It fills up before anything is taken.
    let (mut seq, end) = (1, Instant::now() + DEADLINE);
    while granted(&mut proxy, &asking(1, seq, &[1], quota, 0)).await.remaining < RATE {
        assert!(Instant::now() < end, "a host that never fills up");
        seq += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (start, mut units, mut eras) = (Instant::now(), 0, BTreeSet::new());
    let mut take = async |proxy: &mut Caller| {
        seq += 1;
        let grant = granted(proxy, &waiting(1, seq, &[1], quota, RATE)).await;
        units += grant.units;
        let most = f64::from(RATE) * (1.0 + start.elapsed().as_secs_f64());
        assert!(f64::from(units) <= most, "{units} granted, and {most} are the most");
        eras.insert(grant.era);
        grant.units
    };
    let mut of_the_first = 0;
    for turn in 0..3 {
        loop {
            let more = take(&mut proxy).await;
            of_the_first += if turn == 0 { more } else { 0 };
            // No more than what refills from one ask to the next.
            if more < RATE / 10 {
                break;
            }
        }
        host.signal(Signal::KILL);
        host.ended().await;
        host = Host::serve("");
        proxy = host.http2().await;
    }
    assert!(of_the_first >= RATE / 2, "{of_the_first}");
    assert_eq!(take(&mut proxy).await, 0, "at first there is nothing");
    let end = Instant::now() + DEADLINE;
    while take(&mut proxy).await == 0 {
        assert!(Instant::now() < end, "a host that grants nothing any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(eras.len(), 4, "each host's leases are its own");
}
