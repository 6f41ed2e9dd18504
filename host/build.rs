//! Takes the filter's builds into the program, if `cargo xtask build filter` has left them in
//! the target folder. Without them the program is built all the same, and looks for a filter
//! when it needs one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    take(&out, "tidegate.wasm");
    take(&out, "tidegate-standing.wasm");
    // Without a file to watch cargo would watch the whole package.
    println!("cargo::rerun-if-changed=build.rs");
}

/// Writes an expression for the bytes of a module: `Some(…)`, or `None` if it is not there.
fn take(out: &Path, name: &str) {
    let bytes = match built(out, name) {
        None => "None".to_owned(),
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            fs::copy(&path, out.join(name)).expect("OUT_DIR can be written");
            format!("Some(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\")))")
        }
    };
    fs::write(out.join(format!("{name}.rs")), bytes).expect("OUT_DIR can be written");
}

/// The target folder is some levels above `OUT_DIR`.
fn built(out: &Path, name: &str) -> Option<PathBuf> {
    out.ancestors().map(|folder| folder.join("filter").join(name)).find(|path| path.is_file())
}
