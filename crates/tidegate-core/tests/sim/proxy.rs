//! One proxy: a gate for each worker, and what they share. It only carries; the gates decide.

use crate::clock::Clock;
use crate::memory::Memory;
use std::collections::BTreeMap;
use tidegate_core::ask::NoAnswer;
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::gate::{Answered, Gate, Question, QuestionId, Step, Ticket};
use tidegate_core::lease::HolderId;
use tidegate_core::policy::{Cost, Matcher, Missing, OnError, Policy, Preflight, Scope};
use tidegate_core::policy::{HeaderFields, Host, Limit};
use tidegate_core::time::{Instant, Span};
use tidegate_core::verdict::Verdict;

pub(crate) const DEADLINE: Span = Span::from_millis(20);

pub(crate) struct Proxy {
    pub(crate) clock: Clock,
    pub(crate) paused_until: u64,
    pub(crate) pause_mid_ask: Option<Span>,
    pub(crate) waited: u64,
    memory: Memory,
    workers: Vec<Worker>,
}

struct Worker {
    gate: Gate,
    /// What each request that is held costs.
    held: BTreeMap<Ticket, u32>,
}

/// What a proxy did with what came to it.
#[derive(Default)]
pub(crate) struct Deeds {
    /// Costs of the requests let through.
    pub(crate) admitted: Vec<u32>,
    pub(crate) questions: Vec<Question>,
    /// Whether the store is to be probed.
    pub(crate) probes: bool,
}

/// What a request costs, as text.
struct Request(String);

impl Facts for Request {
    fn read(&mut self, _: WantId, _: &Want) -> Option<&[u8]> {
        Some(self.0.as_bytes())
    }
}

impl Proxy {
    pub(crate) fn new(
        clock: Clock,
        process: u64,
        policy: &Policy,
        workers: usize,
        memory: Memory,
    ) -> Self {
        let worker = |number: usize| {
            let me = HolderId::new(process, number as u8);
            let mut gate = Gate::new(policy.clone(), &[7; 16], me);
            gate.set_workers(workers as u32);
            Worker { gate, held: BTreeMap::new() }
        };
        Self {
            clock,
            paused_until: 0,
            pause_mid_ask: None,
            waited: 0,
            memory,
            workers: (0..workers).map(worker).collect(),
        }
    }

    pub(crate) fn on_request(&mut self, now: Instant, at: usize, cost: u32) -> Deeds {
        self.memory.now = now;
        let Worker { gate, held } = &mut self.workers[at];
        let mut admitted = Vec::new();
        match gate.on_request(&mut self.memory, &mut Request(cost.to_string())) {
            Step::Answer(Verdict::Allow(_)) => admitted.push(cost),
            Step::Answer(Verdict::Deny(_)) => {}
            Step::Hold(ticket) => {
                self.waited += 1;
                held.insert(ticket, cost);
            }
        }
        self.deeds(at, admitted)
    }

    /// An answer, or none within the deadline.
    pub(crate) fn on_reply(
        &mut self,
        now: Instant,
        at: usize,
        question: QuestionId,
        reply: Result<Answered, NoAnswer>,
    ) -> Deeds {
        self.memory.now = now;
        let gate = &mut self.workers[at].gate;
        gate.on_reply(&mut self.memory, question, reply, &mut |_| true);
        self.deeds(at, Vec::new())
    }

    pub(crate) fn on_probe(&mut self, now: Instant, at: usize, is_ready: bool) {
        self.memory.now = now;
        self.workers[at].gate.on_probe(&mut self.memory, is_ready);
    }

    pub(crate) fn on_tick(&mut self, now: Instant, at: usize) -> Deeds {
        self.memory.now = now;
        let probes = self.workers[at].gate.on_tick(&mut self.memory);
        Deeds { probes, ..self.deeds(at, Vec::new()) }
    }

    /// No request is held for which nothing is on its way.
    pub(crate) fn hangs(&self) -> bool {
        self.workers.iter().any(|worker| !worker.held.is_empty() && !worker.gate.is_asking())
    }

    fn deeds(&mut self, at: usize, mut admitted: Vec<u32>) -> Deeds {
        let Worker { gate, held } = &mut self.workers[at];
        for (ticket, verdict) in gate.take_decided() {
            let cost = held.remove(&ticket).expect("decided once, and only if it was held");
            if matches!(verdict, Verdict::Allow(_)) {
                admitted.push(cost);
            }
        }
        Deeds { admitted, questions: gate.take_questions(), probes: false }
    }
}

/// A policy of one leased limit; and, unless requests go on as soon as they have their units, of
/// an exact one beside it that admits all.
pub(crate) fn policy(
    quota: tidegate_core::limit::Quota,
    reserve: u32,
    proxies: u32,
    (on_error, at_once): (OnError, bool),
) -> Policy {
    let limit = |name: &str, exact: bool| Limit {
        name: name.into(),
        when: Matcher::All(Vec::new()),
        key: Vec::new(),
        missing: Missing::Shared,
        quota: Some(quota),
        overrides: Vec::new(),
        scope: Scope::Global { exact, escrow: reserve > 0 },
        on_error: if exact { OnError::Open } else { on_error },
        cost: Cost::Header { header: WantId(0), default: 1, max: quota.burst() },
        shadow: false,
    };
    let mut limits = vec![limit("leased", false)];
    if !at_once {
        limits.push(limit("exact", true));
    }
    Policy {
        domain: "sim".into(),
        wants: vec![Want::Header("cost".into())],
        limits,
        allow: Vec::new(),
        preflight: Preflight::Count,
        headers: HeaderFields { ratelimit: false, x_ratelimit: false, on_allow: false },
        host: Some(Host {
            cluster: "host".into(),
            authority: "host".into(),
            deadline: DEADLINE,
            breaker: Span::from_millis(100),
        }),
        proxies_max: if reserve > 0 { reserve } else { proxies },
        table_keys_max: 16,
    }
}
