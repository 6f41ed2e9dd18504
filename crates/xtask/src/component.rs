//! Builds the component: the world `edge-guard` from the crate `tidegate-component`.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use crate::filter;
use crate::toolchain::Toolchain;
use crate::wasm::{self, Linking, Package, Panics};
use crate::workspace::Workspace;

/// What the filter may have, and what carries facts and verdicts over.
const BYTES_MAX: usize = 320 * 1024;

/// What it may import: nothing of WASI, so that any host can run it.
const OURS: &str = "tidegate:edge/";

/// The component on disk.
#[derive(Debug)]
pub(crate) struct Component {
    pub path: PathBuf,
    pub bytes: usize,
    /// SHA-256, in hex.
    pub digest: String,
    pub imports: Vec<String>,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        writeln!(f, "  size     {} bytes, at most {BYTES_MAX}", self.bytes)?;
        writeln!(f, "  sha256   {}", self.digest)?;
        writeln!(f, "  imports  {}", self.imports.join(" "))
    }
}

/// Builds it into `component/` of the target folder.
///
/// # Errors
///
/// If it does not build, is too big, tells where it was built, or imports what is not ours.
pub(crate) fn build(toolchain: &Toolchain, workspace: &Workspace) -> Result<Component> {
    let places = wasm::places(toolchain, workspace)?;
    let package = Package { name: "tidegate-component", features: &[], linking: Linking::Plain };
    let linked = wasm::compile(toolchain, workspace, Panics::Abort, &package, &places)?;
    let path = workspace.target.join("component/tidegate.component.wasm");
    let encoded = encode(&linked).with_context(|| format!("cannot make {}", path.display()))?;
    if encoded.len() > BYTES_MAX {
        let bytes = encoded.len();
        bail!("{} has {bytes} bytes, at most {BYTES_MAX} are allowed", path.display());
    }
    let imports = imports(&encoded)?;
    wasm::check_names_no_place(&path, &encoded, &places)?;
    wasm::write_if_changed(&path, &encoded)?;
    let digest = filter::sha256(&encoded);
    Ok(Component { path, bytes: encoded.len(), digest, imports })
}

/// Wraps the module as what the section that `wit-bindgen` left in it says.
fn encode(linked: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().module(linked)?.validate(true).encode()
}

/// What the component imports, of itself and not of what is in it.
///
/// # Errors
///
/// For an import that is not of our package.
fn imports(component: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    names.push(import?.name.name.to_owned());
                }
            }
            // What lies deeper imports what lies above.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => break,
            _ => {}
        }
    }
    if let Some(name) = names.iter().find(|name| !name.starts_with(OURS)) {
        bail!("the component imports {name}: its hosts have no more than {OURS}…");
    }
    Ok(names)
}
