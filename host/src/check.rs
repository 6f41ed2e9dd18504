//! `tidegate check`: what a policy file means, or what is wrong with it.

mod account;

use crate::policy_file;
use std::io::{self, Write};
use std::path::Path;
use tidegate_core::policy::Policy;
use tidegate_core::policy::resolve::{Resolved, resolve};

/// Tells of a policy file: diagnostics to `err`; if the policy can be used, an account of
/// it in plain words to `out`.
///
/// Returns whether the policy can be used.
///
/// # Errors
///
/// Only of writing; what is wrong with the file is told.
pub fn run(file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<bool> {
    let name = file.display();
    let document = match policy_file::read(file) {
        Ok(document) => document,
        Err(unreadable) => {
            let space = if unreadable.mark.is_some() { "" } else { " " };
            writeln!(err, "{name}:{space}{unreadable}")?;
            return Ok(false);
        }
    };
    let Resolved { policy, mut diagnostics } = resolve(&document);
    // In the order of the file, which is how it will be mended.
    diagnostics.sort_by_key(|diagnostic| diagnostic.mark);
    for diagnostic in diagnostics {
        let space = if diagnostic.mark.is_some() { "" } else { " " };
        writeln!(err, "{name}:{space}{diagnostic}")?;
    }
    let Some(policy) = policy else { return Ok(false) };
    write!(out, "{name}: {}", account(&policy))?;
    Ok(true)
}

/// What a policy does, in plain words.
pub fn account(policy: &Policy) -> String {
    account::of(policy)
}
