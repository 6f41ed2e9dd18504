//! An exchange, and what is done with it by case.

mod cases;
mod grpc;

use crate::tell;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

#[derive(Default)]
pub(crate) struct Exchange {
    case: String,
}

impl Context for Exchange {
    fn on_http_call_response(&mut self, _: u32, fields: usize, size: usize, trailers: usize) {
        cases::on_http_call_response(self, fields, size, trailers);
    }

    fn on_grpc_call_response(&mut self, _: u32, status: u32, size: usize) {
        grpc::on_call_response(self, status, size);
    }

    fn on_grpc_stream_initial_metadata(&mut self, _: u32, elements: u32) {
        let first = self.get_grpc_stream_initial_metadata_value("x-first");
        tell!(self.case, "initial_metadata {elements} {}", crate::shown(first));
    }

    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        grpc::on_message(self, token, size);
    }

    fn on_grpc_stream_trailing_metadata(&mut self, _: u32, elements: u32) {
        let last = self.get_grpc_stream_trailing_metadata_value("x-last");
        tell!(self.case, "trailing_metadata {elements} {}", crate::shown(last));
    }

    fn on_grpc_stream_close(&mut self, _: u32, status: u32) {
        tell!(self.case, "stream_close {status} {:?}", self.get_grpc_status());
        self.resume_http_request();
    }

    fn on_done(&mut self) -> bool {
        tell!(self.case, "on_done");
        true
    }
}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, fields: usize, is_end: bool) -> Action {
        self.case = self.get_http_request_header("x-case").unwrap_or_default();
        tell!(self.case, "on_http_request_headers {fields} {is_end}");
        cases::on_request_headers(self)
    }

    fn on_http_request_body(&mut self, size: usize, is_end: bool) -> Action {
        tell!(self.case, "on_http_request_body {size} {is_end}");
        cases::on_request_body(self, size, is_end)
    }

    fn on_http_request_trailers(&mut self, fields: usize) -> Action {
        tell!(self.case, "on_http_request_trailers {fields}");
        cases::on_request_trailers(self);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, fields: usize, is_end: bool) -> Action {
        tell!(self.case, "on_http_response_headers {fields} {is_end}");
        cases::on_response_headers(self)
    }

    fn on_http_response_body(&mut self, size: usize, is_end: bool) -> Action {
        tell!(self.case, "on_http_response_body {size} {is_end}");
        cases::on_response_body(self, size, is_end)
    }

    fn on_http_response_trailers(&mut self, fields: usize) -> Action {
        tell!(self.case, "on_http_response_trailers {fields}");
        cases::on_response_trailers(self);
        Action::Continue
    }

    fn on_log(&mut self) {
        let code = crate::shown(self.get_property(vec!["response", "code"]));
        tell!(self.case, "on_log {code}");
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        tell!(self.case, "delete");
    }
}
