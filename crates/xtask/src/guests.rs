//! Builds the filters that the conformance tests run, in Envoy and in our own host.

mod examples;
mod npm;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::toolchain::Toolchain;
use crate::wasm::{self, Exceptions, Linking, Package, Panics};
use crate::workspace::Workspace;

/// Filters of our own in Rust: the module's name, its crate, the features it is built with.
const OURS: [(&str, &str, &[&str]); 4] = [
    ("puppet", "guest-puppet", &[]),
    ("puppet-0.2.0", "guest-puppet", &["abi-0-2-0"]),
    ("puppet-0.1.0", "guest-puppet", &["abi-0-1-0"]),
    ("sdk", "guest-sdk", &[]),
];

/// Builds all of them; the folder that they are in.
///
/// # Errors
///
/// If one does not build.
pub(crate) fn build(toolchain: &Toolchain, workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("guests");
    let places = wasm::places(toolchain, workspace)?;
    for (name, package, features) in OURS {
        let package = Package { name: package, features, linking: Linking::Plain };
        let panics = Panics::Unwind(Exceptions::Standard);
        let module = wasm::compile(toolchain, workspace, panics, &package, &places)?;
        wasm::write_if_changed(&folder.join(format!("{name}.wasm")), &module)?;
    }
    examples::build(toolchain, workspace, &folder)?;
    npm::build(workspace, &folder)?;
    Ok(folder)
}

/// A copy of a folder of ours, where other people's files may be put beside ours.
fn copied(workspace: &Workspace, from: &str) -> Result<PathBuf> {
    let work = workspace.target.join("guests/work").join(from.replace('/', "-"));
    copy(&workspace.root.join(from), &work)?;
    Ok(work)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if fs::read(entry.path())? != fs::read(&target).unwrap_or_default() {
            // What is as it was is left alone: its age says what is to be built anew.
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
