//! A proxy that holds leases, as a filter does, and asks the real service for them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use crate::common::{Caller, ask_request};
use bytes::Bytes;
use hyper::Response;
use tidegate_core::ask::LimitTag;
use tidegate_core::key::Key;
use tidegate_core::lease::{
    Ask, Away, Call, Grant, Holder, HolderId, Pool, Reply, Served, Take, Terms, Want,
};
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::{Instant, Span};
use tidegate_core::wire;

pub const LIMIT: LimitTag = LimitTag(9);

/// What proxies wait for an answer here: busy machines are slow.
const PATIENCE_MS: &str = "10000";

/// A proxy of one worker.
pub struct Proxy {
    pub pool: Pool,
    pub caller: Caller,
    quota: Quota,
    zero: std::time::Instant,
}

impl Proxy {
    pub fn new(process: u64, caller: Caller, quota: Quota) -> Self {
        let me = HolderId::new(process, 0);
        Self { pool: Pool::new(me, 1_000), caller, quota, zero: std::time::Instant::now() }
    }

    /// Its own clock, which nobody else's is compared with.
    pub fn now(&self) -> Instant {
        Instant(1 + u64::try_from(self.zero.elapsed().as_nanos()).unwrap())
    }

    pub fn terms(&self) -> Terms {
        Terms::new(self.quota, Span::from_millis(20), 0).unwrap()
    }

    pub fn holder(&mut self, number: u8) -> &mut Holder {
        let (now, terms) = (self.now(), self.terms());
        self.pool.holder(now, key(number), LIMIT, &terms).unwrap()
    }

    pub fn take(&mut self, number: u8) -> Take {
        let (now, terms) = (self.now(), self.terms());
        self.holder(number).take(now, &terms, 1)
    }

    /// Requests that wait for `units` of each of these keys: what they are served at once, or
    /// else what is held.
    pub async fn ask(
        &mut self,
        numbers: &[u8],
        units: u32,
        at_once: bool,
    ) -> Vec<Result<Served, Away>> {
        let calls: Vec<_> = numbers
            .iter()
            .map(|number| {
                self.holder(*number);
                Call { key: key(*number), waiting: units, least: units.min(1), at_once }
            })
            .collect();
        let (ask, flights) = self.pool.ask(self.now(), &calls).unwrap();
        let reply = replied(&mut self.caller, &ask).await;
        let (now, mut served) = (self.now(), Vec::new());
        assert!(self.pool.on_reply(now, flights, &reply, |_, it| served.push(it)));
        served
    }

    /// Returns all that it holds; what is left of each key then.
    pub async fn drain(&mut self) -> Vec<u32> {
        let mut left = Vec::new();
        while let Some(ask) = self.pool.drain(self.now()) {
            let reply = replied(&mut self.caller, &ask).await;
            left.extend(reply.grants.iter().map(|grant| grant.unwrap().remaining));
        }
        left
    }
}

pub fn key(number: u8) -> Key {
    let mut bytes = [number; 16];
    bytes[0] = 1;
    Key(bytes)
}

/// So many an hour, all of them at once if need be: nothing to speak of refills meanwhile.
pub fn hourly(burst: u32) -> Quota {
    Quota::new(Algorithm::TokenBucket, burst, Span::from_secs(3_600), burst).unwrap()
}

/// An ask of one who holds nothing, of whom no request waits.
pub fn asking(process: u64, seq: u64, numbers: &[u8], quota: Quota, units: u32) -> Ask {
    let want = |number: &u8| Want { units, ..Want::nothing(key(*number), LIMIT, quota) };
    let wants = numbers.iter().map(want).collect();
    Ask { holder: HolderId::new(process, 0), seq, wants }
}

/// The same, of requests that wait.
pub fn waiting(process: u64, seq: u64, numbers: &[u8], quota: Quota, units: u32) -> Ask {
    let mut ask = asking(process, seq, numbers, quota, units);
    ask.wants.iter_mut().for_each(|want| (want.soon, want.least) = (units, units.min(1)));
    ask
}

/// Sends as a proxy does, whatever comes of it.
pub async fn send(caller: &mut Caller, ask: &Ask) -> (Response<()>, Bytes) {
    let mut request = ask_request(wire::encode_lease_ask(ask));
    request.headers_mut().insert(wire::WAITS_MS, PATIENCE_MS.parse().unwrap());
    caller.send(request).await
}

/// The reply, where there must be one.
pub async fn replied(caller: &mut Caller, ask: &Ask) -> Reply {
    let (head, body) = send(caller, ask).await;
    assert_eq!(head.status(), 200, "{body:?}");
    assert_eq!(head.headers()["content-type"], wire::ASK_TYPE);
    assert_eq!(head.headers()["x-tidegate"], "1");
    let reply = wire::decode_lease_reply(&body).unwrap();
    assert_eq!((reply.seq, reply.grants.len()), (ask.seq, ask.wants.len()));
    reply
}

/// The grant of the first key, where there must be one.
pub async fn granted(caller: &mut Caller, ask: &Ask) -> Grant {
    replied(caller, ask).await.grants[0].unwrap()
}
