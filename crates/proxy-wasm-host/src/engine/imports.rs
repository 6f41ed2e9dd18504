//! Gives a module all that it imports: host calls, and traps in place of what nobody knows.

use super::{LoadError, exports};
use crate::abi::Calls;
use crate::status::Status;
use crate::vm::State;
use std::collections::BTreeSet;
use wasmtime::{ExternType, FuncType, ImportType, Linker, Module, Val};

/// What WASI answers to a call that is not allowed (`ENOTCAPABLE`).
const WASI_NOT_CAPABLE: i32 = 76;

/// Whether nothing is imported that each machine must have its own of.
pub(super) fn all_shared(module: &Module) -> bool {
    module.imports().all(|import| matches!(import.ty(), ExternType::Func(_)))
}

/// All host calls, and for this module a trap in place of each function that is none of them.
/// With a list, calls that are not on it are refused by their status.
pub(super) fn link(
    known: &Calls,
    module: &Module,
    allowed: Option<&BTreeSet<String>>,
) -> Result<Linker<State>, LoadError> {
    let mut calls = known.linker.clone();
    calls.allow_shadowing(true);
    for import in module.imports() {
        let function = match import.ty() {
            ExternType::Func(function) => function,
            ExternType::Memory(_) | ExternType::Table(_) => continue,
            other => {
                let (kind, name) = (exports::kind_of(&other), full_name(&import));
                return Err(LoadError(format!("imports {kind}, {name}; wanted functions only")));
            }
        };
        let is_known = has_the_signature(known, &import, &function)?;
        let outcome = match allowed {
            _ if !is_known => unknown(&mut calls, &import, function),
            Some(allowed) if !allowed.contains(import.name()) => {
                refused(&mut calls, &import, function)
            }
            _ => continue,
        };
        outcome.map_err(|error| LoadError(super::one_line(&error)))?;
    }
    Ok(calls)
}

/// Whether a host call goes by the import's name; if so, it must be of its type.
fn has_the_signature(
    known: &Calls,
    import: &ImportType<'_>,
    found: &FuncType,
) -> Result<bool, LoadError> {
    let Some(wanted) = known.signature(import.module(), import.name()) else {
        return Ok(false);
    };
    if FuncType::eq(wanted, found) {
        return Ok(true);
    }
    let (name, found) = (full_name(import), exports::signature(found));
    let wanted = exports::signature(wanted);
    Err(LoadError(format!("import {name}: found {found}; wanted {wanted}")))
}

fn unknown(
    calls: &mut Linker<State>,
    import: &ImportType<'_>,
    kind: FuncType,
) -> wasmtime::Result<()> {
    let name = full_name(import);
    calls.func_new(import.module(), import.name(), kind, move |_, _, _| {
        Err(wasmtime::Error::msg(format!("called {name}, which no host call is known by")))
    })?;
    Ok(())
}

fn refused(
    calls: &mut Linker<State>,
    import: &ImportType<'_>,
    kind: FuncType,
) -> wasmtime::Result<()> {
    let is_wasi = import.module().starts_with("wasi");
    let status = if is_wasi { WASI_NOT_CAPABLE } else { Status::InternalFailure as i32 };
    calls.func_new(import.module(), import.name(), kind, move |_, _, results| {
        for result in results {
            *result = Val::I32(status);
        }
        Ok(())
    })?;
    Ok(())
}

fn full_name(import: &ImportType<'_>) -> String {
    format!("{}.{}", import.module(), import.name())
}
