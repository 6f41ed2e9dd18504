//! The tools of other languages that make and run components: fetched for the step `foreign`, as
//! the examples pin them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::toolchain::Toolchain;
use crate::tools;
use crate::workspace::Workspace;

/// What pins them: npm's files, and pip's.
const PINS: [&str; 3] =
    ["javascript/package.json", "javascript/package-lock.json", "python/requirements.txt"];

/// The oldest Node.js that jco runs in.
const NODE_MAJOR_MIN: u32 = 20;

/// Says what a folder was made of: with other pins it is made anew.
const MADE_OF: &str = "made-of.txt";

/// Finds or fetches all of them; the folder that they are in: `javascript/node_modules`, and
/// `python` for Python's modules, with programs in its `bin`.
///
/// # Errors
///
/// Says what is missing or could not be fetched, and what to do.
fn find(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = env::var_os("TIDEGATE_FOREIGN") {
        return Ok(named.into());
    }
    check_node()?;
    let python = tools::python_with_pip()?;
    let examples = workspace.root.join("wit/examples");
    let folder = workspace.target.join("tools/foreign");
    let made_of = pins(&examples)?;
    if fs::read_to_string(folder.join(MADE_OF)).is_ok_and(|found| found == made_of) {
        return Ok(folder);
    }
    eprintln!("tools: no componentizers of other languages here; fetching them");
    // Whole or not at all.
    let draft = folder.with_extension("new");
    for leftover in [&draft, &folder] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    fetch_from_npm(&examples, &draft)?;
    fetch_from_pypi(&python, &examples, &draft)?;
    fs::write(draft.join(MADE_OF), made_of)?;
    fs::rename(&draft, &folder)?;
    Ok(folder)
}

/// What tests and measurements find them by.
///
/// # Errors
///
/// As of [`find`].
pub(crate) fn environment(
    workspace: &Workspace,
    toolchain: &Toolchain,
) -> Result<Vec<(&'static str, OsString)>> {
    let tools = find(workspace)?;
    Ok(vec![
        ("TIDEGATE_FOREIGN", tools.into()),
        ("TIDEGATE_RUST_FOR_WASM", rust_for_wasm(toolchain).into()),
    ])
}

/// What cargo must be told to build for wasm where no library for it is installed: variables, a
/// line each. Nothing where one is.
fn rust_for_wasm(toolchain: &Toolchain) -> String {
    let installed = toolchain.library.ancestors().nth(3);
    if installed.is_some_and(|rustlib| rustlib.join("wasm32-unknown-unknown/lib").is_dir()) {
        return String::new();
    }
    format!(
        "RUSTC={}\nRUSTC_BOOTSTRAP=1\nCARGO_UNSTABLE_BUILD_STD=std,panic_abort\n\
         CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER={}\n",
        toolchain.rustc.display(),
        toolchain.linker.display()
    )
}

fn check_node() -> Result<()> {
    if !tools::has_npm()? {
        bail!("no npm here: install Node.js {NODE_MAJOR_MIN} or later");
    }
    let version = command::read(Command::new("node").arg("--version"))?;
    let major = version.strip_prefix('v').and_then(|text| text.split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_MAJOR_MIN) {
        bail!("Node.js {} is here, and jco takes {NODE_MAJOR_MIN} or later", version.trim());
    }
    Ok(())
}

fn pins(examples: &Path) -> Result<String> {
    let read = |name: &&str| {
        let path = examples.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    PINS.iter().map(read).collect()
}

/// Those versions with those checksums, or none.
fn fetch_from_npm(examples: &Path, draft: &Path) -> Result<()> {
    let folder = draft.join("javascript");
    fs::create_dir_all(&folder)?;
    for name in &PINS[..2] {
        fs::copy(examples.join(name), draft.join(name))?;
    }
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
    command::run(Command::new("npm").args(arguments).current_dir(folder))
}

fn fetch_from_pypi(python: &Path, examples: &Path, draft: &Path) -> Result<()> {
    let arguments: [OsString; 4] = [
        "--target".into(),
        draft.join("python").into(),
        "--requirement".into(),
        examples.join(PINS[2]).into(),
    ];
    command::run(
        Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--root-user-action=ignore", "--only-binary=:all:"])
            .args(arguments),
    )
}
