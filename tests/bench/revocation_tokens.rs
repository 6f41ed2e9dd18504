//! Tokens, by their numbers: as many as one likes, none twice, without keeping any.
//!
//! Who makes a token from its number knows whether it is revoked. So no measurement needs a list
//! of what is, and an answer can be true without asking anybody.

use base64ct::{Base64UrlUnpadded, Encoding};
use harness::Result;
use harness::tokens::now_secs;
use serde_json::json;
use std::io::Write;
use tidegate_core::revoke::{Id, Kind};

/// Where requests carry what a filter before ours has verified: what that costs is not measured.
pub(crate) const PAYLOAD_HEADER: &str = "x-jwt-payload";

const ISSUER: &str = "https://id.example/realms/shop";

/// Over so long their ends are spread.
const ENDS_SPAN_SECS: u64 = 12 * 3_600;

/// The first of them ends in so long: none while this is measured.
const FIRST_END_SECS: u64 = 2 * 3_600;

/// Tokens from this number on are not revoked.
const CLEAN: u64 = 1 << 40;

/// All tokens of a run.
#[derive(Clone, Copy)]
pub(crate) struct Tokens {
    begun_secs: u64,
}

/// One of them.
pub(crate) struct Token {
    jti: String,
    subject: String,
    issued_secs: u64,
    expires_secs: u64,
}

impl Tokens {
    pub(crate) fn from_now() -> Self {
        Self { begun_secs: now_secs() }
    }

    /// One that is revoked.
    pub(crate) fn revoked(self, number: u64) -> Token {
        self.token(number)
    }

    /// One that is not. It ends as those do that are revoked, so it is looked up among as many.
    pub(crate) fn clean(self, number: u64) -> Token {
        self.token(CLEAN + number)
    }

    /// Writes the first `count` that are revoked as they are imported, one a line.
    pub(crate) fn write(self, count: u64, to: &mut impl Write) -> Result<()> {
        for number in 0..count {
            let Token { jti, expires_secs, .. } = self.revoked(number);
            writeln!(to, r#"{{"jti":"{jti}","iss":"{ISSUER}","exp":{expires_secs}}}"#)?;
        }
        Ok(())
    }

    fn token(self, number: u64) -> Token {
        let (high, low) = (scattered(number), scattered(!number));
        Token {
            // As long as a UUID, which is what most issuers use.
            jti: format!("{high:016x}{low:016x}"),
            subject: format!("user-{}", high % 1_000_000_000),
            issued_secs: self.begun_secs,
            expires_secs: self.begun_secs + FIRST_END_SECS + low % ENDS_SPAN_SECS,
        }
    }
}

impl Token {
    /// Its claims as they are forwarded.
    pub(crate) fn payload(&self) -> String {
        let Self { jti, subject, issued_secs, expires_secs } = self;
        let claims = json!({
            "iss": ISSUER, "aud": "shop", "sub": subject, "jti": jti,
            "iat": issued_secs, "exp": expires_secs, "scope": "cart:read cart:write",
        });
        Base64UrlUnpadded::encode_string(claims.to_string().as_bytes())
    }

    /// What it is revoked by.
    pub(crate) fn id(&self) -> Id {
        Id::of(Kind::Token, &[ISSUER.as_bytes(), self.jti.as_bytes()])
    }
}

/// SplitMix64's last step: no two numbers become the same.
const fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
