//! A proxy process without a proxy: workers, shared memory, a clock that a test moves.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_core::ask::{Ask, NoAnswer, Reply};
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::gate::{
    Answered, Asked, Gate, Ground, Question, QuestionId, SharedPlace, Step, Ticket,
};
use tidegate_core::lease::HolderId;
use tidegate_core::policy::Policy;
use tidegate_core::table::{Conflict, SET_BYTES, Slots};
use tidegate_core::time::{Instant, Span};
use tidegate_core::verdict::{Denial, Verdict};
use tidegate_policy::resolve::resolve;
use tidegate_policy::text::Document;

/// Reads a policy, which must be free of errors.
pub(crate) fn policy(json: serde_json::Value) -> Policy {
    let document: Document = serde_json::from_value(json).unwrap();
    let resolved = resolve(&document);
    resolved.policy.unwrap_or_else(|| panic!("{:#?}", resolved.diagnostics))
}

/// Reads a policy of these limits.
pub(crate) fn limits(limits: serde_json::Value) -> Policy {
    policy(serde_json::json!({
        "tidegate": 1, "domain": "shop", "limits": limits, "host": { "cluster": "host" }
    }))
}

/// Each set's bytes and version.
type Sets = HashMap<u32, (Vec<u8>, u32)>;

/// Each shared value and its version.
type Shared = HashMap<SharedPlace, (Vec<u8>, u32)>;

/// What all workers of a process share.
#[derive(Clone, Default)]
pub(crate) struct Process {
    sets: Rc<RefCell<Sets>>,
    now: Rc<Cell<u64>>,
    pub(crate) loads: Rc<Cell<u64>>,
    pub(crate) clock_reads: Rc<Cell<u64>>,
    /// Values that all workers share, and their versions.
    shared: Rc<RefCell<Shared>>,
    /// How many of the next stores meet a change by somebody else.
    pub(crate) conflicts: Rc<Cell<u64>>,
}

pub(crate) struct Worker {
    pub(crate) gate: Gate,
    pub(crate) process: Process,
}

/// A request: header fields, properties by their path, and the client's address.
#[derive(Clone, Default)]
pub(crate) struct Request(HashMap<String, Vec<u8>>);

impl Process {
    pub(crate) fn worker(&self, policy: &Policy) -> Worker {
        // No two gates have one name, whatever their process.
        static GATES: AtomicU64 = AtomicU64::new(1);
        let number = GATES.fetch_add(1, Ordering::Relaxed);
        let gate = Gate::new(policy.clone(), &[7; 16], HolderId::new(number, 0));
        Worker { gate, process: self.clone() }
    }

    /// Bytes of images that workers share.
    pub(crate) fn shared_image_bytes(&self) -> usize {
        let is_image =
            |place: &SharedPlace| matches!(place, SharedPlace::Chunk(_) | SharedPlace::Page(_));
        let shared = self.shared.borrow();
        let images = shared.iter().filter(|(place, _)| is_image(place));
        images.map(|(_, (bytes, _))| bytes.len()).sum()
    }

    /// Has pages of images begin with another image's name.
    pub(crate) fn muddle_pages(&self) {
        for (place, (bytes, _)) in self.shared.borrow_mut().iter_mut() {
            if matches!(place, SharedPlace::Page(_)) && !bytes.is_empty() {
                bytes[0] ^= 1;
            }
        }
    }

    pub(crate) fn workers(&self, policy: &Policy, count: usize) -> Vec<Worker> {
        (0..count).map(|_| self.worker(policy)).collect()
    }

    pub(crate) fn pass(&self, span: Span) {
        self.now.set(self.now.get() + span.0);
    }

    pub(crate) fn now(&self) -> Instant {
        Instant(self.now.get())
    }
}

impl Worker {
    pub(crate) fn step(&mut self, request: &Request) -> Step {
        self.gate.on_request(&mut self.process, &mut request.clone())
    }

    /// The verdict of a request that must not need the store.
    pub(crate) fn verdict(&mut self, request: &Request) -> Verdict {
        match self.step(request) {
            Step::Answer(verdict) => verdict,
            Step::Hold(..) => panic!("asked the store"),
        }
    }

    pub(crate) fn admits(&mut self, request: &Request) -> bool {
        matches!(self.verdict(request), Verdict::Allow(_))
    }

    pub(crate) fn denial(&mut self, request: &Request) -> Denial {
        match self.verdict(request) {
            Verdict::Deny(denial) => denial,
            other => panic!("{other:?}"),
        }
    }

    /// How many of `count` such requests are let through.
    pub(crate) fn admitted(&mut self, request: &Request, count: u32) -> u32 {
        (0..count).map(|_| u32::from(self.admits(request))).sum()
    }

    /// The question of a request that must wait for the store.
    pub(crate) fn asked(&mut self, request: &Request) -> (Ticket, QuestionId, Ask) {
        let ticket = match self.step(request) {
            Step::Hold(ticket) => ticket,
            Step::Answer(verdict) => panic!("answered {verdict:?}"),
        };
        let (question, ask) = self.questions().pop().expect("a question");
        (ticket, question, ask)
    }

    /// Questions about exact limits that are to be sent.
    pub(crate) fn questions(&mut self) -> Vec<(QuestionId, Ask)> {
        let exact = |Question { id, ask, .. }| match ask {
            Asked::Exact(ask) => (id, ask),
            other => panic!("asked {other:?}"),
        };
        self.gate.take_questions().into_iter().map(exact).collect()
    }

    /// What is decided once a question about exact limits is answered; `None` if no request
    /// waited for it.
    pub(crate) fn reply(
        &mut self,
        question: QuestionId,
        reply: Result<Reply, NoAnswer>,
    ) -> Option<Verdict> {
        let reply = reply.map(Answered::Exact);
        self.gate.on_reply(&mut self.process, question, reply, &mut |_| true);
        self.gate.take_decided().pop().map(|(_, verdict)| verdict)
    }

    pub(crate) fn tick(&mut self) -> bool {
        self.gate.on_tick(&mut self.process)
    }
}

impl Request {
    pub(crate) fn new() -> Self {
        Self::default().with(":method", "GET").with(":path", "/").with("address", "192.0.2.1:4711")
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.insert(name.into(), value.as_ref().into());
        self
    }

    pub(crate) fn key(value: &str) -> Self {
        Self::new().with("x-key", value)
    }
}

impl Facts for Request {
    fn read(&mut self, _: WantId, want: &Want) -> Option<&[u8]> {
        let name = match want {
            Want::Header(name) | Want::SoleHeader(name) => name.to_string(),
            Want::Claim { .. } | Want::Output { .. } => return None, // no shell is asked
            Want::ClientAddress => "address".into(),
            Want::Route => "route".into(),
            Want::Property(path) => path.join("/"),
        };
        self.0.get(&name).map(Vec::as_slice)
    }
}

impl Slots for Process {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        self.loads.set(self.loads.get() + 1);
        match self.sets.borrow().get(&set) {
            Some((bytes, version)) => {
                into.copy_from_slice(bytes);
                *version
            }
            None => {
                into.fill(0);
                0
            }
        }
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict> {
        if self.conflicts.get() > 0 {
            self.conflicts.set(self.conflicts.get() - 1);
            return Err(Conflict);
        }
        let mut sets = self.sets.borrow_mut();
        let current = sets.get(&set).map_or(0, |(_, version)| *version);
        if current != version {
            return Err(Conflict);
        }
        sets.insert(set, (bytes.to_vec(), version + 1));
        Ok(())
    }
}

impl Ground for Process {
    fn now(&mut self) -> Instant {
        self.clock_reads.set(self.clock_reads.get() + 1);
        Process::now(self)
    }

    fn shared(&mut self, place: SharedPlace, read: &mut dyn FnMut(&[u8])) -> u32 {
        let shared = self.shared.borrow();
        let Some((bytes, version)) = shared.get(&place) else { return 0 };
        read(bytes);
        *version
    }

    fn share(
        &mut self,
        place: SharedPlace,
        bytes: &[u8],
        version: Option<u32>,
    ) -> Result<(), Conflict> {
        let mut shared = self.shared.borrow_mut();
        let current = shared.get(&place).map_or(0, |(_, version)| *version);
        if version.is_some_and(|version| version != current) {
            return Err(Conflict);
        }
        shared.insert(place, (bytes.to_vec(), current + 1));
        Ok(())
    }
}
