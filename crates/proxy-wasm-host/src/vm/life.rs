//! How root contexts, and with the last of them the machine, come to their end.

use super::state::{Life, Root};
use super::streams::Step;
use super::{ContextId, Running, Vm};
use crate::foreign;
use crate::plugin::PluginConfig;
use std::rc::Rc;

impl Vm {
    /// Nobody will open streams of this root context any more. When its last stream is over
    /// it is told that it is done.
    pub(crate) fn retire(&self, root: ContextId) {
        let is_idle = self.with(|state| {
            let known = state.contexts.root(root)?;
            known.life = Life::Retired;
            Some(known.is_idle())
        });
        if is_idle.flatten() == Some(true) {
            self.end_root(root);
        }
    }

    /// Tells a root context that it is done. It may answer that it has things to do yet: then
    /// it lives until it calls `proxy_done`.
    pub(super) fn end_root(&self, root: ContextId) {
        let is_done = self.run(root, "proxy_on_done", |Running { store, entries }| {
            let Some(entry) = &entries.found.on_done else { return Ok(true) };
            entry.call(store, (root,)).map(|is_done| is_done != 0)
        });
        match is_done {
            Ok(true) => self.delete_root(root),
            Ok(false) => {
                self.with(|state| {
                    let root = state.contexts.root(root)?;
                    root.life = Life::Ending;
                    Some(())
                });
            }
            Err(_) => {}
        }
    }

    /// Deletes a root context, and the machine if it was the last.
    pub(super) fn delete_root(&self, root: ContextId) {
        let deleted = self.run(root, "proxy_on_delete", |Running { store, entries }| {
            let Some(entry) = &entries.found.on_delete else { return Ok(()) };
            entry.call(store, (root,))
        });
        if deleted.is_err() {
            return;
        }
        self.ticks.set(root, 0, 0);
        let outside = self.outside.clone();
        let is_over = self.with(|state| {
            state.callouts.cancel(Some(root), self.id, &*outside);
            state.contexts.remove(root);
            state.contexts.is_empty()
        });
        if is_over == Some(true) {
            self.leave();
        }
    }

    /// Whether the module wants to know of a stream's beginning or end.
    pub(super) fn calls_back(&self, step: Step) -> bool {
        self.callbacks.has_step(step)
    }
}

impl Root {
    pub(super) fn new(config: Rc<PluginConfig>) -> Self {
        Self { config, memory: foreign::Memory::default(), streams: 0, life: Life::InUse }
    }

    /// Whether it is retired and its last stream is over.
    pub(super) fn is_idle(&self) -> bool {
        self.life == Life::Retired && self.streams == 0
    }
}
