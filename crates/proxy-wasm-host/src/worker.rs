//! One thread's machines: where filters start, tick, and get answers to their calls.

mod filter;
mod process;

use crate::engine::Module;
use crate::outside::{CallToken, GrpcEvent, HttpResponse, Outside};
use crate::plugin::{Limits, PluginConfig};
use crate::vm::state::Place;
use crate::vm::{ContextId, Machines, Vm};
use process::Inbox;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use filter::Entrance;
pub use filter::Filter;
pub use process::Process;

/// The machines of one thread.
pub struct Worker {
    shared: Rc<Shared>,
}

/// What filters need of their worker, to start anew in it.
struct Shared {
    process: Arc<Process>,
    outside: Rc<dyn Outside>,
    inbox: Arc<Inbox>,
    machines: Rc<Machines>,
    restarts: Cell<u64>,
}

/// A filter's place in a machine.
struct Seat {
    vm: Rc<Vm>,
    root: ContextId,
}

/// Why a filter did not start: one line that names what and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(pub String);

impl Worker {
    /// A worker without filters. `wake` is called, perhaps from another thread, when there
    /// is something for [`Worker::run_due`] to do.
    #[must_use]
    pub fn new(
        process: &Arc<Process>,
        outside: Rc<dyn Outside>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Rc<Self> {
        let shared = Shared {
            process: process.clone(),
            outside,
            inbox: process.open_inbox(wake),
            machines: Rc::default(),
            restarts: Cell::new(0),
        };
        Rc::new(Self { shared: Rc::new(shared) })
    }

    /// Starts a filter, in a machine of its own or in one that it shares.
    ///
    /// # Errors
    ///
    /// If it traps, takes too long, or refuses its configuration. Then nothing of it is left.
    pub fn start(&self, module: &Module, config: &PluginConfig) -> Result<Filter, StartError> {
        Filter::start(&self.shared, module, Rc::new(config.clone()))
    }

    /// When [`Worker::run_due`] wants to be called next, on [`Outside::monotonic_ns`].
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        if !self.shared.inbox.is_empty() {
            return Some(self.shared.outside.monotonic_ns());
        }
        self.shared.machines.borrow().values().filter_map(|vm| vm.due_ns()).min()
    }

    /// Runs the ticks that are due, and what other threads' filters sent here.
    pub fn run_due(&self) {
        for notice in self.shared.inbox.take() {
            if let Some(vm) = self.shared.machine(notice.vm) {
                vm.on_queue_ready(notice.root, notice.queue);
            }
        }
        let machines: Vec<Rc<Vm>> = self.shared.machines.borrow().values().cloned().collect();
        for vm in machines {
            vm.tick();
        }
    }

    /// Brings the answer to a call. One that nobody waits for any more is dropped.
    pub fn on_http_response(&self, token: CallToken, response: HttpResponse) {
        if let Some(vm) = self.shared.machine(token.vm) {
            vm.on_http_response(token.token, response);
        }
    }

    /// Brings what happened on a gRPC call. For one that nobody waits for it is dropped.
    pub fn on_grpc(&self, token: CallToken, event: GrpcEvent) {
        if let Some(vm) = self.shared.machine(token.vm) {
            vm.on_grpc(token.token, event);
        }
    }

    /// How many machines are alive, and how often one was started anew.
    #[must_use]
    pub fn machines(&self) -> (usize, u64) {
        (self.shared.machines.borrow().len(), self.shared.restarts.get())
    }
}

impl Shared {
    /// The machine of that number, if it is alive.
    fn machine(&self, id: u64) -> Option<Rc<Vm>> {
        self.machines.borrow().get(&id).cloned()
    }

    /// A place for a filter: in the machine of its key if there is one, or in a new one.
    ///
    /// Other filters live in a machine that is there. So the new one must first show in a
    /// machine of its own, which is thrown away, that it starts and takes its configuration.
    fn seat(&self, module: &Module, config: &Rc<PluginConfig>) -> Result<Seat, StartError> {
        let key = key(module, config);
        let known = self.machines.borrow().values().find(|vm| *vm.key() == key).cloned();
        let new = Vm::create(module, config, key, self.place(), Rc::downgrade(&self.machines))?;
        let root = new.add_root(config, true);
        let Some(vm) = known else {
            let (vm, root) = (Rc::new(new), root?);
            self.machines.borrow_mut().insert(vm.id(), vm.clone());
            return Ok(Seat { vm, root });
        };
        root?;
        drop(new);
        let root = vm.add_root(config, false)?;
        Ok(Seat { vm, root })
    }

    fn place(&self) -> Place {
        Place {
            process: self.process.clone(),
            outside: self.outside.clone(),
            worker: self.inbox.worker(),
            vm: self.process.next_vm(),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.process.close_inbox(&self.inbox);
    }
}

/// Filters share a machine if they agree on this: Envoy's key (`vm_id`, VM configuration,
/// code), and all else that is a machine's and not a filter's.
fn key(module: &Module, config: &PluginConfig) -> [u8; 32] {
    let mut key = Sha256::new();
    let mut part = |bytes: &[u8]| {
        key.update((bytes.len() as u64).to_le_bytes());
        key.update(bytes);
    };
    part(config.vm_id.as_bytes());
    part(&config.vm_configuration);
    part(module.digest());
    let Limits { memory_bytes, table_elements, callback, start: _ } = config.limits;
    // Debug output of plain data: the same if and only if the data is.
    let limits = (memory_bytes, table_elements, callback);
    let rest = (&config.environment, &config.allowed_calls, limits);
    part(format!("{rest:?}").as_bytes());
    key.finalize().into()
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests;
