//! Filters in AssemblyScript, compiled by what npm has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::copied;
use crate::command;
use crate::tools;
use crate::workspace::Workspace;

/// The folder with a filter of our own.
const OURS: &str = "tests/guests/assemblyscript";

/// Folders that pin a compiler and an SDK whose README shows a filter, and the module that
/// becomes of it.
const OF_READMES: [(&str, &str, &str); 2] = [
    ("tests/guests/others/solo", "readme-solo", "@solo-io/proxy-runtime"),
    ("tests/guests/others/gcore", "readme-gcore", "@gcoredev/proxy-wasm-sdk-as"),
];

/// What makes WASI of the output that newer versions of the language have; only if it is there.
const WASI: &str = "node_modules/@assemblyscript/wasi-shim/asconfig.json";

/// Where both keep their source.
const SOURCE: &str = "assembly/index.ts";

/// Builds all of them into `folder`.
///
/// # Errors
///
/// If npm is there and one does not build. Without npm, nor a way to install it, they are
/// skipped aloud.
pub(super) fn build(workspace: &Workspace, folder: &Path) -> Result<()> {
    if !tools::has_npm()? {
        eprintln!("SKIPPED: filters in AssemblyScript: there is no npm here");
        return Ok(());
    }
    let ours = installed(workspace, OURS)?;
    compile(&ours, &folder.join("assemblyscript.wasm"))?;
    for (from, name, sdk) in OF_READMES {
        let work = installed(workspace, from)?;
        let readme = work.join("node_modules").join(sdk).join("README.md");
        let readme = fs::read_to_string(&readme)
            .with_context(|| format!("cannot read {}", readme.display()))?;
        let filter = filter_of(&readme).with_context(|| format!("{sdk}'s README has no filter"))?;
        fs::create_dir_all(work.join("assembly"))?;
        fs::write(work.join(SOURCE), filter)?;
        compile(&work, &folder.join(format!("{name}.wasm")))?;
    }
    Ok(())
}

/// A copy of a folder with what its lock file names: those versions with those checksums, or none.
fn installed(workspace: &Workspace, from: &str) -> Result<PathBuf> {
    let work = copied(workspace, from)?;
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
    command::run(Command::new("npm").args(npm).current_dir(&work))?;
    Ok(work)
}

fn compile(work: &Path, module: &Path) -> Result<()> {
    command::run(
        Command::new("node")
            .arg("node_modules/assemblyscript/bin/asc")
            // The SDKs' way to say why they end: in the log.
            .args([SOURCE, "--use", "abort=abort_proc_exit", "--optimize", "--noColors", "-o"])
            .arg(module)
            .args(work.join(WASI).is_file().then_some(["--config", WASI]).into_iter().flatten())
            .current_dir(work),
    )
}

/// The first block of code in TypeScript: the README's hello, world.
fn filter_of(readme: &str) -> Result<&str> {
    let block = readme.split("```ts\n").nth(1).and_then(|rest| rest.split("```").next());
    match block {
        Some(block) if block.contains("registerRootContext") => Ok(block),
        _ => bail!("no block of code that registers a root context"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_of_typescript_is_taken() {
        let readme = "# SDK\n```shell\nnpm\n```\n```ts\nregisterRootContext(it);\n```\nand\n```ts\nno\n```\n";
        assert_eq!(filter_of(readme).unwrap(), "registerRootContext(it);\n");
        assert!(filter_of("# SDK\n```ts\nlet it;\n```\n").is_err());
    }
}
