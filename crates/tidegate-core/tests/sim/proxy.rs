//! One proxy: in each worker a gate, and those that it took the place of; and what they share.
//! It only carries; the gates decide.

use crate::clock::Clock;
use crate::memory::Memory;
use crate::request::Request;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_core::ask::NoAnswer;
use tidegate_core::gate::{Answered, Gate, Question, QuestionId, Step, Ticket};
use tidegate_core::lease::HolderId;
use tidegate_core::policy::Policy;
use tidegate_core::time::{Instant, Span};
use tidegate_core::verdict::Verdict;

/// More than a proxy has workers: no two gates of a process have one name.
const WORKERS_MAX: usize = 16;

pub(crate) struct Proxy {
    pub(crate) clock: Clock,
    pub(crate) paused_until: u64,
    pub(crate) pause_mid_ask: Option<Span>,
    pub(crate) waited: u64,
    process: u64,
    memory: Memory,
    workers: Vec<Worker>,
}

/// The gates that a worker has had, each under another policy. The last one is in force; what
/// the others held when they were replaced, they decide.
struct Worker(Vec<Post>);

struct Post {
    gate: Gate,
    held: BTreeMap<Ticket, Request>,
    /// Requests that died, of which their gate does not know yet.
    dead: BTreeSet<Ticket>,
}

/// Which of a proxy's gates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) worker: usize,
    pub(crate) post: usize,
}

/// What a proxy did with what came to it.
#[derive(Default)]
pub(crate) struct Deeds {
    /// The requests let through.
    pub(crate) admitted: Vec<Request>,
    /// Of which limits some were decided without the store: a bit for each. Those of `admitted`
    /// may have been let through on trust.
    pub(crate) on_trust: u8,
    /// The request that came, if it is held, and where.
    pub(crate) held: Option<(At, Ticket)>,
    pub(crate) questions: Vec<(At, Question)>,
    /// Of which gate the store is to be probed.
    pub(crate) probes: Option<At>,
}

impl Proxy {
    pub(crate) fn new(
        clock: Clock,
        process: u64,
        policy: &Policy,
        workers: usize,
        memory: Memory,
    ) -> Self {
        let mut proxy = Self {
            clock,
            paused_until: 0,
            pause_mid_ask: None,
            waited: 0,
            process,
            memory,
            workers: (0..workers).map(|_| Worker(Vec::new())).collect(),
        };
        for worker in 0..workers {
            proxy.post(worker, policy);
        }
        proxy
    }

    pub(crate) fn on_request(&mut self, now: Instant, worker: usize, request: Request) -> Deeds {
        self.memory.now = now;
        let at = self.in_force(worker);
        let Post { gate, held, .. } = &mut self.workers[worker].0[at.post];
        let mut deeds = Deeds::default();
        match gate.on_request(&mut self.memory, &mut request.facts()) {
            Step::Answer(Verdict::Allow(_)) => deeds.admitted.push(request),
            Step::Answer(Verdict::Deny(_) | Verdict::Reject(_)) => {}
            Step::Hold(ticket) => {
                self.waited += 1;
                held.insert(ticket, request);
                deeds.held = Some((at, ticket));
            }
        }
        self.gather(at, deeds)
    }

    /// An answer, or none within the deadline.
    pub(crate) fn on_reply(
        &mut self,
        now: Instant,
        at: At,
        question: QuestionId,
        reply: Result<Answered, NoAnswer>,
    ) -> Deeds {
        self.memory.now = now;
        let Post { gate, dead, .. } = &mut self.workers[at.worker].0[at.post];
        gate.on_reply(&mut self.memory, question, reply, &mut |ticket| !dead.contains(&ticket));
        self.gather(at, Deeds::default())
    }

    /// A request dies, if it still waits; its gate is told, or finds it dead when it looks.
    pub(crate) fn on_gone(&mut self, now: Instant, at: At, ticket: Ticket, is_told: bool) -> Deeds {
        self.memory.now = now;
        let Post { gate, held, dead } = &mut self.workers[at.worker].0[at.post];
        if held.remove(&ticket).is_some() {
            if is_told {
                gate.on_gone(&mut self.memory, ticket);
            } else {
                dead.insert(ticket);
            }
        }
        self.gather(at, Deeds::default())
    }

    pub(crate) fn on_probe(&mut self, now: Instant, at: At, is_ready: bool) {
        self.memory.now = now;
        self.workers[at.worker].0[at.post].gate.on_probe(&mut self.memory, is_ready);
    }

    pub(crate) fn on_tick(&mut self, now: Instant, worker: usize) -> Deeds {
        self.memory.now = now;
        self.take_over(worker);
        let at = self.in_force(worker);
        let mut deeds = Deeds::default();
        for post in 0..at.post {
            self.workers[worker].0[post].gate.drain(&mut self.memory);
            deeds = self.gather(At { worker, post }, deeds);
        }
        if self.workers[worker].0[at.post].gate.on_tick(&mut self.memory) {
            deeds.probes = Some(at);
        }
        self.gather(at, deeds)
    }

    /// Replaces a worker's policy, as the filter does.
    pub(crate) fn on_configure(&mut self, now: Instant, worker: usize, policy: &Policy) -> Deeds {
        self.memory.now = now;
        let at = self.in_force(worker);
        self.workers[worker].0[at.post].gate.drain(&mut self.memory);
        self.post(worker, policy);
        self.take_over(worker);
        self.gather(at, Deeds::default())
    }

    /// No request is held for which nothing is on its way.
    pub(crate) fn hangs(&self) -> bool {
        let posts = self.workers.iter().flat_map(|worker| &worker.0);
        posts.into_iter().any(|post| !post.held.is_empty() && !post.gate.is_asking())
    }

    fn in_force(&self, worker: usize) -> At {
        At { worker, post: self.workers[worker].0.len() - 1 }
    }

    fn post(&mut self, worker: usize, policy: &Policy) {
        let workers = self.workers.len();
        let posts = &mut self.workers[worker].0;
        let me = HolderId::new(self.process, (worker + posts.len() * WORKERS_MAX) as u8);
        let mut gate = Gate::new(policy.clone(), &[7; 16], me);
        gate.set_workers(workers as u32);
        posts.push(Post { gate, held: BTreeMap::new(), dead: BTreeSet::new() });
    }

    /// Has the gate in force take over what those before it are owed.
    fn take_over(&mut self, worker: usize) {
        if let Some((last, before)) = self.workers[worker].0.split_last_mut() {
            before.iter_mut().for_each(|old| last.gate.take_over(&mut old.gate));
        }
    }

    fn gather(&mut self, at: At, mut deeds: Deeds) -> Deeds {
        let Post { gate, held, .. } = &mut self.workers[at.worker].0[at.post];
        for (ticket, verdict) in gate.take_decided() {
            let request = held.remove(&ticket).expect("decided once, if it is held and alive");
            if matches!(verdict, Verdict::Allow(_)) {
                deeds.admitted.push(request);
            }
        }
        for (number, (_, tally)) in gate.take_tallies().enumerate() {
            deeds.on_trust |= u8::from(tally.degraded > 0) << number;
        }
        deeds.questions.extend(gate.take_questions().into_iter().map(|question| (at, question)));
        deeds
    }
}
