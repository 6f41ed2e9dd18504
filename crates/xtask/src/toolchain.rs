//! Finds a toolchain that can build the filter, and installs one if it must.
//!
//! A panic in the filter must unwind, so that it can be caught at the
//! callback's edge; the standard library that rustup ships for
//! wasm32-unknown-unknown can only abort ("the crate `panic_unwind` does not
//! have the panic strategy `unwind`"). So an installed target is of no use, and
//! the library is built from source, in this order:
//!
//! 1. the active toolchain, if its `rust-src` is there;
//! 2. the active toolchain after `rustup component add rust-src`;
//! 3. Debian's packages, which also work where rustup's servers are out of reach.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::cargo;

/// A rustc with the sources of its library, its cargo, and a linker for wasm.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub cargo: PathBuf,
    pub rustc: PathBuf,
    pub linker: PathBuf,
    /// The folder of the standard library's sources.
    pub library: PathBuf,
    /// What was chosen and why, for a person.
    pub why: String,
    is_active: bool,
}

/// The packages of rustc, cargo and sources on Debian; the linker's depends on rustc's LLVM.
const DEBIAN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Where Debian's packages put everything.
const DEBIAN_SYSROOT: &str = "/usr";

/// Tries the ways in order and says why each one before the chosen did not do.
///
/// # Errors
///
/// Lists what was tried and what to install.
pub(crate) fn find() -> Result<Toolchain> {
    let mut tried = Vec::new();
    for way in [active, with_rust_src, debian] {
        match way() {
            Ok(toolchain) => {
                eprintln!("toolchain: {}", toolchain.why);
                return Ok(toolchain);
            }
            Err(reason) => {
                eprintln!("toolchain: {reason:#}");
                tried.push(format!("{reason:#}"));
            }
        }
    }
    bail!(
        "no toolchain here can build the filter:\n  - {}\ninstall one: \
         `rustup component add rust-src`, or on Debian as root \
         `apt-get install {} lld-22`",
        tried.join("\n  - "),
        DEBIAN.join(" ")
    )
}

impl Toolchain {
    /// This toolchain's cargo, set to use this toolchain's rustc and nothing else's.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        // Building the library is an unstable feature of cargo, and the one we need of it has
        // been the same for years.
        command.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        if !self.is_active {
            // `cargo run` points these at the active toolchain.
            command.env_remove("RUSTUP_TOOLCHAIN").env_remove("LD_LIBRARY_PATH");
        }
        command
    }

    fn at(sysroot: &Path) -> Result<Self> {
        let rustc = sysroot.join("bin/rustc");
        let version = Version::of(&rustc)?;
        let library = sysroot.join("lib/rustlib/src/rust/library");
        if !library.join("std/Cargo.toml").is_file() {
            bail!("{} at {} has no rust-src", version.rustc, sysroot.display());
        }
        let linker = linker(sysroot, &version).with_context(|| {
            format!("{} has no linker for wasm: no rust-lld, no wasm-ld", version.rustc)
        })?;
        // Toolchains put together by hand may come without a cargo of their own.
        let own_cargo = sysroot.join("bin/cargo");
        let cargo = if own_cargo.is_file() { own_cargo } else { cargo() };
        let why = format!("{} with rust-src, linker {}", version.rustc, linker.display());
        Ok(Self { cargo, rustc, linker, library, why, is_active: true })
    }
}

fn active() -> Result<Toolchain> {
    let toolchain = Toolchain::at(&active_sysroot()?)?;
    Ok(Toolchain { why: format!("the active one, {}", toolchain.why), ..toolchain })
}

fn with_rust_src() -> Result<Toolchain> {
    let sysroot = active_sysroot()?;
    let name = sysroot
        .parent()
        .filter(|parent| parent.ends_with("toolchains"))
        .and_then(|_| sysroot.file_name())
        .with_context(|| format!("{} is not rustup's", sysroot.display()))?;
    command::read(
        Command::new("rustup").args(["component", "add", "rust-src", "--toolchain"]).arg(name),
    )?;
    let toolchain = Toolchain::at(&sysroot)?;
    Ok(Toolchain { why: format!("the active one, {}, just added", toolchain.why), ..toolchain })
}

fn debian() -> Result<Toolchain> {
    let sysroot = Path::new(DEBIAN_SYSROOT);
    let (toolchain, when) = match Toolchain::at(sysroot) {
        Ok(toolchain) => (toolchain, ""),
        Err(reason) if !command::can_install() => {
            return Err(reason.context("Debian's cannot be installed but by root with apt-get"));
        }
        Err(reason) => {
            eprintln!("toolchain: {reason:#}; installing Debian's");
            command::apt_install(&DEBIAN)?;
            let version = Version::of(&sysroot.join("bin/rustc"))?;
            command::apt_install(&[&format!("lld-{}", version.llvm)])?;
            (Toolchain::at(sysroot)?, ", just installed")
        }
    };
    let why = format!("Debian's, {}{when}", toolchain.why);
    Ok(Toolchain { why, is_active: false, ..toolchain })
}

fn active_sysroot() -> Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = command::read(Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// What `rustc -vV` tells.
#[derive(Debug, PartialEq)]
struct Version {
    /// `rustc 1.95.0`
    rustc: String,
    /// `x86_64-unknown-linux-gnu`
    host: String,
    /// LLVM's major version: a linker should be as new as the compiler.
    llvm: u32,
}

impl Version {
    fn of(rustc: &Path) -> Result<Self> {
        let text = command::read(Command::new(rustc).arg("-vV"))?;
        let version = Self::parse(&text)
            .with_context(|| format!("`{} -vV` wrote something else", rustc.display()))?;
        if !version.is_new_enough() {
            bail!("{} is older than {}", version.rustc, env!("CARGO_PKG_RUST_VERSION"));
        }
        Ok(version)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let mut words = text.lines().next()?.split_whitespace();
        Some(Self {
            rustc: format!("{} {}", words.next()?, words.next()?),
            host: field("host: ")?.to_owned(),
            llvm: field("LLVM version: ")?.split('.').next()?.parse().ok()?,
        })
    }

    fn is_new_enough(&self) -> bool {
        let minor = |text: &str| text.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        minor(&self.rustc) >= minor(env!("CARGO_PKG_RUST_VERSION"))
    }
}

/// rustc's own linker, else one of LLVM's that is as new as the compiler, else any.
fn linker(sysroot: &Path, version: &Version) -> Option<PathBuf> {
    let own = sysroot.join("lib/rustlib").join(&version.host).join("bin/rust-lld");
    if own.is_file() {
        return Some(own);
    }
    [&format!("wasm-ld-{}", version.llvm), "wasm-ld", "rust-lld"]
        .into_iter()
        .find_map(command::in_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn the_version_is_read_from_rustc() {
        let version = Version::parse(VERBOSE).expect("is what rustc writes");
        let host = "x86_64-unknown-linux-gnu".to_owned();
        assert_eq!(version, Version { rustc: "rustc 1.95.0".to_owned(), host, llvm: 22 });
        assert_eq!(Version::parse("gcc 14\n"), None);
    }

    #[test]
    fn a_compiler_before_our_minimum_is_not_taken() {
        let aged = |release: &str| Version::parse(&VERBOSE.replace("1.95.0", release)).unwrap();
        assert!(!aged("1.63.0").is_new_enough());
        assert!(aged("1.88.0").is_new_enough());
        assert!(aged("1.100.0-nightly").is_new_enough());
    }
}
