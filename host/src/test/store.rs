//! The store of a case: the service itself in this process, on the case's clock. It can go
//! away and come back.

use super::case::StoreChange;
use super::clock::{Clock, WALL_START_MS};
use crate::plugins::Plugins;
use crate::proxy::ask_here;
use crate::service::embedded::Embedded;
use proxy_wasm_host::outside::{HttpCall, HttpResponse};
use tokio::runtime::Runtime;

/// Room for the keys of a case; beyond that the least indebted are forgotten.
const KEYS_MAX: u32 = 65_536;

pub(super) struct Store<'a> {
    runtime: &'a Runtime,
    clock: Clock,
    plugins: Plugins,
    /// Made for the first call: most cases make none.
    memory: Option<Embedded>,
    is_away: bool,
}

impl<'a> Store<'a> {
    pub(super) const fn new(runtime: &'a Runtime, clock: Clock, plugins: Plugins) -> Self {
        Self { runtime, clock, plugins, memory: None, is_away: false }
    }

    pub(super) fn change(&mut self, change: StoreChange) {
        self.is_away = change == StoreChange::Away;
        if change == StoreChange::BackEmpty {
            self.memory = None;
        }
    }

    /// Answers a filter's call, at once.
    pub(super) fn answer(&mut self, call: HttpCall) -> HttpResponse {
        if self.is_away {
            return HttpResponse::unreachable("the store is away");
        }
        let memory = self.memory.get_or_insert_with(|| {
            let (nanos, plugins) = (self.clock.nanos(), self.plugins.clone());
            Embedded::on_clock(nanos, WALL_START_MS, KEYS_MAX, plugins)
        });
        self.runtime.block_on(ask_here(memory, call)).unwrap_or_else(|failed| failed)
    }
}
