//! What one VM holds: a gate for each policy, the requests that wait, the callouts on their way.
//!
//! A proxy runs one VM in each worker, and may run several filters' policies in it. A
//! policy is known by its plugin's `name`: a new configuration under the same name takes
//! the place of the old one at once, also for connections of a listener that still drains,
//! and keeps its counts. Two policies of *different domains* under one name would be
//! mistaken for each other, so the second is refused.

use crate::abi;
use crate::config;
use crate::facts::Reader;
use crate::ground::{Process, SharedGround};
use crate::guard;
use crate::http;
use crate::metrics::Metrics;
use proxy_wasm::hostcalls;
use std::cell::RefCell;
use std::time::Duration;
use tidegate_core::gate::{Gate, Ground, QuestionId};
use tidegate_core::numbered::Numbered;
use tidegate_core::table::Table;
use tidegate_core::wire::Kind;

/// A policy in force, and all that goes with it.
pub(crate) struct Plugin {
    pub(crate) serial: Serial,
    root: u32,
    name: Box<[u8]>,
    pub(crate) gate: Gate,
    pub(crate) ground: SharedGround,
    pub(crate) reader: Reader,
    /// The streams of the requests that its gate holds, by ticket.
    pub(crate) held: Numbered<u32>,
    metrics: Metrics,
}

/// Tells one configuration from the next, which a proxy may give the same root context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Serial(u32);

/// A callout on its way, for a plugin.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) plugin: Serial,
    /// The gate's question; or, if there is none, whether the host service is back.
    pub(crate) question: Option<Sent>,
}

/// A question on its way.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) id: QuestionId,
    /// Of which kind its answer is.
    pub(crate) answer: Kind,
}

#[derive(Default)]
pub(crate) struct Vm {
    plugins: Vec<Plugin>,
    /// Replaced ones whose last requests still wait for the host service: decided as they
    /// were begun. None lives longer than a callout's deadline.
    retired: Vec<Plugin>,
    last_serial: Serial,
    /// Bounded by the gates: each question has one call.
    pub(crate) calls: Numbered<Call>,
    pub(crate) process: Option<Process>,
    #[cfg(feature = "standing")]
    pub(crate) standings: Numbered<Vec<tidegate_core::headers::Field>>,
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::new(Vm::default());
}

/// Runs with this VM's state. A VM is one thread and hosts never call back into a callback,
/// so it is never busy.
pub(crate) fn with<R>(run: impl FnOnce(&mut Vm) -> R) -> R {
    VM.with_borrow_mut(run)
}

impl Vm {
    /// The plugin that a request belongs to. With one plugin in the VM there is nothing to
    /// ask; with several the proxy is asked for the name, which costs about 1 µs.
    pub(crate) fn plugin_of_request(&mut self) -> Option<&mut Plugin> {
        if self.plugins.len() > 1 {
            let name = abi::property(b"plugin_name")?;
            return self.plugins.iter_mut().find(|plugin| *plugin.name == *name);
        }
        self.plugins.first_mut()
    }

    pub(crate) fn plugin(&mut self, serial: Serial) -> Option<&mut Plugin> {
        self.plugins.iter_mut().chain(&mut self.retired).find(|plugin| plugin.serial == serial)
    }
}

/// Takes a configuration, or refuses it and leaves all as it is.
pub(crate) fn configure(root: u32, size: usize) -> bool {
    guard::install();
    let Some(policy) = config::read(size) else { return false };
    let name = Box::from(&*abi::property(b"plugin_name").unwrap_or_default());
    with(|vm| {
        if vm.process.is_none() {
            vm.process = Process::join();
        }
        let Some(process) = &vm.process else {
            config::refuse("the proxy gives no randomness, or no data shared between workers");
            return false;
        };
        let old = vm.plugins.iter_mut().position(|plugin| *plugin.name == *name);
        if let Some(old) = old.and_then(|at| vm.plugins.get_mut(at)) {
            let domain = &old.gate.policy().domain;
            if *domain != policy.domain {
                config::refuse(&format!(
                    "domain: found \"{}\", wanted \"{domain}\", which the filter of this name \
                     enforces already\n  hint: give each policy's filter its own `name`",
                    policy.domain
                ));
                return false;
            }
            old.gate.drain(&mut old.ground);
        }
        let Some(me) = process.name_gate() else {
            config::refuse("the proxy keeps no data shared between workers");
            return false;
        };
        let gate = Gate::new(policy, &process.seed, me);
        let policy = gate.policy();
        let ground = SharedGround { table: Table::new(policy.table_keys_max) };
        let reader = Reader::new(&policy.wants);
        let metrics = Metrics::define(policy);
        let serial = Serial(vm.last_serial.0.wrapping_add(1));
        vm.last_serial = serial;
        let tick = Duration::from_nanos(gate.tick().0);
        let held = Numbered::default();
        vm.plugins.push(Plugin { serial, root, name, gate, ground, reader, held, metrics });
        if let Some(old) = old {
            let mut old = vm.plugins.swap_remove(old);
            old.metrics.tell(&mut old.gate);
            if let Some(new) = vm.plugin(serial) {
                new.gate.take_over(&mut old.gate);
            }
            vm.retired.push(old);
        }
        hostcalls::set_tick_period(tick).is_ok()
    })
}

/// Does what time brings. A root context whose policy was replaced goes on ticking while
/// its listener drains; it has nothing left to do.
pub(crate) fn tick(root: u32) {
    with(|vm| {
        tend_retired(vm);
        let now = vm.plugins.first_mut().map(|plugin| plugin.ground.now());
        let process = vm.process.as_mut();
        let workers = now.zip(process).and_then(|(now, process)| process.count_workers(now));
        if let Some(workers) = workers {
            vm.plugins.iter_mut().for_each(|plugin| plugin.gate.set_workers(workers));
        }
        let Some(plugin) = vm.plugins.iter_mut().find(|plugin| plugin.root == root) else { return };
        let is_probe_due = plugin.gate.on_tick(&mut plugin.ground);
        plugin.metrics.tell(&mut plugin.gate);
        let serial = plugin.serial;
        if is_probe_due {
            http::probe(vm, serial);
        }
        http::carry(vm, serial, None);
    });
}

/// Lets the last requests of replaced policies end.
fn tend_retired(vm: &mut Vm) {
    for old in &mut vm.retired {
        old.gate.drain(&mut old.ground);
        // They may have gone without an answer since it was replaced.
        if let Some(new) = vm.plugins.iter_mut().find(|new| new.name == old.name) {
            new.gate.take_over(&mut old.gate);
        }
    }
    let serials: Vec<Serial> = vm.retired.iter().map(|old| old.serial).collect();
    serials.into_iter().for_each(|serial| {
        http::carry(vm, serial, None);
    });
    vm.retired.retain(|plugin| plugin.gate.is_asking());
}

/// The callout that a token stands for; none if it is not ours or was answered.
pub(crate) fn take_call(token: u32) -> Option<Call> {
    with(|vm| vm.calls.remove(token))
}
