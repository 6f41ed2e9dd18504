//! An OpenID provider, as far as it signs: keys of every kind, their JWKS, and tokens.

use crate::home::base64;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};

/// A key that is of no use but here; ring makes none of RSA, and this is always the same:
/// `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 | openssl pkcs8 -topk8 -nocrypt`.
const RSA: &[u8] = include_bytes!("rsa.pk8");

/// How a token is signed, and by which key.
#[derive(Clone, Copy, Debug)]
pub enum Signs {
    Es256,
    Es384,
    EdDsa,
    Rs256,
    Rs512,
    Ps256,
}

pub struct Provider {
    es256: EcdsaKeyPair,
    es384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

impl Signs {
    pub const ALL: [Self; 6] =
        [Self::Es256, Self::Es384, Self::EdDsa, Self::Rs256, Self::Rs512, Self::Ps256];

    const fn alg(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
        }
    }

    /// One key of RSA is for all of its algorithms, as with some providers.
    const fn kid(self) -> &'static str {
        match self {
            Self::Es256 => "es256",
            Self::Es384 => "es384",
            Self::EdDsa => "ed",
            Self::Rs256 | Self::Rs512 | Self::Ps256 => "rsa",
        }
    }
}

impl Provider {
    /// With keys of its own, but for RSA.
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
            let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap()
        };
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            es256: ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            es384: ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            rsa: RsaKeyPair::from_pkcs8(RSA).unwrap(),
        }
    }

    /// Its keys, and some that are for something else, as real ones have.
    pub fn jwks(&self) -> Value {
        let ec = |key: &EcdsaKeyPair, crv: &str, alg: &str, kid: &str| {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({ "kty": "EC", "crv": crv, "x": base64(x), "y": base64(y), "kid": kid,
                    "alg": alg, "use": "sig" })
        };
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let rsa = json!({ "kty": "RSA", "n": base64(&n), "e": base64(&e) });
        let rsa_for = |more: Value| {
            let mut key = rsa.clone();
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        json!({ "keys": [
            ec(&self.es256, "P-256", "ES256", "es256"),
            ec(&self.es384, "P-384", "ES384", "es384"),
            { "kty": "OKP", "crv": "Ed25519", "x": base64(self.ed.public_key().as_ref()), "kid": "ed" },
            rsa_for(json!({ "kid": "rsa", "use": "sig", "x5t": "ignored" })),
            rsa_for(json!({ "kid": "one-algorithm", "alg": "RS384" })),
            rsa_for(json!({ "kid": "encrypts", "use": "enc", "alg": "RSA-OAEP" })),
            { "kty": "oct", "k": "c2VjcmV0", "kid": "secret" },
            { "kty": "AKP", "alg": "ML-DSA-44", "pub": "x", "kid": "of-tomorrow" },
        ] })
    }

    pub fn sign(&self, signs: Signs, claims: &Value) -> String {
        self.sign_text(signs, &claims.to_string())
    }

    /// Claims that no library would write.
    pub fn sign_text(&self, signs: Signs, claims: &str) -> String {
        self.signed(signs, &json!({ "alg": signs.alg(), "kid": signs.kid() }), claims)
    }

    /// With another header than is right.
    pub fn sign_as(&self, signs: Signs, header: Value, claims: &Value) -> String {
        self.signed(signs, &header, &claims.to_string())
    }

    /// As an attacker does who hopes that a public key is taken for a shared secret.
    pub fn sign_hmac(&self, claims: &Value) -> String {
        let secret = self.es256.public_key().as_ref();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let head = base64(br#"{"alg":"HS256","kid":"es256"}"#);
        let head = format!("{head}.{}", base64(claims.to_string().as_bytes()));
        format!("{head}.{}", base64(ring::hmac::sign(&key, head.as_bytes()).as_ref()))
    }

    fn signed(&self, signs: Signs, header: &Value, claims: &str) -> String {
        let head =
            format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.as_bytes()));
        let (message, random) = (head.as_bytes(), SystemRandom::new());
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        let signature = match signs {
            Signs::Es256 => self.es256.sign(&random, message).unwrap().as_ref().to_vec(),
            Signs::Es384 => self.es384.sign(&random, message).unwrap().as_ref().to_vec(),
            Signs::EdDsa => self.ed.sign(message).as_ref().to_vec(),
            Signs::Rs256 => rsa(&RSA_PKCS1_SHA256),
            Signs::Rs512 => rsa(&RSA_PKCS1_SHA512),
            Signs::Ps256 => rsa(&RSA_PSS_SHA256),
        };
        format!("{head}.{}", base64(&signature))
    }
}
