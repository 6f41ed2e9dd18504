//! Looks a module over before anything of it runs: memory, allocator, version, signatures.

use super::{LoadError, Version};
use crate::vm::entries;
use wasmtime::{ExternType, FuncType, Module, ValType};

/// The markers of the versions that are known here; the first that a module has counts.
const MARKERS: [(&str, Version); 3] = [
    ("proxy_abi_version_0_1_0", Version::V0_1_0),
    ("proxy_abi_version_0_2_0", Version::V0_2_0),
    ("proxy_abi_version_0_2_1", Version::V0_2_1),
];

/// Says which version of the ABI the module speaks, or what keeps it from being a filter.
pub(super) fn look_over(module: &Module) -> Result<Version, LoadError> {
    let version = version(module)?;
    has_memory(module)?;
    if entries::ALLOCATORS.iter().all(|name| module.get_export(name).is_none()) {
        let names = entries::ALLOCATORS.join(" or ");
        return Err(LoadError(format!("exports no allocator; wanted {names}")));
    }
    for (name, arities, results) in entries::SIGNATURES {
        fits(module, name, arities, *results)?;
    }
    Ok(version)
}

fn version(module: &Module) -> Result<Version, LoadError> {
    for (name, version) in MARKERS {
        if module.get_export(name).is_some() {
            return Ok(version);
        }
    }
    let found = module.exports().map(|export| export.name().to_owned());
    let found: Vec<String> = found.filter(|name| name.starts_with("proxy_abi_version")).collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let [(a, _), (b, _), (c, _)] = MARKERS;
    Err(LoadError(format!("exports no known ABI marker: found {found}; wanted {a}, {b} or {c}")))
}

fn has_memory(module: &Module) -> Result<(), LoadError> {
    match module.get_export("memory") {
        Some(ExternType::Memory(kind)) if !kind.is_64() && !kind.is_shared() => Ok(()),
        Some(ExternType::Memory(_)) => {
            Err(LoadError("export memory: wanted one with 32-bit addresses, not shared".into()))
        }
        Some(other) => {
            Err(LoadError(format!("export memory: found {}; wanted a memory", kind_of(&other))))
        }
        None => Err(LoadError("exports no memory; wanted one that is called \"memory\"".into())),
    }
}

/// Whether an export, if there is one by that name, is a function of so many `i32`.
fn fits(module: &Module, name: &str, arities: &[usize], results: usize) -> Result<(), LoadError> {
    let Some(kind) = module.get_export(name) else { return Ok(()) };
    let found = match &kind {
        ExternType::Func(function) => {
            if is_i32(function.params())
                && is_i32(function.results())
                && arities.contains(&function.params().len())
                && function.results().len() == results
            {
                return Ok(());
            }
            signature(function)
        }
        other => kind_of(other).to_owned(),
    };
    let one = |params: &usize| {
        let params = vec!["i32"; *params].join(", ");
        if results == 0 { format!("({params})") } else { format!("({params}) -> i32") }
    };
    let wanted: Vec<String> = arities.iter().map(one).collect();
    Err(LoadError(format!("export {name}: found {found}; wanted {}", wanted.join(" or "))))
}

fn is_i32(types: impl Iterator<Item = ValType>) -> bool {
    types.into_iter().all(|kind| kind.is_i32())
}

/// A function's type, as `(i32, i64) -> i32`.
pub(super) fn signature(function: &FuncType) -> String {
    let list =
        |types: Vec<ValType>| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (params, results) = (list(function.params().collect()), list(function.results().collect()));
    if results.is_empty() { format!("({params})") } else { format!("({params}) -> {results}") }
}

pub(super) fn kind_of(kind: &ExternType) -> &'static str {
    match kind {
        ExternType::Func(_) => "a function",
        ExternType::Global(_) => "a global",
        ExternType::Table(_) => "a table",
        ExternType::Memory(_) => "a memory",
        ExternType::Tag(_) => "a tag",
    }
}
