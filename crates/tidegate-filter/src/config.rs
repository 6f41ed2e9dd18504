//! The plugin's configuration becomes a policy, or the log says why not.
//!
//! It may come as JSON text (`StringValue`, `BytesValue`) or as a `Struct`, which Envoy
//! hands over serialised, whatever its documentation says.

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel};
use tidegate_core::policy::Policy;
use tidegate_policy::diagnostic::Severity;
use tidegate_policy::resolve::resolve;
use tidegate_policy::text::{self, Document};

/// The largest configuration that is read. Envoy itself limits it only by memory.
const CONFIG_BYTES_MAX: usize = 4 << 20;

/// The most diagnostics that are logged for one configuration.
const LOGGED_MAX: usize = 50;

/// Reads the configuration; `None` if it is not to be accepted.
pub(crate) fn read(size: usize) -> Option<Policy> {
    if size == 0 {
        refuse("the filter has no configuration; wanted a policy as JSON or Struct");
        return None;
    }
    if size > CONFIG_BYTES_MAX {
        refuse(&format!("the policy has {size} bytes; wanted at most {CONFIG_BYTES_MAX}"));
        return None;
    }
    let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok()??;
    let document = match document(&bytes) {
        Ok(document) => document,
        Err(why) => {
            refuse(&why);
            return None;
        }
    };
    let resolved = resolve(&document);
    for diagnostic in resolved.diagnostics.iter().take(LOGGED_MAX) {
        let level = match diagnostic.severity {
            Severity::Error => LogLevel::Error,
            Severity::Warning => LogLevel::Warn,
        };
        let _ = hostcalls::log(level, &format!("tidegate: policy: {diagnostic}"));
    }
    let policy = resolved.policy?;
    if policy.headers.on_allow && !cfg!(feature = "standing") {
        refuse(
            "headers.send: found \"always\", wanted \"denied\": this build of the filter does not \
             look at responses\n  hint: use tidegate-standing.wasm",
        );
        return None;
    }
    Some(policy)
}

/// Says why a configuration is not accepted.
pub(crate) fn refuse(why: &str) {
    let _ = hostcalls::log(LogLevel::Error, &format!("tidegate: policy refused: {why}"));
}

fn document(bytes: &[u8]) -> Result<Document, String> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        return text::from_json(bytes).map_err(|error| format!("not JSON: {error}"));
    }
    text::from_struct(bytes).map_err(|error| format!("neither JSON nor a Struct: {error}"))
}
