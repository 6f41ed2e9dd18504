//! A connection: its case is the first word that the client sends.

use crate::{shown, tell};
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::{Action, PeerType};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Connection {
    case: String,
}

impl Context for Connection {
    fn on_http_call_response(&mut self, _: u32, fields: usize, _: usize, _: usize) {
        let status = self.get_http_call_response_header(":status");
        tell!(self.case, "on_http_call_response {fields} {}", status.unwrap_or_default());
        self.resume_downstream();
    }

    fn on_done(&mut self) -> bool {
        tell!(self.case, "on_done");
        true
    }
}

impl StreamContext for Connection {
    fn on_downstream_data(&mut self, size: usize, is_end: bool) -> Action {
        let data = self.get_downstream_data(0, size).unwrap_or_default();
        if self.case.is_empty() {
            let text = String::from_utf8_lossy(&data);
            self.case = text.split(' ').next().unwrap_or_default().to_owned();
        }
        tell!(self.case, "on_downstream_data {} {is_end}", shown(Some(data)));
        match self.case.as_str() {
            "edits" if size > 0 => self.set_downstream_data(0, size, b"edited"),
            "closes" => {
                self.close_downstream();
                return Action::Pause;
            }
            "calls" if !is_end => {
                let fields = vec![(":method", "GET"), (":path", "/"), (":authority", "a")];
                let called =
                    self.dispatch_http_call("nobody", fields, None, vec![], Duration::from_secs(1));
                tell!(self.case, "called {}", called.is_ok());
                return Action::Pause;
            }
            _ => {}
        }
        Action::Continue
    }

    fn on_upstream_data(&mut self, size: usize, is_end: bool) -> Action {
        let data = self.get_upstream_data(0, size);
        tell!(self.case, "on_upstream_data {} {is_end}", shown(data));
        if self.case == "edits" && size > 0 {
            self.set_upstream_data(0, size, b"back");
        }
        Action::Continue
    }

    fn on_downstream_close(&mut self, peer: PeerType) {
        tell!(self.case, "on_downstream_close {}", peer as u32);
    }

    fn on_upstream_close(&mut self, peer: PeerType) {
        tell!(self.case, "on_upstream_close {}", peer as u32);
    }

    fn on_log(&mut self) {
        tell!(self.case, "on_log");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        tell!(self.case, "delete");
    }
}
