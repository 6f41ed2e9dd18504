//! An issuer's keys, as its JWKS has them (RFC 7517), and what they verify.
//!
//! Keys for encryption, shared secrets and kinds that nobody here knows are passed over. Of a
//! token nothing is believed before its signature is: not its `kid`, which only says what to try,
//! nor its `alg`, which must be one of the key's own.

use super::claims::Claims;
use super::{Code, Form, Refused, signatures};
use crate::config::Receiver as Settings;
use crate::files::Files;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Header, Validation, decode,
    decode_header,
};
use std::path::Path;
use tidegate_core::token::jws::TOKEN_BYTES_MAX;

/// Keys of one issuer: the one in use, those before and after it, for a few algorithms each.
const KEYS_MAX: usize = 64;

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
        let keys = set.keys.iter().filter_map(|jwk| Key::read(jwk).transpose());
        let keys = keys.collect::<Result<Vec<_>, String>>()?;
        match keys.len() {
            0 => Err("holds no public key for signatures, of RSA, EC or OKP".to_owned()),
            1..=KEYS_MAX => Ok(Self(keys)),
            many => Err(format!("holds {many} keys for signatures, wanted at most {KEYS_MAX}")),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What a token says, if one of these has signed it, for this receiver, and it is not over.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn verify(
        &self,
        token: &[u8],
        settings: &Settings,
        form: Form,
        leeway_secs: u64,
    ) -> Result<Claims, Refused> {
        signatures::install();
        if token.len() > TOKEN_BYTES_MAX {
            let what =
                format!("a token of {} bytes, wanted at most {TOKEN_BYTES_MAX}", token.len());
            return Err(Refused::request(what));
        }
        let header = decode_header(token).map_err(|error| refused(error.kind()))?;
        look_at(&header, form)?;
        let validation = validation(header.alg, settings, form, leeway_secs);
        let mut why = Refused::new(Code::InvalidKey, "kid: is of no key in jwks_file");
        for key in self.0.iter().filter(|key| key.may_have_signed(&header)) {
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(read) => return Ok(read.claims),
                Err(error) => why = refused(error.kind()),
            }
        }
        Err(why)
    }
}

impl Key {
    /// `None`: it is for something else.
    fn read(jwk: &Jwk) -> Result<Option<Self>, String> {
        let is_for_signatures =
            matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let algorithm = jwk.common.key_algorithm.map(Algorithm::try_from);
        let Ok(key) = DecodingKey::from_jwk(jwk) else { return Ok(None) };
        if !is_for_signatures
            || key.family() == AlgorithmFamily::Hmac
            || matches!(algorithm, Some(Err(_)))
        {
            return Ok(None);
        }
        if let DecodingKeyKind::RsaModulusExponent { n, .. } = key.kind()
            && !RSA_BYTES.contains(&n.len())
        {
            let what = format!("an RSA key of {} bits, wanted 2048 to 8192", n.len() * 8);
            return Err(what);
        }
        let kid = jwk.common.key_id.clone();
        Ok(Some(Self { kid, algorithm: algorithm.and_then(Result::ok), key }))
    }

    fn may_have_signed(&self, header: &Header) -> bool {
        let is_it = header.kid.is_none() || header.kid == self.kid;
        let is_for_it = self.algorithm.is_none_or(|algorithm| algorithm == header.alg);
        is_it && is_for_it && self.key.family() == header.alg.family()
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

fn validation(
    algorithm: Algorithm,
    settings: &Settings,
    form: Form,
    leeway_secs: u64,
) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&settings.audiences);
    validation.validate_nbf = true;
    validation.leeway = leeway_secs;
    match form {
        // Back-Channel Logout section 2.4.
        Form::Logout => validation.set_required_spec_claims(&["iss", "aud", "exp"]),
        // RFC 8417 section 2.2: better without an end, and heeded where there is one.
        Form::Event => validation.set_required_spec_claims(&["iss", "aud"]),
    }
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
                              alg, iss and sub as strings, iat as a number, events as an object",
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

    #[test]
    fn keys_for_something_else_are_passed_over() {
        let rsa = |bytes: usize, more: &str| {
            // Three bytes are four letters.
            let n = "A".repeat(bytes / 3 * 4);
            format!("{{\"kty\":\"RSA\",\"n\":\"{n}\",\"e\":\"AQAB\"{more}}}")
        };
        let keys = |keys: &[String]| {
            let text = format!("{{\"keys\":[{}],\"more\":1}}", keys.join(","));
            Keys::parse(text.as_bytes()).map(|keys| keys.len())
        };
        let good = rsa(258, "");
        let others = [
            rsa(258, ",\"use\":\"enc\""),
            rsa(258, ",\"alg\":\"RSA-OAEP\""),
            rsa(258, ",\"alg\":\"of tomorrow\""),
            json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }).to_string(),
            json!({ "kty": "of tomorrow" }).to_string(),
        ];
        assert_eq!(keys(&[std::slice::from_ref(&good), &others].concat()), Ok(1));
        for (found, says) in [
            (keys(&others), "holds no public key"),
            (keys(&[]), "holds no public key"),
            (keys(&vec![good; KEYS_MAX + 1]), "holds 65 keys"),
            (keys(&[rsa(129, "")]), "an RSA key of 1032 bits"),
            (Keys::parse(b"").map(|keys| keys.len()), "wanted a JWKS"),
            (Keys::parse(b"-----BEGIN PUBLIC KEY-----").map(|keys| keys.len()), "wanted a JWKS"),
            (Keys::parse(br#"{"kty":"RSA"}"#).map(|keys| keys.len()), "missing field `keys`"),
        ] {
            let wrong = found.unwrap_err();
            assert!(wrong.contains(says), "{wrong} is not {says}");
        }
    }
}
