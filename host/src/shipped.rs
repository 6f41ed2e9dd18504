//! The filter that Tidegate ships, and where it comes from.
//!
//! A release has it within the program (`build.rs`). A build without it looks for the file
//! that `cargo xtask build filter` makes, so that a checkout works too.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use tidegate_core::policy::Policy;

/// Which of the filter's builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Build {
    /// `tidegate.wasm`: sees requests only.
    Plain,
    /// `tidegate-standing.wasm`: also tells clients where they stand on responses that were
    /// let through, which costs each of them a callback.
    Standing,
}

/// Where a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// In this program.
    Within(&'static [u8]),
}

const PLAIN: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/tidegate.wasm.rs"));

const STANDING: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/tidegate-standing.wasm.rs"));

impl Build {
    /// The least one that a policy needs.
    #[must_use]
    pub const fn of(policy: &Policy) -> Self {
        if policy.headers.on_allow { Self::Standing } else { Self::Plain }
    }

    /// Its file's name.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Plain => "tidegate.wasm",
            Self::Standing => "tidegate-standing.wasm",
        }
    }

    /// The variable of the environment that names another file.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Plain => "TIDEGATE_FILTER",
            Self::Standing => "TIDEGATE_FILTER_STANDING",
        }
    }

    /// Where this build is: in the `chosen` file, else where [`Build::variable`] says, else
    /// within this program, else in a file beside it.
    ///
    /// # Errors
    ///
    /// If it is nowhere, as a message to print.
    pub fn find(self, chosen: Option<&Path>) -> Result<Source, String> {
        let variable = || std::env::var_os(self.variable()).filter(|path| !path.is_empty());
        let named = chosen.map(Path::to_owned).or_else(|| variable().map(PathBuf::from));
        let within = match self {
            Self::Plain => PLAIN,
            Self::Standing => STANDING,
        };
        let file = |path| Some(Source::File(path));
        named
            .and_then(file)
            .or_else(|| within.map(Source::Within))
            .or_else(|| self.beside().and_then(file))
            .ok_or_else(|| {
                format!(
                    "{} is not in this build\n  hint: `cargo xtask build filter` makes it; \
                     --filter-file or {} names it",
                    self.file_name(),
                    self.variable()
                )
            })
    }

    /// `target/filter/tidegate.wasm` for a program in `target/debug`; or beside the program.
    fn beside(self) -> Option<PathBuf> {
        let program = std::env::current_exe().ok()?;
        let folder = program.parent()?;
        let made = folder.ancestors().map(|above| above.join("filter").join(self.file_name()));
        let near = folder.join(self.file_name());
        std::iter::once(near).chain(made).find(|path| path.is_file())
    }
}

impl Source {
    /// The module's code.
    ///
    /// # Errors
    ///
    /// If its file cannot be read, as a message to print.
    pub fn code(&self) -> Result<Cow<'static, [u8]>, String> {
        match self {
            Self::Within(code) => Ok(Cow::Borrowed(code)),
            Self::File(path) => match std::fs::read(path) {
                Ok(code) => Ok(Cow::Owned(code)),
                Err(error) => Err(format!("{}: cannot be read: {error}", path.display())),
            },
        }
    }
}

/// Where compiled modules are kept from one run to the next, if there is such a place:
/// `tidegate` in the user's folder for what can be made again.
#[must_use]
pub fn cache() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(caches.join("tidegate"))
}
