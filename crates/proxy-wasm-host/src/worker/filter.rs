//! One filter of a worker, and what becomes of it when its machine fails.

use super::{Seat, Shared, StartError};
use crate::engine::Module;
use crate::outside::Level;
use crate::plugin::{FailurePolicy, PluginConfig};
use crate::vm::{ContextId, Vm};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// One filter of one worker, ready to take part in chains. Cheap to clone.
///
/// When the last clone is dropped, and with it the last stream, the filter is told that it is
/// done (`on_done`, `on_delete`), and its machine ends with its last filter.
#[derive(Clone)]
pub struct Filter {
    inner: Rc<Inner>,
}

struct Inner {
    shared: Rc<Shared>,
    module: Module,
    config: Rc<PluginConfig>,
    seat: RefCell<Seat>,
    /// When the last start, or the last try, had ended.
    started_ns: Cell<u64>,
    pause_ns: Cell<u64>,
}

/// A machine that ran this long has proved itself: the next pause is the shortest again.
const PROVED: Duration = Duration::from_secs(60);

/// The longest pause, unless the shortest is longer.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How a new stream goes through a filter.
pub(crate) enum Entrance {
    /// In this machine, below this root context.
    Machine(Rc<Vm>, ContextId),
    /// Not at all: the filter failed, and its policy is to do without it.
    Bypass,
    /// Not at all: the filter failed, and its policy is to refuse (503).
    Refuse,
}

impl Filter {
    pub(super) fn start(
        shared: &Rc<Shared>,
        module: &Module,
        config: Rc<PluginConfig>,
    ) -> Result<Self, StartError> {
        let seat = shared.seat(module, &config)?;
        let inner = Inner {
            shared: shared.clone(),
            module: module.clone(),
            seat: RefCell::new(seat),
            started_ns: Cell::new(shared.outside.monotonic_ns()),
            pause_ns: Cell::new(pause_ns(&config).unwrap_or(0)),
            config,
        };
        Ok(Self { inner: Rc::new(inner) })
    }

    /// For a new stream: starts a failed machine anew if the policy says so and it is time.
    pub(crate) fn entrance(&self) -> Entrance {
        let failed_ns = {
            let seat = self.inner.seat.borrow();
            match seat.vm.failed_ns() {
                None => return Entrance::Machine(seat.vm.clone(), seat.root),
                Some(failed_ns) => failed_ns,
            }
        };
        match self.inner.config.failure {
            FailurePolicy::Open => Entrance::Bypass,
            FailurePolicy::Closed => Entrance::Refuse,
            FailurePolicy::Reload { .. } => self.inner.reload(failed_ns),
        }
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &PluginConfig {
        &self.inner.config
    }
}

impl Inner {
    /// Starts anew, if the pause since the last start is over.
    fn reload(&self, failed_ns: u64) -> Entrance {
        let now_ns = self.shared.outside.monotonic_ns();
        let started_ns = self.started_ns.get();
        let lived_ns = failed_ns.saturating_sub(started_ns);
        if u128::from(lived_ns) >= PROVED.as_nanos() {
            self.pause_ns.set(pause_ns(&self.config).unwrap_or(0));
        }
        if now_ns < started_ns.saturating_add(self.pause_ns.get()) {
            return Entrance::Refuse;
        }
        self.started_ns.set(now_ns);
        self.pause_ns.set(self.longer_pause_ns());
        let started = self.shared.seat(&self.module, &self.config);
        // It may have taken its time, while others waited: the pause is from now on.
        self.started_ns.set(self.shared.outside.monotonic_ns());
        match started {
            Ok(seat) => {
                self.shared.restarts.set(self.shared.restarts.get() + 1);
                let entrance = Entrance::Machine(seat.vm.clone(), seat.root);
                drop(self.seat.replace(seat));
                entrance
            }
            Err(StartError(line)) => {
                self.shared.outside.log(&self.config.name, Level::Error, &line);
                Entrance::Refuse
            }
        }
    }

    fn longer_pause_ns(&self) -> u64 {
        let most = u64::try_from(PAUSE_MAX.as_nanos()).unwrap_or(u64::MAX);
        let least = pause_ns(&self.config).unwrap_or(0);
        self.pause_ns.get().saturating_mul(2).min(most).max(least)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let seat = self.seat.get_mut();
        seat.vm.retire(seat.root);
    }
}

/// The shortest pause between two starts, if there is to be more than one.
fn pause_ns(config: &PluginConfig) -> Option<u64> {
    let FailurePolicy::Reload { pause } = config.failure else { return None };
    let pause = pause.max(Duration::from_millis(1));
    Some(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX))
}
