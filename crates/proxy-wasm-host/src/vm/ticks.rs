//! When a machine's root contexts want to be called next.

use super::ContextId;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The periods that root contexts asked for. A context whose tick runs is not due before it
/// has returned: ticks never overlap.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    known: RefCell<BTreeMap<ContextId, Tick>>,
}

#[derive(Clone, Copy, Debug)]
struct Tick {
    period_ns: u64,
    due_ns: u64,
}

impl Ticks {
    /// Calls a root context from now on in this period; 0 is never again.
    pub(crate) fn set(&self, root: ContextId, period_ms: u32, now_ns: u64) {
        let mut known = self.known.borrow_mut();
        if period_ms == 0 {
            known.remove(&root);
            return;
        }
        let period_ns = u64::from(period_ms) * 1_000_000;
        known.insert(root, Tick { period_ns, due_ns: now_ns.saturating_add(period_ns) });
    }

    /// When the first is due.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.known.borrow().values().map(|tick| tick.due_ns).min()
    }

    /// The contexts that are due now.
    pub(crate) fn due(&self, now_ns: u64) -> Vec<ContextId> {
        let known = self.known.borrow();
        known.iter().filter(|(_, tick)| tick.due_ns <= now_ns).map(|(root, _)| *root).collect()
    }

    pub(crate) fn is_due(&self, root: ContextId, now_ns: u64) -> bool {
        self.known.borrow().get(&root).is_some_and(|tick| tick.due_ns <= now_ns)
    }

    /// A context's tick has returned: the next period begins, if there still is one.
    pub(crate) fn rearm(&self, root: ContextId, now_ns: u64) {
        if let Some(tick) = self.known.borrow_mut().get_mut(&root) {
            tick.due_ns = now_ns.saturating_add(tick.period_ns);
        }
    }

    pub(crate) fn forget_all(&self) {
        self.known.borrow_mut().clear();
    }
}
