//! Tokens and cookies: from a file, or from standard input. A command line is seen by every
//! process of a machine, and kept by shells.

use super::Failure;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest file with a secret in it.
const BYTES_MAX: u64 = 64 << 10;

/// What a file holds, or standard input if it is `-`, without space around it.
///
/// # Errors
///
/// That it cannot be read, is empty, or is too long for a secret.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |what: &str| Failure::File(format!("{}: {what}", name(path)));
    let mut bytes = Vec::new();
    let read = match is_standard_input(path) {
        true => io::stdin().take(BYTES_MAX + 1).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| failed(&format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(failed("is longer than any token"));
    }
    match bytes.trim_ascii() {
        [] => Err(failed("is empty")),
        trimmed => Ok(trimmed.to_vec()),
    }
}

pub(super) fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What it is called in messages.
pub(super) fn name(path: &Path) -> String {
    match is_standard_input(path) {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}
