//! Stands in for the wasm linker: keeps the SDK's callbacks out of the module, and links tight.
//!
//! rustc exports every `#[no_mangle]` function of every crate it links, so the
//! SDK's 25 callbacks and the dispatcher behind them would stay in the module
//! for good: each one an entry into the VM that Envoy makes for each request.
//! No rustc flag takes an export back, but rustc lets the linker be chosen. So
//! `build filter` names this program as the linker; it drops the `--export`
//! arguments nobody wants and runs the real linker, whose own garbage
//! collection then removes what nothing reaches.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use crate::module::{Export, export};

/// The environment variable that holds the real linker and turns this program into one.
pub(crate) const REAL_LINKER: &str = "TIDEGATE_REAL_LINKER";

/// The real linker, if rustc is calling us in its place.
pub(crate) fn requested() -> Option<OsString> {
    env::var_os(REAL_LINKER)
}

/// Writes each function's and each byte's number as short as it is. Without it they all have room
/// for the longest, which is one byte in fourteen of the filter.
const TIGHT: &str = "--compress-relocations";

/// Runs the real linker with this process's arguments, less the unwanted exports.
pub(crate) fn link(real: &OsString) -> ExitCode {
    match Command::new(real).args(wanted(env::args_os().skip(1))).arg(TIGHT).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE, // the linker has said why
        Err(error) => {
            eprintln!("cannot start the linker {}: {error}", real.display());
            ExitCode::FAILURE
        }
    }
}

/// Drops `--export NAME` and `--export=NAME` for every name Envoy shall not see.
fn wanted(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--export" {
            let Some(name) = args.next() else { break };
            if !unwanted(&name.to_string_lossy()) {
                kept.extend([arg, name]);
            }
        } else if !arg.to_str().and_then(|arg| arg.strip_prefix("--export=")).is_some_and(unwanted)
        {
            kept.push(arg);
        }
    }
    kept
}

fn unwanted(name: &str) -> bool {
    export(name) == Export::Drop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exports_nobody_wants_are_dropped() {
        let given = "-flavor wasm --export tidegate_on_tick --export proxy_on_tick --export tidegate_malloc \
                     --export=__heap_base --gc-sections a.o -o out.wasm";
        let kept = "-flavor wasm --export tidegate_on_tick --export tidegate_malloc --gc-sections a.o -o \
                    out.wasm";
        let args = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(wanted(args(given)), args(kept));
    }
}
