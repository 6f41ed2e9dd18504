//! Leases from the real service, whose memory they are kept in.

mod common;
mod leasing;

use common::{Host, ask_request, one};
use leasing::{Proxy, asking, granted, hourly, replied, send, waiting};
use rustix::process::Signal;
use std::collections::BTreeSet;
use tidegate_core::lease::{Take, WANTS_MAX};
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

/// What it granted the next one knows nothing of; but whoever was granted it does, and says so.
/// Only a proxy that is gone too takes along what is known of what it used.
#[tokio::test]
async fn a_host_that_is_killed_hears_from_holders_what_was_taken_and_from_strangers_nothing() {
    const BURST: u32 = 1_000;
    let mut host = Host::serve("");
    let mut proxy = Proxy::new(1, host.http2().await, hourly(BURST));
    let (mut used, mut eras) = (0, BTreeSet::new());
    for turn in 0..4 {
        let served = proxy.ask(&[1], 200, true).await;
        used += served[0].unwrap().units;
        proxy.ask(&[1], 20, false).await;
        while proxy.take(1) == Take::Admitted {
            used += 1;
        }
        assert!(used <= BURST, "{used} in turn {turn}");
        // Somebody who knows nothing looks on.
        let seen = granted(&mut proxy.caller, &asking(9, turn, &[1], hourly(BURST), 0)).await;
        assert!(seen.remaining <= BURST - used, "{} after {used}", seen.remaining);
        eras.insert(seen.era);
        host.signal(Signal::KILL);
        host.ended().await;
        host = Host::serve("");
        proxy.caller = host.http2().await;
    }
    assert!(used >= BURST / 2, "{used}");
    assert_eq!(eras.len(), 4, "each host's leases are its own");
    let fresh = granted(&mut proxy.caller, &waiting(3, 1, &[1], hourly(BURST), 1)).await;
    assert_eq!((fresh.units, fresh.remaining), (1, BURST - 1), "the budget once more");
}
