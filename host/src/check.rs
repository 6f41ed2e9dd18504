//! `tidegate check`: what a policy file means, or what is wrong with it.

mod account;

use crate::plugins::Settings;
use crate::plugins::examine::examine;
use crate::policy_file;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tidegate_core::policy::Policy;

/// A component that is to be held against what a policy says of a plugin: `NAME=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    name: String,
    file: PathBuf,
}

impl FromStr for Plugin {
    type Err = &'static str;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        match typed.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(Self { name: name.to_owned(), file: file.into() })
            }
            _ => Err("wanted NAME=FILE, such as tiers=tiers.wasm"),
        }
    }
}

/// Tells of a policy file: diagnostics to `err`; if the policy can be used, an account of
/// it in plain words to `out`, and what each of these plugins is.
///
/// Returns whether the policy can be used, and with these plugins.
///
/// # Errors
///
/// Only of writing; what is wrong with the file is told.
pub fn run(
    file: &Path,
    plugins: &[Plugin],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<bool> {
    let judged = policy_file::judge(file);
    for line in judged.lines {
        writeln!(err, "{line}")?;
    }
    let Some((_, policy)) = judged.usable else { return Ok(false) };
    write!(out, "{}: {}", file.display(), account(&policy))?;
    let mut all_fit = true;
    for plugin in plugins {
        match fits(&policy, plugin) {
            Ok(summary) => writeln!(out, "\nplugin {}: {summary}", plugin.name)?,
            Err(why) => {
                all_fit = false;
                writeln!(err, "{}: plugin {}: {why}", file.display(), plugin.name)?;
            }
        }
    }
    Ok(all_fit)
}

/// Whether a plugin is what the policy takes it for, and what it is.
fn fits(policy: &Policy, Plugin { name, file }: &Plugin) -> Result<String, String> {
    let Some(used) = policy.plugins.iter().find(|plugin| *plugin.name == **name) else {
        let known: Vec<&str> = policy.plugins.iter().map(|plugin| &*plugin.name).collect();
        return Err(match known.as_slice() {
            [] => "the policy uses no plugins".to_owned(),
            known => format!("the policy does not use it; it uses {}", known.join(", ")),
        });
    };
    let examined = examine(name, &Settings::of(file.clone()))?;
    match examined.differs(used) {
        Some(why) => Err(format!("{}: {why}", file.display())),
        None => Ok(examined.summary()),
    }
}

/// What a policy does, in plain words.
pub fn account(policy: &Policy) -> String {
    account::of(policy)
}
