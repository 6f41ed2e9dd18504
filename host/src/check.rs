//! `tidegate check`: what a policy file means, or what is wrong with it.

mod account;

use crate::policy_file;
use std::io::{self, Write};
use std::path::Path;
use tidegate_core::policy::Policy;

/// Tells of a policy file: diagnostics to `err`; if the policy can be used, an account of
/// it in plain words to `out`.
///
/// Returns whether the policy can be used.
///
/// # Errors
///
/// Only of writing; what is wrong with the file is told.
pub fn run(file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<bool> {
    let judged = policy_file::judge(file);
    for line in judged.lines {
        writeln!(err, "{line}")?;
    }
    let Some((_, policy)) = judged.usable else { return Ok(false) };
    write!(out, "{}: {}", file.display(), account(&policy))?;
    Ok(true)
}

/// What a policy does, in plain words.
pub fn account(policy: &Policy) -> String {
    account::of(policy)
}
