//! Plugins for filters in this very process: a function that answers at once, and no callout.

use super::Plugins;
use proxy_wasm_host::foreign::{Caller, ForeignFunction};
use proxy_wasm_host::status::Status;
use std::sync::mpsc::sync_channel;
use tidegate_core::plugin::Unresolved;
use tidegate_core::wire::plugin::{decode_resolve, encode_resolved};

/// What the filter calls it.
pub const NAME: &str = "tidegate.resolve";

/// Asks a plugin, and waits for its answer: no longer than its deadline, and while it rests after
/// failures not at all.
pub struct Function(pub Plugins);

impl ForeignFunction for Function {
    fn call(&self, _: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        let ask = decode_resolve(arguments).map_err(|_| Status::BadArgument)?;
        let patience = self.0.patience(&ask.plugin);
        let (to, answer) = sync_channel(1);
        self.0.ask(ask, move |resolved| {
            // Who has given up hears nothing.
            let _ = to.try_send(resolved);
        });
        let resolved = answer.recv_timeout(patience).unwrap_or(Err(Unresolved::Failed));
        Ok(encode_resolved(&resolved))
    }
}
