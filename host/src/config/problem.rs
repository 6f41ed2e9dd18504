//! What is wrong with a configuration: where, what was found, what was wanted, a hint.

use super::tree::{Node, Origin};
use std::fmt;
use std::path::Path;

/// One setting that is wrong, as a message to print.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    file: Option<String>,
    origin: Option<Origin>,
    path: String,
    what: What,
    hint: Option<String>,
}

#[derive(Clone, Debug)]
enum What {
    Said(String),
    /// What was found is filled in by the nearest value that knows itself.
    Wanted(String),
    FoundAndWanted(String, String),
}

impl Problem {
    pub(crate) fn new(what: String) -> Self {
        Self::of_kind(What::Said(what))
    }

    pub(crate) fn wanted(wanted: String) -> Self {
        Self::of_kind(What::Wanted(wanted))
    }

    fn of_kind(what: What) -> Self {
        Self(Box::new(Parts { file: None, origin: None, path: String::new(), what, hint: None }))
    }

    pub(super) fn found(node: &Node, wanted: &str) -> Self {
        Self::wanted(wanted.to_owned()).of(node)
    }

    /// It was this value; the innermost that is told counts.
    pub(super) fn of(mut self, node: &Node) -> Self {
        if let What::Wanted(wanted) = &mut self.0.what {
            self.0.what = What::FoundAndWanted(node.describe(), std::mem::take(wanted));
        }
        self.at(node.origin)
    }

    /// It was here; the innermost place that is told counts.
    pub(super) fn at(mut self, origin: Origin) -> Self {
        if self.0.origin.is_none() {
            self.0.origin = Some(origin);
        }
        self
    }

    /// It was below this name; called from the inside out.
    pub(super) fn within(mut self, name: &str) -> Self {
        let dot = if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("{name}{dot}{}", self.0.path);
        self
    }

    /// It was the setting at `path`, wherever that was typed.
    pub(crate) fn located(mut self, tree: &Node, path: &str) -> Self {
        self.0.path = path.to_owned();
        match tree.at(path) {
            Some(node) => self.at(node.origin),
            None => self,
        }
    }

    pub(crate) fn hint(mut self, hint: String) -> Self {
        self.0.hint = Some(hint);
        self
    }

    /// It was in this file, unless a variable of the environment was to blame.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        if !matches!(self.0.origin, Some(Origin::Environment(_))) {
            self.0.file = Some(path.display().to_string());
        }
        self
    }
}

impl fmt::Display for Problem {
    /// `FILE:LINE:COLUMN: PATH: found X, wanted Y`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.file, &self.0.origin) {
            (Some(file), Some(origin)) => write!(f, "{file}:{origin}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, Some(origin)) => write!(f, "{origin}: ")?,
            (None, None) => {}
        }
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.0.path)?;
        }
        match &self.0.what {
            What::Said(what) => f.write_str(what)?,
            What::Wanted(wanted) => write!(f, "wanted {wanted}")?,
            What::FoundAndWanted(found, wanted) => write!(f, "found {found}, wanted {wanted}")?,
        }
        match &self.0.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}
