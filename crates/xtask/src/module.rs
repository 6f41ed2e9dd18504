//! The linked module made ready for Envoy: exports named, ballast gone, promises checked.
//!
//! The filter exports its callbacks as `tidegate_on_*`, because the SDK already
//! defines every `proxy_on_*` symbol, and `malloc`, and two of one name do not link.
//! Here each gets the name that Envoy looks for. Custom sections (names, producers) go:
//! no engine needs them, and they differ between toolchains.

use std::borrow::Cow;

use anyhow::{Context, Result, bail};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExternalKind, Operator, Parser, Payload};

use crate::wasm::Exceptions;

/// What becomes of an exported name.
#[derive(Debug, PartialEq)]
pub(crate) enum Export<'a> {
    Keep(Cow<'a, str>),
    Drop,
}

/// The name under which Envoy shall see the export `name`, if at all.
pub(crate) fn export(name: &str) -> Export<'_> {
    if let Some(callback) = name.strip_prefix("tidegate_on_") {
        return Export::Keep(format!("proxy_on_{callback}").into());
    }
    match name {
        "tidegate_malloc" => Export::Keep("malloc".into()),
        // How a host reaches our memory, hands us bytes and starts the module.
        "memory" | "proxy_on_memory_allocate" | "_initialize" | "_start" => {
            Export::Keep(name.into())
        }
        _ if name.starts_with("proxy_abi_version_") => Export::Keep(name.into()),
        _ => Export::Drop,
    }
}

/// A module as it ships.
#[derive(Debug)]
pub(crate) struct Trimmed {
    pub bytes: Vec<u8>,
    /// Exported names as Envoy sees them, in the module's order.
    pub exports: Vec<String>,
}

/// Rewrites the exports of `linked`, drops its custom sections, and checks what Envoy would.
///
/// # Errors
///
/// When the module cannot be read, imports what no proxy-wasm host offers,
/// exports no callback, or uses the exception opcodes of the other kind.
pub(crate) fn trim(linked: &[u8], exceptions: Exceptions) -> Result<Trimmed> {
    let mut module = Module::new();
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(linked) {
        let payload = payload.context("the linker wrote an unreadable module")?;
        match &payload {
            Payload::CustomSection(_) => continue,
            Payload::ExportSection(section) => {
                module.section(&renamed(section, &mut exports)?);
                continue;
            }
            Payload::ImportSection(section) => check_imports(section)?,
            Payload::CodeSectionEntry(body) => check_opcodes(body, exceptions)?,
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            let (start, end) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
            let data = linked.get(start..end).context("a section lies outside of the module")?;
            module.section(&RawSection { id, data });
        }
    }
    if !exports.iter().any(|name| name.starts_with("proxy_on_request_headers")) {
        bail!("the module exports no proxy_on_request_headers, so Envoy would never call it");
    }
    Ok(Trimmed { bytes: module.finish(), exports })
}

fn renamed(
    section: &wasmparser::ExportSectionReader<'_>,
    names: &mut Vec<String>,
) -> Result<ExportSection> {
    let mut renamed = ExportSection::new();
    for entry in section.clone() {
        let entry = entry?;
        if let Export::Keep(name) = export(entry.name) {
            renamed.export(&name, kind(entry.kind)?, entry.index);
            names.push(name.into_owned());
        }
    }
    Ok(renamed)
}

fn kind(kind: ExternalKind) -> Result<ExportKind> {
    match kind {
        ExternalKind::Func => Ok(ExportKind::Func),
        ExternalKind::Memory => Ok(ExportKind::Memory),
        // The names we keep are functions and the memory.
        other => bail!("an export that Envoy shall see is a {other:?}"),
    }
}

/// A crate that wants JavaScript or WASI shows here by name, not as a refusal in Envoy's log.
fn check_imports(section: &wasmparser::ImportSectionReader<'_>) -> Result<()> {
    for import in section.clone().into_imports() {
        let import = import?;
        let is_proxy = import.module == "env" && import.name.starts_with("proxy_");
        // Envoy offers these two to modules of any target.
        let is_wasi = import.module == "wasi_snapshot_preview1"
            && ["clock_time_get", "random_get"].contains(&import.name);
        if !is_proxy && !is_wasi {
            bail!(
                "the module imports {}.{}, which is no proxy-wasm host call: Envoy would refuse \
                 it; a dependency of the filter does not know this target",
                import.module,
                import.name
            );
        }
    }
    Ok(())
}

fn check_opcodes(body: &wasmparser::FunctionBody<'_>, exceptions: Exceptions) -> Result<()> {
    for operator in body.get_operators_reader()? {
        let found = match operator? {
            Operator::TryTable { .. } | Operator::ThrowRef => Exceptions::Standard,
            Operator::Try { .. } | Operator::Rethrow { .. } | Operator::Delegate { .. } => {
                Exceptions::Legacy
            }
            _ => continue,
        };
        if found != exceptions {
            bail!(
                "the module uses {found:?} exception opcodes where {exceptions:?} ones were asked \
                 for: the toolchain ignored -wasm-use-legacy-eh"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_encoder::{
        BlockType, Catch, CodeSection, CustomSection, EntityType, Function, FunctionSection,
        ImportSection, MemorySection, MemoryType, TypeSection,
    };

    /// What a linker might write: one import, one function exported under each of `exports`.
    fn linked(import: (&str, &str), exports: &[&str], body: Function) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut imports = ImportSection::new();
        imports.import(import.0, import.1, EntityType::Function(0));
        let mut functions = FunctionSection::new();
        functions.function(0);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut section = ExportSection::new();
        section.export("memory", ExportKind::Memory, 0);
        for name in exports {
            section.export(name, ExportKind::Func, 1);
        }
        let mut code = CodeSection::new();
        code.function(&body);
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&memories);
        module.section(&section).section(&code);
        module.section(&CustomSection { name: "producers".into(), data: b"rustc".into() });
        module.finish()
    }

    fn nothing() -> Function {
        let mut body = Function::new([]);
        body.instructions().end();
        body
    }

    fn catching(exceptions: Exceptions) -> Function {
        let mut body = Function::new([]);
        match exceptions {
            Exceptions::Standard => {
                body.instructions().try_table(BlockType::Empty, [Catch::All { label: 0 }]).end();
            }
            Exceptions::Legacy => {
                body.instructions().try_(BlockType::Empty).catch_all().end();
            }
        }
        body.instructions().end();
        body
    }

    const HOSTCALL: (&str, &str) = ("env", "proxy_log");
    const HEADERS: &str = "tidegate_on_request_headers";

    #[test]
    fn only_our_callbacks_are_left_under_the_names_envoy_looks_for() {
        let exports = [
            HEADERS,
            "proxy_on_request_headers",
            "proxy_on_log",
            "tidegate_malloc",
            "malloc",
            "__heap_base",
        ];
        let linked = linked(HOSTCALL, &exports, nothing());
        let trimmed = trim(&linked, Exceptions::Standard).unwrap();
        assert_eq!(trimmed.exports, ["memory", "proxy_on_request_headers", "malloc"]);
        wasmparser::Parser::new(0).parse_all(&trimmed.bytes).for_each(|payload| {
            let payload = payload.expect("the trimmed module is whole");
            assert!(!matches!(payload, Payload::CustomSection(_)), "a custom section is left");
        });
    }

    #[test]
    fn trimming_what_was_trimmed_would_lose_every_callback_and_is_refused() {
        let linked = linked(HOSTCALL, &[HEADERS], nothing());
        let once = trim(&linked, Exceptions::Standard).unwrap();
        let error = trim(&once.bytes, Exceptions::Standard).unwrap_err();
        assert!(error.to_string().contains("no proxy_on_request_headers"), "{error}");
    }

    #[test]
    fn an_import_no_proxy_has_is_named() {
        for import in [("wasi_snapshot_preview1", "fd_write"), ("env", "abort")] {
            let linked = linked(import, &[HEADERS], nothing());
            let error = trim(&linked, Exceptions::Standard).unwrap_err().to_string();
            assert!(error.contains(&format!("{}.{}", import.0, import.1)), "{error}");
        }
    }

    #[test]
    fn exception_opcodes_of_the_other_kind_are_refused() {
        use Exceptions::{Legacy, Standard};
        for (used, asked) in [(Standard, Legacy), (Legacy, Standard)] {
            let linked = linked(HOSTCALL, &[HEADERS], catching(used));
            assert!(trim(&linked, used).is_ok());
            let error = trim(&linked, asked).unwrap_err().to_string();
            assert!(error.contains("-wasm-use-legacy-eh"), "{error}");
        }
    }
}
