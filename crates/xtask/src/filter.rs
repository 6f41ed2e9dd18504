//! Builds the filter: two modules from one crate, the same bytes wherever it is built.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::toolchain::Toolchain;
use crate::wasm::{self, Exceptions, Linking, Package, Panics, Place};
use crate::workspace::Workspace;
use crate::{module, toolchain};

/// A bigger module takes Envoy longer to load, once for each worker thread. Of this, what tokens
/// claim and whether they are revoked takes 78 kB, and plugins 22 kB.
const BYTES_MAX: usize = 316 * 1024;

/// The modules that were built.
#[derive(Debug)]
pub(crate) struct Built {
    /// The filter that never touches a response it lets through.
    pub plain: Artefact,
    /// The filter that can also write the standing into responses; every response costs it a
    /// callback.
    pub standing: Artefact,
}

/// One module on disk.
#[derive(Debug)]
pub(crate) struct Artefact {
    pub path: PathBuf,
    pub bytes: usize,
    /// SHA-256, in hex.
    pub digest: String,
    /// As Envoy sees them.
    pub exports: Vec<String>,
}

impl fmt::Display for Artefact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        writeln!(f, "  size     {} bytes, at most {BYTES_MAX}", self.bytes)?;
        writeln!(f, "  sha256   {}", self.digest)?;
        writeln!(f, "  exports  {}", self.exports.join(" "))
    }
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.plain, self.standing)
    }
}

/// Builds both modules of `workspace` into its target folder.
pub(crate) fn build(workspace: &Workspace, exceptions: Exceptions) -> Result<Built> {
    let toolchain = toolchain::find()?;
    build_with(&toolchain, workspace, exceptions)
}

/// [`build`] with a toolchain that was found before.
pub(crate) fn build_with(
    toolchain: &Toolchain,
    workspace: &Workspace,
    exceptions: Exceptions,
) -> Result<Built> {
    let build = Build { toolchain, workspace, exceptions };
    Ok(Built {
        plain: build.artefact("tidegate", &[])?,
        standing: build.artefact("tidegate-standing", &["standing"])?,
    })
}

/// Builds the module that panics where a request asks for it. It is for tests, and never ships.
pub(crate) fn build_faulty(toolchain: &Toolchain, workspace: &Workspace) -> Result<Artefact> {
    let build = Build { toolchain, workspace, exceptions: Exceptions::Standard };
    build.artefact("tidegate-faults", &["faults"])
}

/// What a module is built with and where.
struct Build<'a> {
    toolchain: &'a Toolchain,
    workspace: &'a Workspace,
    exceptions: Exceptions,
}

impl Build<'_> {
    fn artefact(&self, name: &str, features: &[&str]) -> Result<Artefact> {
        let ending = match self.exceptions {
            Exceptions::Standard => "",
            Exceptions::Legacy => "-legacy-eh",
        };
        let places = wasm::places(self.toolchain, self.workspace)?;
        let package = Package { name: "tidegate-filter", features, linking: Linking::Trimmed };
        let panics = Panics::Unwind(self.exceptions);
        let linked = wasm::compile(self.toolchain, self.workspace, panics, &package, &places)?;
        let path = self.workspace.target.join("filter").join(format!("{name}{ending}.wasm"));
        ship(&linked, path, self.exceptions, &places)
    }
}

/// Trims the linked module and writes it to `path`.
fn ship(
    linked: &[u8],
    path: PathBuf,
    exceptions: Exceptions,
    places: &[Place],
) -> Result<Artefact> {
    let trimmed = module::trim(linked, exceptions)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let bytes = trimmed.bytes.len();
    if bytes > BYTES_MAX {
        bail!("{} has {bytes} bytes, at most {BYTES_MAX} are allowed", path.display());
    }
    wasm::check_names_no_place(&path, &trimmed.bytes, places)?;
    wasm::write_if_changed(&path, &trimmed.bytes)?;
    Ok(Artefact { path, bytes, digest: sha256(&trimmed.bytes), exports: trimmed.exports })
}

/// In hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
        hex
    })
}
