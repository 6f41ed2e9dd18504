//! A filter written with the Rust SDK, which takes a host at its word: a status that it does
//! not expect, a token twice, a context that it does not know, and it panics.
//!
//! A request's field `x-case` names what is done with it: a function in [`http`]. Each tells
//! in the log what it got. With the VM configuration `network` it is a filter of connections.

#![expect(missing_docs, reason = "the SDK's macro makes a public function")]

mod http;
mod network;
mod root;

use proxy_wasm::types::LogLevel;
use root::Root;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

/// Logs a line of a case.
macro_rules! tell {
    ($case:expr, $($text:tt)+) => { log::info!("{}> {}", $case, format_args!($($text)+)) };
}
pub(crate) use tell;

/// Bytes as a log shows them; `-` if there are none to have.
pub(crate) fn shown(bytes: Option<Vec<u8>>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.escape_ascii().to_string())
}
