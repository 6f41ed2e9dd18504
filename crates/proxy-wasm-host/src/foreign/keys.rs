//! Keys for signatures, out of the forms in which filters hand them over: PEM or DER, and in
//! it PKCS #8, PKCS #1, SEC 1 or a subject's public key info.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RsaKeyPair,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// A key that checks signatures: an RSA key as PKCS #1 has it, or a point.
pub(super) enum PublicKey {
    Rsa(Vec<u8>),
    Elliptic(Curve, Vec<u8>),
}

/// A key that makes signatures.
pub(super) enum PrivateKey {
    Rsa(RsaKeyPair),
    Elliptic(Curve, EcdsaKeyPair),
}

/// A curve that keys are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

/// Why bytes are not a key to sign with, as Envoy tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Not a private key at all.
    Other,
    /// One, but of a kind or size that is not known, or broken.
    Broken,
}

impl PublicKey {
    /// Reads a public key. What comes behind it is overlooked.
    pub(super) fn read(bytes: &[u8], is_pem: bool) -> Option<Self> {
        if is_pem {
            return Self::from_info(&SubjectPublicKeyInfoDer::from_pem_slice(bytes).ok()?);
        }
        Self::from_info(bytes)
    }

    /// Two parts: what kind of key, and its bits.
    fn from_info(info: &[u8]) -> Option<Self> {
        let mut info = Der(Der(info).expect(SEQUENCE)?);
        let mut kind = Der(info.expect(SEQUENCE)?);
        let key = whole_bytes(info.expect(BITS)?)?;
        match kind.expect(OBJECT_ID)? {
            RSA => Some(Self::Rsa(key.into())),
            ELLIPTIC => Some(Self::Elliptic(Curve::of(kind.expect(OBJECT_ID)?)?, key.into())),
            _ => None,
        }
    }
}

impl PrivateKey {
    /// Reads a private key: any form of PEM, but of DER only PKCS #8.
    pub(super) fn read(bytes: &[u8], is_pem: bool) -> Result<Self, Unfit> {
        let key = if is_pem {
            PrivateKeyDer::from_pem_slice(bytes).map_err(|_| Unfit::Other)?
        } else {
            PrivatePkcs8KeyDer::from(bytes.to_vec()).into()
        };
        match key {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der())
                .map(Self::Rsa)
                .map_err(|_| Unfit::Broken),
            PrivateKeyDer::Sec1(key) => Self::from_sec1(key.secret_sec1_der()).ok_or(Unfit::Broken),
            PrivateKeyDer::Pkcs8(key) => Self::from_pkcs8(key.secret_pkcs8_der()),
            _ => Err(Unfit::Broken),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, Unfit> {
        let mut parts = Der(Der(der).expect(SEQUENCE).ok_or(Unfit::Other)?);
        parts.expect(INTEGER).ok_or(Unfit::Other)?;
        parts.expect(SEQUENCE).ok_or(Unfit::Other)?;
        if let Ok(key) = RsaKeyPair::from_pkcs8(der) {
            return Ok(Self::Rsa(key));
        }
        let on = |curve: Curve| {
            let key = EcdsaKeyPair::from_pkcs8(curve.signing(), der, &SystemRandom::new()).ok()?;
            Some(Self::Elliptic(curve, key))
        };
        on(Curve::P256).or_else(|| on(Curve::P384)).ok_or(Unfit::Broken)
    }

    /// A version, the private bytes, and with tags of their own curve and public bytes.
    fn from_sec1(der: &[u8]) -> Option<Self> {
        let mut parts = Der(Der(der).expect(SEQUENCE)?);
        parts.expect(INTEGER)?;
        let private = parts.expect(OCTETS)?;
        let curve = Curve::of(Der(parts.expect(TAGGED_0)?).expect(OBJECT_ID)?)?;
        let public = whole_bytes(Der(parts.expect(TAGGED_1)?).expect(BITS)?)?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_private_key_and_public_key(
            curve.signing(),
            private,
            public,
            &random,
        );
        Some(Self::Elliptic(curve, key.ok()?))
    }
}

impl Curve {
    fn of(object_id: &[u8]) -> Option<Self> {
        match object_id {
            P256 => Some(Self::P256),
            P384 => Some(Self::P384),
            _ => None,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }
}

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const TAGGED_0: u8 = 0xa0;
const TAGGED_1: u8 = 0xa1;

/// 1.2.840.113549.1.1.1, and so on: object ids as DER has them.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// The values of a DER encoding, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value, if it is of this kind.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        let mut len = usize::from(*first);
        if *first >= 0x80 {
            // So many bytes of length follow; two say 64 KiB, more than any key has.
            let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            len = match bytes {
                [len] => usize::from(*len),
                [high, low] => usize::from(u16::from_be_bytes([*high, *low])),
                _ => return None,
            };
            rest = behind;
        }
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        (*found == tag).then_some(value)
    }
}

/// Bits that are whole bytes: the first byte says how many of the last are not used.
fn whole_bytes(bits: &[u8]) -> Option<&[u8]> {
    bits.strip_prefix(&[0])
}
