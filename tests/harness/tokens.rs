//! Signed tokens, and the proxy's JWT filter that verifies them.

use crate::Result;
use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rcgen::SigningKey as _;
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who issues tokens here.
pub const ISSUER: &str = "tests";

/// The name of the key that they are signed with.
pub const KEY_ID: &str = "tests-1";

const SECRET: &[u8] = b"a-key-of-the-tests-and-of-nothing-else-in-the-world";

/// Seconds of Unix time.
///
/// # Panics
///
/// If this machine's clock stands before 1970.
pub fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

/// Claims of a token that lives for an hour; `more` over them, and a null leaves one out.
pub fn claims(jti: &str, more: &Value) -> Value {
    let now = now_secs();
    let mut claims = json!({
        "iss": ISSUER, "jti": jti, "sub": "alice", "iat": now - 10, "exp": now + 3_600,
    });
    if let (Some(claims), Some(more)) = (claims.as_object_mut(), more.as_object()) {
        claims.extend(more.clone());
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

/// A signed token (HS256) of these claims.
pub fn sign(claims: &Value) -> String {
    sign_with(&json!({ "alg": "HS256", "kid": KEY_ID }), claims)
}

/// The same with another header.
///
/// # Panics
///
/// Never: HMAC takes a key of any length.
pub fn sign_with(header: &Value, claims: &Value) -> String {
    let signed = to_sign(header, claims);
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("any key will do");
    mac.update(signed.as_bytes());
    let signature = Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

/// The part of a token that is signed.
fn to_sign(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

/// What an OpenID provider signs of its own accord: by a key of its own (EdDSA), made here.
pub struct Provider(rcgen::KeyPair);

impl Provider {
    /// One that nobody has heard of yet.
    ///
    /// # Errors
    ///
    /// If no key can be made.
    pub fn new() -> Result<Self> {
        Ok(Self(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?))
    }

    /// Its keys.
    pub fn jwks(&self) -> Value {
        let x = Base64UrlUnpadded::encode_string(self.0.public_key_raw());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "p", "x": x }] })
    }

    /// A signed token of these claims, and of now, from [`ISSUER`] for `shop`.
    ///
    /// # Errors
    ///
    /// If it cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let now = now_secs();
        let mut all =
            json!({ "iss": ISSUER, "aud": "shop", "jti": "n", "iat": now, "exp": now + 120 });
        if let (Some(all), Some(claims)) = (all.as_object_mut(), claims.as_object()) {
            all.extend(claims.clone());
        }
        let signed = to_sign(&json!({ "alg": "EdDSA", "kid": "p" }), &all);
        let signature = Base64UrlUnpadded::encode_string(&self.0.sign(signed.as_bytes())?);
        Ok(format!("{signed}.{signature}"))
    }
}

/// Puts the proxy's JWT filter before ours. A request without a token passes it; the token
/// itself is forwarded only if `forward` says so.
pub fn verify(http: &mut Value, forward: bool) {
    let secret = Base64UrlUnpadded::encode_string(SECRET);
    let jwks = json!({ "keys": [{ "kty": "oct", "kid": KEY_ID, "alg": "HS256", "k": secret }] });
    let filter = json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type":
                "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": { "tests": {
                "issuer": ISSUER,
                "local_jwks": { "inline_string": jwks.to_string() },
                "payload_in_metadata": "payload",
                "header_in_metadata": "header",
                "forward": forward,
            } },
            "rules": [{
                "match": { "prefix": "/" },
                "requires": { "requires_any": { "requirements": [
                    { "provider_name": "tests" }, { "allow_missing": {} },
                ] } },
            }],
        },
    });
    if let Some(filters) = http["http_filters"].as_array_mut() {
        filters.insert(0, filter);
    }
}
