//! An issuer's keys, as its JWKS has them (RFC 7517), and what they verify.
//!
//! Keys for encryption, shared secrets and kinds that nobody here knows are passed over. Of a
//! token nothing is believed before its signature is: not its `kid`, which only says what to try,
//! nor its `alg`, which must be one of the key's own.

use super::super::asked::Terms;
use super::claims::Claims;
use super::{Code, Form, Refused, signatures};
use crate::config::Receiver as Settings;
use crate::files::Files;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Header, Validation, decode,
    decode_header,
};
use std::path::Path;
use tidegate_core::token::jws::TOKEN_BYTES_MAX;

/// Keys of one issuer: the one in use, those before and after it, for a few algorithms each.
const KEYS_MAX: usize = 64;

/// The most keys that are tried for a token that does not say by which it was signed.
const TRIED_MAX: usize = 8;

/// How long a logout token without an end is good: as long as those with one should be (OpenID
/// Connect Back-Channel Logout 1.0 section 2.4), in seconds.
const LOGOUT_SECS: u64 = 120;

/// RSA keys as long as rustls and browsers want them, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// An issuer's keys.
pub(super) struct Keys(Vec<Key>);

struct Key {
    kid: Option<String>,
    /// The one that it is for, if it is said.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// A token, and the keys that may have signed it.
pub(super) struct Shown<'a> {
    token: &'a [u8],
    form: Form,
    algorithm: Algorithm,
    keys: Vec<&'a DecodingKey>,
}

impl Keys {
    /// Reads a JWKS.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a message.
    pub(super) fn read(path: &Path, files: &mut Files) -> Result<Self, String> {
        let text = files.read(path)?;
        Self::parse(&text).map_err(|what| format!("{}: {what}", path.display()))
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        const WANTED: &str = "wanted a JWKS, such as {\"keys\": [{\"kty\": \"RSA\", …}]}";
        let set: JwkSet =
            serde_json::from_slice(text).map_err(|error| format!("{error}; {WANTED}"))?;
        let mut keys = Vec::new();
        for jwk in &set.keys {
            match Key::read(jwk) {
                Ok(key) => keys.extend(key),
                // One that cannot be used must not keep the others from it.
                Err(why) => {
                    let kid = jwk.common.key_id.as_deref();
                    tracing::warn!(kid, why, "a key of an issuer is passed over");
                }
            }
        }
        match keys.len() {
            0 => Err(
                "holds no public key for signatures that is of use: of RSA, of P-256 or P-384, or \
                      Ed25519"
                    .to_owned(),
            ),
            1..=KEYS_MAX => Ok(Self(keys)),
            many => Err(format!("holds {many} keys for signatures, wanted at most {KEYS_MAX}")),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Looks at what costs nothing to look at.
    ///
    /// # Errors
    ///
    /// Why none of these can have signed it, or nobody should have.
    pub(super) fn look<'a>(&'a self, token: &'a [u8], form: Form) -> Result<Shown<'a>, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            let what =
                format!("a token of {} bytes, wanted at most {TOKEN_BYTES_MAX}", token.len());
            return Err(Refused::request(what));
        }
        let header = decode_header(token).map_err(|error| refused(error.kind()))?;
        look_at(&header, form)?;
        let keys = self.0.iter().filter(|key| key.may_have_signed(&header));
        let keys: Vec<_> = keys.map(|key| &key.key).take(TRIED_MAX).collect();
        if keys.is_empty() {
            return Err(Refused::new(Code::InvalidKey, "kid: is of no key in jwks_file"));
        }
        Ok(Shown { token, form, algorithm: header.alg, keys })
    }
}

impl Shown<'_> {
    /// What it says, if one of the keys has signed it, for this receiver, and it is of now.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn verify(&self, settings: &Settings, terms: &Terms) -> Result<Claims, Refused> {
        signatures::install();
        let validation = validation(self.algorithm, settings, terms.leeway_secs);
        let tried = self.keys.iter().map(|key| decode::<Claims>(self.token, key, &validation));
        let mut why = None;
        for tried in tried {
            match tried {
                Ok(read) => return self.of_now(read.claims, terms),
                Err(error) => why = Some(refused(error.kind())),
            }
        }
        Err(why.unwrap_or_else(|| Refused::new(Code::InvalidKey, "kid: is of no key")))
    }

    fn of_now(&self, claims: Claims, terms: &Terms) -> Result<Claims, Refused> {
        let (now, issued) = (terms.now_secs(), claims.issued_secs());
        if issued > now + terms.leeway_secs {
            let what = format!("iat: is {} s ahead", issued - now);
            return Err(Refused::request(what));
        }
        // A logout token should have an end (section 2.4), and some providers' have none.
        let is_old = now > issued.saturating_add(LOGOUT_SECS + terms.leeway_secs);
        if self.form == Form::Logout && claims.exp.is_none() && is_old {
            let what = format!("exp: is missing, and iat is more than {LOGOUT_SECS} s ago");
            return Err(Refused::request(what));
        }
        Ok(claims)
    }
}

impl Key {
    /// `None`: it is for something else.
    ///
    /// # Errors
    ///
    /// Why it cannot be used, although it should be.
    fn read(jwk: &Jwk) -> Result<Option<Self>, String> {
        let is_for_signatures =
            matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let algorithm = jwk.common.key_algorithm.map(Algorithm::try_from);
        let is_secret = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
        if !is_for_signatures || is_secret || matches!(algorithm, Some(Err(_))) {
            return Ok(None);
        }
        let key = DecodingKey::from_jwk(jwk);
        let key = key.map_err(|_| "of a kind that is not known here, or not whole".to_owned())?;
        let kid = jwk.common.key_id.clone();
        Ok(Some(Self { kid, algorithm: algorithm.and_then(Result::ok), key: usable(key)? }))
    }

    fn may_have_signed(&self, header: &Header) -> bool {
        let is_it = header.kid.is_none() || header.kid == self.kid;
        let is_for_it = self.algorithm.is_none_or(|algorithm| algorithm == header.alg);
        is_it && is_for_it && self.key.family() == header.alg.family()
    }
}

/// A key as ring takes it.
fn usable(key: DecodingKey) -> Result<DecodingKey, String> {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            // Some writers put a sign before them.
            let [n, e] = [n, e].map(|number| {
                let zeros = number.iter().take_while(|byte| **byte == 0).count();
                &number[zeros..]
            });
            if !RSA_BYTES.contains(&n.len()) {
                return Err(format!("RSA of {} bits, wanted 2048 to 8192", n.len() * 8));
            }
            Ok(DecodingKey::from_rsa_raw_components(n, e))
        }
        DecodingKeyKind::SecretOrDer(point) => match (key.family(), point.len()) {
            (AlgorithmFamily::Ec, 65 | 97) | (AlgorithmFamily::Ed, 32) => Ok(key),
            (_, bytes) => Err(format!("a point of {bytes} bytes, which no curve known here has")),
        },
    }
}

/// What of a header must be so, whoever has signed it.
fn look_at(header: &Header, form: Form) -> Result<(), Refused> {
    if header.alg.family() == AlgorithmFamily::Hmac {
        let what =
            "alg: wanted one of a public key: RS256 to RS512, PS256 to PS512, ES256, ES384, EdDSA";
        return Err(Refused::new(Code::InvalidKey, what));
    }
    // RFC 7515 section 4.1.11: whoever does not understand all of them refuses it.
    if header.crit.is_some() {
        return Err(Refused::request("crit: nothing is understood that could stand there"));
    }
    let typ = header.typ.as_deref().unwrap_or("JWT");
    let typ = typ.strip_prefix("application/").unwrap_or(typ);
    let own = match form {
        Form::Logout => "logout+jwt",
        Form::Event => "secevent+jwt",
    };
    match [own, "JWT"].iter().any(|known| typ.eq_ignore_ascii_case(known)) {
        true => Ok(()),
        false => Err(Refused::request(format!("typ: wanted {own}, or JWT, or none"))),
    }
}

fn validation(algorithm: Algorithm, settings: &Settings, leeway_secs: u64) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&settings.audiences);
    // RFC 8417 section 2.2: an event is better without an exp, which is heeded where there is one.
    validation.set_required_spec_claims(&["iss", "aud"]);
    validation.validate_nbf = true;
    validation.leeway = leeway_secs;
    validation
}

/// In words that quote nothing of the token.
fn refused(kind: &ErrorKind) -> Refused {
    match kind {
        ErrorKind::InvalidIssuer => {
            Refused::new(Code::InvalidIssuer, "iss: is not the receiver's issuer")
        }
        ErrorKind::InvalidAudience => {
            Refused::new(Code::InvalidAudience, "aud: has none of the receiver's audiences")
        }
        ErrorKind::MissingRequiredClaim(name) => {
            let code = match name.as_str() {
                "iss" => Code::InvalidIssuer,
                "aud" => Code::InvalidAudience,
                _ => Code::InvalidRequest,
            };
            Refused::new(code, format!("{name}: is missing"))
        }
        ErrorKind::InvalidClaimFormat(name) => Refused::request(format!("{name}: is no time")),
        ErrorKind::ExpiredSignature => Refused::request("exp: it is over"),
        ErrorKind::ImmatureSignature => Refused::request("nbf: it is not yet valid"),
        ErrorKind::InvalidSignature => {
            Refused::new(Code::AuthenticationFailed, "its signature is not of a key in jwks_file")
        }
        ErrorKind::Json(error) if error.is_data() => Refused::request(
            "its header or its claims have not what they should have: wanted a known \
                              alg, iss, jti and sub as strings, iat as a number, events as an object",
        ),
        ErrorKind::Json(_)
        | ErrorKind::Base64(_)
        | ErrorKind::Utf8(_)
        | ErrorKind::InvalidToken => Refused::request("this is no signed JWT"),
        _ => Refused::new(Code::InvalidKey, "alg: not one of the key that kid names"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rsa(bytes: usize, more: &str) -> String {
        // Three bytes are four letters, and `/` would be all ones.
        let n = "_".repeat(bytes / 3 * 4);
        format!("{{\"kty\":\"RSA\",\"n\":\"{n}\",\"e\":\"AQAB\"{more}}}")
    }

    fn count(keys: &[String]) -> Result<usize, String> {
        let text = format!("{{\"keys\":[{}],\"more\":1}}", keys.join(","));
        Keys::parse(text.as_bytes()).map(|keys| keys.len())
    }

    #[test]
    fn keys_that_are_of_no_use_keep_none_from_it_that_is() {
        let point = |crv: &str, letters: usize| {
            let x = "_".repeat(letters);
            let kty = if crv == "Ed25519" { "OKP" } else { "EC" };
            json!({ "kty": kty, "crv": crv, "x": x, "y": x }).to_string()
        };
        let good = rsa(258, "");
        let others = [
            rsa(258, ",\"use\":\"enc\""),
            rsa(258, ",\"alg\":\"RSA-OAEP\""),
            rsa(258, ",\"alg\":\"of tomorrow\""),
            rsa(129, ""),
            point("P-256", 40),
            point("Ed25519", 40),
            json!({ "kty": "OKP", "crv": "Ed448", "x": "_".repeat(76) }).to_string(),
            json!({ "kty": "EC", "crv": "P-256", "x": "=", "y": "" }).to_string(),
            json!({ "kty": "RSA" }).to_string(),
            json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }).to_string(),
            json!({ "kty": "of tomorrow" }).to_string(),
        ];
        assert_eq!(count(&[std::slice::from_ref(&good), &others].concat()), Ok(1));
        for (found, says) in [
            (count(&others), "holds no public key"),
            (count(&[]), "holds no public key"),
            (count(&vec![good; KEYS_MAX + 1]), "holds 65 keys"),
            (Keys::parse(b"").map(|keys| keys.len()), "wanted a JWKS"),
            (Keys::parse(b"-----BEGIN PUBLIC KEY-----").map(|keys| keys.len()), "wanted a JWKS"),
            (Keys::parse(br#"{"kty":"RSA"}"#).map(|keys| keys.len()), "missing field `keys`"),
        ] {
            let wrong = found.unwrap_err();
            assert!(wrong.contains(says), "{wrong} is not {says}");
        }
    }

    #[test]
    fn a_sign_before_a_number_is_none_of_it() {
        let n = [&[0][..], &[255; 256]].concat();
        let key = usable(DecodingKey::from_rsa_raw_components(&n, &[0, 1, 0, 1])).unwrap();
        let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else {
            panic!("it is of RSA");
        };
        assert_eq!((n.len(), e.as_slice()), (256, &[1, 0, 1][..]));
    }
}
