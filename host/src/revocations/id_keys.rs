//! The keys of ids whose parts are secret, from files that may be replaced.
//!
//! Hosts and proxies make the same ids of the same secrets only with the same key. To replace
//! one, a second file is set; secrets are filed, and looked for, under both until what was filed
//! under the old one alone is over. Proxies are told the keys with all news, so who knows what was
//! revoked knows under which keys.

use crate::files::{Files, Kept};
use base64ct::{Base64, Base64Unpadded, Encoding as _};
use std::fmt;
use std::path::{Path, PathBuf};
use tidegate_core::revoke::id::IdKey;
use tidegate_core::revoke::message::ID_KEYS_MAX;

/// The keys, as the files were when they were last looked at.
pub(super) struct IdKeys {
    paths: Vec<PathBuf>,
    known: Kept<Vec<IdKey>>,
}

impl IdKeys {
    /// Reads these files, at most [`ID_KEYS_MAX`].
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, String> {
        let paths = paths.get(..ID_KEYS_MAX).unwrap_or(paths).to_vec();
        let known = Kept::read(|files| read(&paths, files))?;
        Ok(Self { paths, known })
    }

    /// The one in use first.
    pub(super) fn all(&self) -> Vec<IdKey> {
        self.known.now().to_vec()
    }

    /// Reads the files again if they hold something else; returns whether they are others now. If
    /// that is no key the last ones stay.
    pub(super) fn look(&self) -> bool {
        let looked = self.known.look(|files| read(&self.paths, files));
        match &looked {
            None => {}
            Some(Ok(_)) => tracing::info!("the keys of revocations' ids are others"),
            Some(Err(problem)) => tracing::error!("{problem}: the last ones stay"),
        }
        matches!(looked, Some(Ok(_)))
    }
}

impl fmt::Debug for IdKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdKeys").field(&self.paths).finish()
    }
}

fn read(paths: &[PathBuf], files: &mut Files) -> Result<Vec<IdKey>, String> {
    paths.iter().map(|path| parse(path, &files.read(path)?)).collect()
}

/// 64 hex digits, or Base64 of 32 bytes, with or without padding; blanks around it do not count.
fn parse(path: &Path, bytes: &[u8]) -> Result<IdKey, String> {
    let text = bytes.trim_ascii();
    let key = if text.len() == 64 { of_hex(text) } else { of_base64(text) };
    // What was found is a secret, or the attempt at one.
    key.ok_or_else(|| {
        format!(
            "{}: found no key, wanted 32 bytes as 64 hex digits or as Base64\n  hint: `openssl \
             rand -hex 32` makes one",
            path.display()
        )
    })
}

fn of_hex(text: &[u8]) -> Option<IdKey> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(key)
}

fn of_base64(text: &[u8]) -> Option<IdKey> {
    let mut key = [0; 32];
    let read = match text.ends_with(b"=") {
        true => Base64::decode(text, &mut key),
        false => Base64Unpadded::decode(text, &mut key),
    };
    (read.ok()?.len() == key.len()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<IdKey> {
        parse(Path::new("key"), text.as_bytes()).ok()
    }

    #[test]
    fn a_key_is_read_as_hex_and_as_base64() {
        let key: IdKey = std::array::from_fn(|n| n as u8 * 7 + 3);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(parsed(&hex), Some(key));
        assert_eq!(parsed(&format!(" {}\n", hex.to_uppercase())), Some(key));
        let base64 = "AwoRGB8mLTQ7QklQV15lbHN6gYiPlp2kq7K5wMfO1dw=";
        assert_eq!(parsed(base64), Some(key));
        assert_eq!(parsed(&base64[..43]), Some(key));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let hex = "0".repeat(64);
        for text in ["", "hunter2", &hex[1..], &format!("{hex}0"), &"g".repeat(64), &"A".repeat(42)]
        {
            let problem = parse(Path::new("/run/key"), text.as_bytes()).unwrap_err();
            assert!(problem.starts_with("/run/key: found no key, wanted 32 bytes"), "{problem}");
            assert!(text.is_empty() || !problem.contains(text), "{problem}");
        }
        assert_eq!(parsed(&format!("{}B", "A".repeat(42))), None, "bits that mean nothing");
    }

    #[test]
    fn a_file_that_is_replaced_is_read_again_and_one_that_is_broken_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "11".repeat(32)).unwrap();
        let keys = IdKeys::read(std::slice::from_ref(&path)).unwrap();
        assert_eq!(keys.all(), [[0x11; 32]]);
        std::fs::write(&path, "22".repeat(32)).unwrap();
        assert!(keys.look());
        assert_eq!(keys.all(), [[0x22; 32]]);
        std::fs::write(&path, "hunter2").unwrap();
        assert!(!keys.look());
        assert_eq!(keys.all(), [[0x22; 32]]);
    }
}
