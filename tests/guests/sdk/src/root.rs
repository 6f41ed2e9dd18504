//! The root context: configuration, ticks, queues.

use crate::http::Exchange;
use crate::network::Connection;
use crate::{shown, tell};
use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::ContextType;
use std::cell::Cell;
use std::time::Duration;

const CASE: &str = "root";

/// Once it has ticked so often it stops.
const TICKS: u32 = 3;

/// The queue that [`Exchange`]s put something in.
pub(crate) const QUEUE: &str = "sdk-queue";

#[derive(Default)]
pub(crate) struct Root {
    is_network: bool,
    ticks: Cell<u32>,
}

impl Context for Root {
    fn on_http_call_response(&mut self, _: u32, fields: usize, size: usize, _: usize) {
        tell!(CASE, "on_http_call_response {fields} {size}");
    }

    fn on_done(&mut self) -> bool {
        tell!(CASE, "on_done");
        true
    }
}

impl RootContext for Root {
    fn on_vm_start(&mut self, _: usize) -> bool {
        self.is_network = self.get_vm_configuration().as_deref() == Some(b"network");
        tell!(CASE, "on_vm_start {}", shown(self.get_vm_configuration()));
        true
    }

    fn on_configure(&mut self, _: usize) -> bool {
        let length = self.get_plugin_configuration().map_or(0, |bytes| bytes.len());
        tell!(CASE, "on_configure {}", length > 0);
        true
    }

    fn on_tick(&mut self) {
        self.ticks.set(self.ticks.get() + 1);
        tell!(CASE, "on_tick {}", self.ticks.get());
        if self.ticks.get() == TICKS {
            self.set_tick_period(Duration::ZERO);
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(item)) = self.dequeue_shared_queue(queue) {
            tell!(CASE, "on_queue_ready {}", shown(Some(item)));
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange::default()))
    }

    fn create_stream_context(&self, _: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection::default()))
    }

    fn get_type(&self) -> Option<ContextType> {
        let kind =
            if self.is_network { ContextType::StreamContext } else { ContextType::HttpContext };
        Some(kind)
    }
}
