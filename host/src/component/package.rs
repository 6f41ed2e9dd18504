//! The package `tidegate:edge` as it is spoken here, and whether a component fits a world of it.
//!
//! Names and versions are looked at before types: they say more than that types do not fit.

use wasmtime::component::Component;

/// Our package, and the version of it that is spoken here.
const PACKAGE: &str = "tidegate:edge/";
const VERSION: &str = "0.1.0";

/// A world of the package, as the host's side of it.
pub(crate) struct World {
    name: &'static str,
    /// The interface that a component of it exports.
    export: &'static str,
    /// The interfaces that one may import.
    imports: &'static [&'static str],
    /// Whether WASI is there as well.
    has_wasi: bool,
    /// For who brings a core module: what to do.
    hint: &'static str,
}

/// The limiter's.
pub(crate) const EDGE_GUARD: World = World {
    name: "edge-guard",
    export: "guard",
    imports: &["clock", "log", "shared", "store", "types"],
    has_wasi: false,
    hint: "a proxy-wasm filter runs with --filter",
};

/// That of policies' plugins.
pub(crate) const POLICY_PLUGIN: World = World {
    name: "policy-plugin",
    export: "policy",
    imports: &["log", "types"],
    has_wasi: true,
    hint: "a language's component tooling makes it one",
};

impl World {
    /// Whether bytes begin as a component does.
    ///
    /// # Errors
    ///
    /// What they begin as.
    pub(crate) fn reads(&self, code: &[u8]) -> Result<(), String> {
        let Self { name, hint, .. } = self;
        let found = match code {
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
                format!("it is a core module; wanted one of the world {name}\n  hint: {hint}")
            }
            [0, b'a', b's', b'm', ..] => "it has another version of the format".to_owned(),
            [] => "it is empty".to_owned(),
            other => {
                let start: Vec<u8> = other.iter().take(8).copied().collect();
                format!("it begins with \"{}\"; wanted \"\\0asm\"", start.escape_ascii())
            }
        };
        Err(format!("not a component: {found}"))
    }

    /// Whether a component exports what it must, and imports nothing that is not there.
    ///
    /// # Errors
    ///
    /// The first that is not so, by name and version.
    pub(crate) fn fits(
        &self,
        engine: &wasmtime::Engine,
        component: &Component,
    ) -> Result<(), String> {
        let kind = component.component_type();
        let exports: Vec<_> = kind.exports(engine).map(|(name, _)| name).collect();
        self.exported(&exports)?;
        kind.imports(engine).try_for_each(|(name, _)| self.imported(name))
    }

    /// What is said of one whose names fit, and its types do not.
    pub(crate) fn misfit(&self, why: &str) -> String {
        let package = PACKAGE.trim_end_matches('/');
        format!("is not of the world {} of {package}@{VERSION}: {why}", self.name)
    }

    /// Whether one thing that a component imports is offered here.
    fn imported(&self, name: &str) -> Result<(), String> {
        if self.has_wasi && name.starts_with("wasi:") {
            return Ok(());
        }
        let known = ours(name).filter(|(interface, _)| self.imports.contains(interface));
        match known {
            Some((_, version)) if is_compatible(version) => Ok(()),
            Some((interface, _)) => {
                Err(format!("imports {name}; this host has {PACKAGE}{interface}@{VERSION}"))
            }
            None => {
                let all = self.imports.iter().map(|name| format!("{PACKAGE}{name}@{VERSION}"));
                let wasi = if self.has_wasi { "and WASI" } else { "and nothing of WASI" };
                Err(format!(
                    "imports {name}, which the world {} does not have\n  hint: it has {}, {wasi}",
                    self.name,
                    all.collect::<Vec<_>>().join(", ")
                ))
            }
        }
    }

    /// Whether what it exports is what one of this world does.
    fn exported(&self, names: &[&str]) -> Result<(), String> {
        let Self { name: world, export, .. } = self;
        let wanted = format!("{PACKAGE}{export}@{VERSION}");
        let same = names.iter().find_map(|name| ours(name).filter(|(name, _)| name == export));
        match same {
            Some((_, version)) if is_compatible(version) => Ok(()),
            Some((_, version)) => {
                Err(format!("exports {PACKAGE}{export}@{version}; this host wants {wanted}"))
            }
            None => {
                let found = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
                Err(format!("does not export {wanted}, of the world {world}; found {found}"))
            }
        }
    }
}

/// An interface of our package, and of which version.
fn ours(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix(PACKAGE)?;
    Some(name.split_once('@').unwrap_or((name, "")))
}

/// Before 1.0 each minor version is another world.
fn is_compatible(version: &str) -> bool {
    let series = |version: &str| version.rsplit_once('.').map(|(series, _)| series.to_owned());
    series(version).is_some() && series(version) == series(VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_that_is_not_there_is_named_with_its_version() {
        for (world, import) in [
            (EDGE_GUARD, "tidegate:edge/clock@0.1.0"),
            (EDGE_GUARD, "tidegate:edge/clock@0.1.7"),
            (POLICY_PLUGIN, "tidegate:edge/log@0.1.7"),
            (POLICY_PLUGIN, "wasi:io/streams@0.2.0"),
        ] {
            assert_eq!(world.imported(import), Ok(()));
        }
        for (world, import, told) in [
            (EDGE_GUARD, "tidegate:edge/clock@0.2.0", "this host has tidegate:edge/clock@0.1.0"),
            (EDGE_GUARD, "tidegate:edge/moon@0.1.0", "the world edge-guard does not have"),
            (EDGE_GUARD, "wasi:io/streams@0.2.0", "nothing of WASI"),
            (POLICY_PLUGIN, "tidegate:edge/store@0.1.0", "and WASI"),
            (POLICY_PLUGIN, "tidegate:edge/log@0.2.0", "this host has tidegate:edge/log@0.1.0"),
        ] {
            let error = world.imported(import).unwrap_err();
            assert!(error.contains(import) && error.contains(told), "{error}");
        }
    }

    #[test]
    fn an_export_that_is_missing_is_named_with_what_there_is() {
        assert_eq!(EDGE_GUARD.exported(&["other", "tidegate:edge/guard@0.1.1"]), Ok(()));
        assert_eq!(POLICY_PLUGIN.exported(&["tidegate:edge/policy@0.1.1"]), Ok(()));
        for (exports, told) in [
            (&["tidegate:edge/guard@1.0.0"][..], "this host wants tidegate:edge/guard@0.1.0"),
            (&["tidegate:edge/policy@0.1.0"], "found tidegate:edge/policy@0.1.0"),
            (&[], "found nothing"),
        ] {
            let error = EDGE_GUARD.exported(exports).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
