//! Filters that none of us wrote: the examples that old versions of the Rust SDK were published
//! with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::copied;
use crate::command;
use crate::toolchain::Toolchain;
use crate::wasm::{self, Exceptions, Linking, Package, Panics};
use crate::workspace::Workspace;

/// Folders that pin a version of the SDK: where, and how its modules' names begin.
const VERSIONS: [(&str, &str); 2] = [
    ("tests/guests/others/proxy-wasm-0.1", "sdk-0.1"),
    ("tests/guests/others/proxy-wasm-0.2", "sdk-0.2"),
];

/// Builds all of them into `folder`.
///
/// # Errors
///
/// If one cannot be fetched or does not build.
pub(super) fn build(toolchain: &Toolchain, workspace: &Workspace, folder: &Path) -> Result<()> {
    let places = wasm::places(toolchain, workspace)?;
    for (from, prefix) in VERSIONS {
        let work = copied(workspace, from)?;
        let examples = work.join("examples");
        fs::create_dir_all(&examples)?;
        let of_sdk = sdk(toolchain, &work)?.join("examples");
        let package =
            Package { name: "examples-of-proxy-wasm", features: &[], linking: Linking::Plain };
        for wanted in sources(&examples)? {
            let name = wanted.file_name().context("a source has a name")?;
            let source = of_sdk.join(name);
            fs::copy(&source, &wanted)
                .with_context(|| format!("the SDK has no {}", source.display()))?;
        }
        let at = Workspace { root: work, target: workspace.target.clone() };
        let panics = Panics::Unwind(Exceptions::Standard);
        let built = wasm::compile_examples(toolchain, &at, panics, &package, &places)?;
        for (name, module) in built {
            wasm::write_if_changed(&folder.join(format!("{prefix}-{name}.wasm")), &module)?;
        }
    }
    Ok(())
}

/// Where the SDK's sources are: fetched now, if they were not before, and only with the
/// checksum in the lock file.
fn sdk(toolchain: &Toolchain, work: &Path) -> Result<PathBuf> {
    // Cargo does not even look at a package whose examples are not there.
    let manifest = fs::read_to_string(work.join("Cargo.toml"))?;
    let names = manifest.lines().filter_map(|line| line.strip_prefix("name = \""));
    for name in names.filter_map(|rest| rest.strip_suffix('"')).skip(1) {
        let file = work.join("examples").join(format!("{name}.rs"));
        if !file.is_file() {
            fs::write(file, "")?;
        }
    }
    let text = command::read(toolchain.cargo().current_dir(work).args([
        "metadata",
        "--locked",
        "--format-version=1",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let packages = metadata.get("packages").and_then(serde_json::Value::as_array);
    let sdk =
        packages.into_iter().flatten().find(|it| it.get("name") == Some(&"proxy-wasm".into()));
    let manifest = sdk.and_then(|sdk| sdk.get("manifest_path")?.as_str());
    let folder = manifest.and_then(|manifest| Path::new(manifest).parent());
    Ok(folder.context("cargo does not say where proxy-wasm is")?.to_owned())
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter(|path| path.extension().is_some_and(|it| it == "rs")).collect())
}
