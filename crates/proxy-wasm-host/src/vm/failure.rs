//! Says in one line what made a module fail.

use crate::budget::Budget;
use crate::engine::one_line;
use wasmtime::{ThrownException, Trap, WasmBacktrace};

/// What is told of a function's name: enough for those of C++ and Rust.
const NAME_CHARS_MAX: usize = 200;

/// The guest ended itself by `proc_exit`.
#[derive(Debug)]
pub(crate) struct Exit(pub(crate) u32);

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exited with code {}", self.0)
    }
}

impl std::error::Error for Exit {}

/// The callback, the reason, and the function in which it was.
pub(crate) fn describe(name: &str, error: &wasmtime::Error, budget: &Budget) -> String {
    let mut line = format!("{name} trapped: {}", reason(error));
    if let Some(function) = function(error) {
        line.push_str(&format!(" (in {function})"));
    }
    if let Some(refused) = budget.refused() {
        line.push_str(&format!("; before that it {refused}"));
    }
    line
}

fn reason(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => return "ran longer than it may".into(),
        Some(trap) => return trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        None => {}
    }
    if error.downcast_ref::<ThrownException>().is_some() {
        return "threw an exception that it did not catch".into();
    }
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return exit.to_string();
    }
    let cause = wasmtime::Error::msg(error.root_cause().to_string());
    one_line(&cause)
}

/// The innermost of the module's functions.
fn function(error: &wasmtime::Error) -> Option<String> {
    let frame = error.downcast_ref::<WasmBacktrace>()?.frames().first()?;
    Some(match frame.func_name() {
        // The module's word for it, which may be anything.
        Some(name) => name.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect(),
        None => format!("function {}", frame.func_index()),
    })
}
