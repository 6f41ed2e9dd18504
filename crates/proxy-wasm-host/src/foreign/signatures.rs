//! Envoy's `sign` and `verify_signature`: PKCS #1 v1.5 with RSA keys, ASN.1 with elliptic
//! ones.
//!
//! What cannot be done is said in the result, in Envoy's words; the call succeeds all the
//! same. Envoy's library does more than the one here: SHA-224, signing with SHA-1 or with
//! another hash than a curve's own, and RSA keys below 2048 bits for most hashes. These are
//! "not supported", as hashes that nobody knows are.

use super::keys::{Curve, PrivateKey, PublicKey, Unfit};
use super::state::text;
use super::{Caller, ForeignFunction, WORK_BYTES_MAX};
use crate::protobuf::{Fields, Wire, put_bytes, put_text, put_true};
use crate::status::Status;
use ring::rand::SystemRandom;
use ring::signature::{self, RsaEncoding, UnparsedPublicKey, VerificationAlgorithm};

/// Signs a text: `{ hash_function = 1, private_key = 2, text = 3, private_key_pem = 4 }` to
/// `{ result = 1, signature = 2, error = 3 }`.
pub(super) struct Sign;

/// Checks a signature: `{ hash_function = 1, public_key = 2, signature = 3, text = 4,
/// public_key_pem = 5 }` to `{ result = 1, error = 2 }`.
pub(super) struct VerifySignature;

impl ForeignFunction for Sign {
    fn call(&self, _: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        let [hash, der, text, pem, _] = parts(arguments, [1, 4])?;
        let (key, is_pem) = one_key(der, pem)?;
        let mut result = Vec::new();
        match sign(hash, key, is_pem, text) {
            Ok(signature) => {
                put_true(1, &mut result);
                put_bytes(2, &signature, &mut result);
            }
            Err(error) => put_text(3, &error, &mut result),
        }
        Ok(result)
    }
}

impl ForeignFunction for VerifySignature {
    fn call(&self, _: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        let [hash, der, signature, text, pem] = parts(arguments, [1, 5])?;
        let (key, is_pem) = one_key(der, pem)?;
        let mut result = Vec::new();
        match verify(hash, key, is_pem, signature, text) {
            Ok(()) => put_true(1, &mut result),
            Err(error) => put_text(2, &error, &mut result),
        }
        Ok(result)
    }
}

fn sign(hash: &[u8], key: &[u8], is_pem: bool, text: &[u8]) -> Result<Vec<u8>, String> {
    let hash = Hash::named(hash)?;
    let key = PrivateKey::read(key, is_pem).map_err(|unfit| match unfit {
        Unfit::Other => "Invalid key type: private key required for signing operation.",
        Unfit::Broken => "Invalid private key: key data is corrupted or malformed.",
    })?;
    let random = SystemRandom::new();
    let failed = |_| "Failed to sign.".to_owned();
    match key {
        PrivateKey::Rsa(key) => {
            let encoding = hash.rsa_signing().ok_or_else(|| hash.unsupported())?;
            let mut signature = vec![0; key.public().modulus_len()];
            key.sign(encoding, &random, text, &mut signature).map_err(failed)?;
            Ok(signature)
        }
        PrivateKey::Elliptic(curve, key) => match (curve, hash.kind) {
            (Curve::P256, Kind::Sha256) | (Curve::P384, Kind::Sha384) => {
                key.sign(&random, text).map(|signature| signature.as_ref().into()).map_err(failed)
            }
            _ => Err(hash.unsupported()),
        },
    }
}

fn verify(
    hash: &[u8],
    key: &[u8],
    is_pem: bool,
    signature: &[u8],
    text: &[u8],
) -> Result<(), String> {
    let hash = Hash::named(hash)?;
    let key = PublicKey::read(key, is_pem).ok_or("Failed to initialize digest verify.")?;
    let algorithm = hash.verifying(&key).ok_or_else(|| hash.unsupported())?;
    let (PublicKey::Rsa(key) | PublicKey::Elliptic(_, key)) = key;
    UnparsedPublicKey::new(algorithm, key)
        .verify(text, signature)
        .map_err(|_| "Failed to verify digest. Error code: 0".into())
}

/// A hash, and how its name was written.
struct Hash<'a> {
    kind: Kind,
    name: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl<'a> Hash<'a> {
    fn named(name: &'a [u8]) -> Result<Self, String> {
        let name = std::str::from_utf8(name).unwrap_or_default();
        let kind = match &*name.to_ascii_lowercase() {
            "sha1" => Kind::Sha1,
            "sha256" => Kind::Sha256,
            "sha384" => Kind::Sha384,
            "sha512" => Kind::Sha512,
            _ => return Err(unsupported(name)),
        };
        Ok(Self { kind, name })
    }

    fn unsupported(&self) -> String {
        unsupported(self.name)
    }

    fn rsa_signing(&self) -> Option<&'static dyn RsaEncoding> {
        match self.kind {
            Kind::Sha1 => None,
            Kind::Sha256 => Some(&signature::RSA_PKCS1_SHA256),
            Kind::Sha384 => Some(&signature::RSA_PKCS1_SHA384),
            Kind::Sha512 => Some(&signature::RSA_PKCS1_SHA512),
        }
    }

    fn verifying(&self, key: &PublicKey) -> Option<&'static dyn VerificationAlgorithm> {
        match (key, self.kind) {
            (PublicKey::Rsa(_), Kind::Sha1) => {
                Some(&signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY)
            }
            (PublicKey::Rsa(_), Kind::Sha256) => {
                Some(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY)
            }
            (PublicKey::Rsa(_), Kind::Sha384) => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            (PublicKey::Rsa(_), Kind::Sha512) => {
                Some(&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY)
            }
            (PublicKey::Elliptic(Curve::P256, _), Kind::Sha256) => {
                Some(&signature::ECDSA_P256_SHA256_ASN1)
            }
            (PublicKey::Elliptic(Curve::P256, _), Kind::Sha384) => {
                Some(&signature::ECDSA_P256_SHA384_ASN1)
            }
            (PublicKey::Elliptic(Curve::P384, _), Kind::Sha256) => {
                Some(&signature::ECDSA_P384_SHA256_ASN1)
            }
            (PublicKey::Elliptic(Curve::P384, _), Kind::Sha384) => {
                Some(&signature::ECDSA_P384_SHA384_ASN1)
            }
            _ => None,
        }
    }
}

fn unsupported(hash: &str) -> String {
    format!("{hash} is not supported.")
}

/// Fields 1 to 5 of the arguments, those that are `texts` of UTF-8.
fn parts(arguments: &[u8], texts: [u64; 2]) -> Result<[&[u8]; 5], Status> {
    if arguments.len() > WORK_BYTES_MAX {
        return Err(Status::InternalFailure);
    }
    let mut parts = [&[][..]; 5];
    for field in Fields::new(arguments) {
        let (number, Wire::Bytes(bytes)) = field? else { continue };
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        if let Some(part) = place.and_then(|place| parts.get_mut(place)) {
            *part = if texts.contains(&number) { text(bytes)?.as_bytes() } else { bytes };
        }
    }
    Ok(parts)
}

/// The one form in which a key was given, and whether that is PEM.
fn one_key<'a>(der: &'a [u8], pem: &'a [u8]) -> Result<(&'a [u8], bool), Status> {
    match (der.is_empty(), pem.is_empty()) {
        (false, true) => Ok((der, false)),
        (true, false) => Ok((pem, true)),
        _ => Err(Status::BadArgument),
    }
}

#[cfg(test)]
mod tests;
