//! What of a host keeps revocations: the ledger and the API's listener, opened before anything is
//! answered.

use super::Failure;
use super::metrics::Metrics;
use crate::config::{self, Config, Provider};
use crate::revocations::{Home, Revocations, Settings};
use crate::revocations_api::{Api, Door, Lives};
use std::error::Error;
use std::io;
use std::sync::Arc;
use tidegate_core::revoke::id::IdKey;

/// Opens the ledger, if revocations are kept here. Blocks for about a second for each million.
///
/// # Errors
///
/// [`Failure`] if it cannot be used, or a key cannot.
pub(super) fn ledger(config: &Config) -> Result<Option<Arc<Revocations>>, Failure> {
    let Some(settings) = &config.revocations else { return Ok(None) };
    let keys = settings.id_key_files.iter().map(|path| {
        let read = || id_key(&std::fs::read(path)?).ok_or_else(|| io::Error::other(WANTED));
        read().map_err(|source| Failure {
            what: format!("revocations.id_key_files: {}", path.display()),
            source,
        })
    });
    let settings = Settings {
        home: Home::Folder(settings.data_dir.clone()),
        is_shared: matches!(config.provider, Provider::Redis(_)),
        id_keys: keys.collect::<Result<_, _>>()?,
    };
    Revocations::open(&settings).map(Some).map_err(|problem| failure("revocations", problem))
}

/// Opens the API's door, if there is one.
///
/// # Errors
///
/// [`Failure`] if a file of its settings is not what it should be, or it cannot listen.
pub(super) fn door(
    settings: &config::Revocations,
    revocations: &Arc<Revocations>,
    metrics: &Metrics,
) -> Result<Option<Door>, Failure> {
    let Some(api) = &settings.api else { return Ok(None) };
    let lives = Lives {
        leeway: settings.leeway,
        token: settings.token_ttl_max,
        session: settings.session_ttl_max,
        retention: settings.retention_max,
    };
    let counts = metrics.revocations_api.clone();
    let answering = Api::new(api, lives, revocations.clone(), counts)
        .map_err(|problem| failure("revocations.api", problem))?;
    let opened = Door::open(api.listen, answering);
    let what = || format!("cannot listen on {}", api.listen);
    opened.map(Some).map_err(|source| Failure { what: what(), source })
}

fn failure(what: &str, problem: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure { what: what.to_owned(), source: io::Error::other(problem) }
}

const WANTED: &str = "wanted 32 random bytes, as 64 hex digits or 44 of base64; make them: openssl \
                      rand -hex 32";

/// A key as a file holds it.
fn id_key(text: &[u8]) -> Option<IdKey> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let mut key = IdKey::default();
    match text.len() {
        64 => {
            for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
                *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
            }
            Some(key)
        }
        _ => {
            use base64ct::{Base64, Base64Unpadded, Encoding};
            let read = match text.ends_with('=') {
                true => Base64::decode(text, &mut key),
                false => Base64Unpadded::decode(text, &mut key),
            };
            (read.ok()?.len() == 32).then_some(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hex_or_base64() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let key: IdKey = std::array::from_fn(|at| at as u8);
        for text in [
            format!("{hex}\n"),
            hex.to_uppercase(),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".to_owned(),
        ] {
            assert_eq!(id_key(text.as_bytes()), Some(key), "{text}");
        }
        for text in ["", "hunter2", &hex[1..], &format!("{hex}0"), "AAEC", &"é".repeat(32)] {
            assert_eq!(id_key(text.as_bytes()), None, "{text}");
        }
    }
}
