//! What one VM holds: a gate for each policy, and the callouts on their way.
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
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate_core::gate::{Gate, Ticket};
use tidegate_core::table::Table;

/// How often a gate returns what it holds ahead and probes a store that is away, and
/// metrics are told.
const TICK: Duration = Duration::from_millis(100);

/// A policy in force, and all that goes with it.
pub(crate) struct Plugin {
    pub(crate) serial: Serial,
    root: u32,
    name: Box<[u8]>,
    pub(crate) gate: Gate,
    pub(crate) ground: SharedGround,
    pub(crate) reader: Reader,
    metrics: Metrics,
}

/// Tells one configuration from the next, which a proxy may give the same root context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Serial(u32);

/// A callout on its way, for a plugin.
pub(crate) enum Call {
    /// For a request that is held.
    Request { plugin: Serial, ticket: Ticket, stream: u32 },
    /// That no request waits for: of a limit that only looks on, or of debts.
    Aside { plugin: Serial, ticket: Ticket },
    /// Whether the host service is back.
    Probe { plugin: Serial },
}

impl Call {
    /// The request that waits for it.
    pub(crate) const fn stream(&self) -> Option<u32> {
        match self {
            Self::Request { stream, .. } => Some(*stream),
            Self::Aside { .. } | Self::Probe { .. } => None,
        }
    }
}

#[derive(Default)]
pub(crate) struct Vm {
    plugins: Vec<Plugin>,
    /// Replaced ones whose last requests still wait for the host service: decided as they
    /// were begun. None lives longer than a callout's deadline.
    retired: Vec<Plugin>,
    last_serial: Serial,
    /// Bounded by the gates: each waiting ticket has at most one call.
    pub(crate) calls: BTreeMap<u32, Call>,
    pub(crate) process: Option<Process>,
    #[cfg(feature = "standing")]
    pub(crate) standings: BTreeMap<u32, Vec<tidegate_core::headers::Field>>,
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
        let gate = Gate::new(policy, &process.seed);
        let policy = gate.policy();
        let ground = SharedGround { sets: Table::new(policy.table_keys_max).sets() };
        let reader = Reader::new(&policy.wants);
        let metrics = Metrics::define(policy);
        let serial = Serial(vm.last_serial.0.wrapping_add(1));
        vm.last_serial = serial;
        vm.plugins.push(Plugin { serial, root, name, gate, ground, reader, metrics });
        if let Some(old) = old {
            let mut old = vm.plugins.swap_remove(old);
            old.metrics.tell(&mut old.gate);
            if let Some(new) = vm.plugin(serial) {
                new.gate.take_over(&mut old.gate);
            }
            vm.retired.push(old);
        }
        hostcalls::set_tick_period(TICK).is_ok()
    })
}

/// Does what time brings. A root context whose policy was replaced goes on ticking while
/// its listener drains; it has nothing left to do.
pub(crate) fn tick(root: u32) {
    with(|vm| {
        for old in &mut vm.retired {
            // Its last requests may have gone without an answer since it was replaced.
            if let Some(new) = vm.plugins.iter_mut().find(|new| new.name == old.name) {
                new.gate.take_over(&mut old.gate);
            }
        }
        vm.retired.retain(|plugin| plugin.gate.is_asking());
        let Some(plugin) = vm.plugins.iter_mut().find(|plugin| plugin.root == root) else { return };
        let is_probe_due = plugin.gate.on_tick(&mut plugin.ground);
        plugin.metrics.tell(&mut plugin.gate);
        let (serial, has_asides) = (plugin.serial, plugin.gate.has_asides());
        if is_probe_due {
            http::probe(vm, serial);
        }
        if has_asides {
            http::send_asides(vm, serial);
        }
    });
}

/// The callout that a token stands for; none if it is not ours or was answered.
pub(crate) fn take_call(token: u32) -> Option<Call> {
    with(|vm| vm.calls.remove(&token))
}
