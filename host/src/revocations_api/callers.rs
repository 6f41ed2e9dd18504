//! Who may come in: whoever shows a token of the file, a certificate that will do, or both,
//! whichever is demanded.
//!
//! Tokens are kept as digests, and compared as such, all of them and to the last byte: how long
//! it takes tells neither how far a wrong one agrees nor how long the right one is. The files are
//! looked at every second; what is wrong with new ones is logged, and the old ones hold.

use crate::config::RevocationsApi;
use crate::files::{Files, Kept};
use crate::tls::{self, Own};
use hyper::header::{AUTHORIZATION, HeaderMap, ORIGIN};
use proxy_wasm_host::exchange::CertificateFacts;
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shorter ones can be guessed: 16 characters of base64 are 96 bits.
const TOKEN_BYTES_MIN: usize = 16;

/// The longest token: what fits into a request's head, with some room.
const TOKEN_BYTES_MAX: usize = 4_096;

/// The most tokens: each is compared with each request.
const TOKENS_MAX: usize = 256;

/// The longest name of a token; it stands in the audit log.
const NAME_BYTES_MAX: usize = 64;

/// Who may come in.
pub(super) struct Callers {
    settings: RevocationsApi,
    access: Kept<Access>,
}

/// What the files hold.
struct Access {
    tls: Option<Arc<ServerConfig>>,
    /// `None`: no token is demanded.
    tokens: Option<Vec<Token>>,
}

struct Token {
    name: String,
    digest: [u8; 32],
}

/// Why somebody may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// No token was shown.
    NoToken,
    /// Another one was.
    WrongToken,
    /// Whose certificate it is will not do.
    WrongName,
    /// There was no handshake: no certificate that will do, or no TLS.
    NoHandshake,
    /// A page that a browser shows, where no credentials are asked for.
    Browser,
    /// What came as a provider's notice is not signed as it should be, or names nobody.
    WrongNotice,
}

impl Callers {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// The first file that is not what it should be, as a message.
    pub(super) fn new(settings: &RevocationsApi) -> Result<Self, String> {
        let access = Kept::read(|files| Access::read(settings, files))?;
        Ok(Self { settings: settings.clone(), access })
    }

    /// Reads the files again whenever they change, for as long as it is polled.
    pub(super) async fn look(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look_once();
        }
    }

    fn look_once(&self) {
        match self.access.look(|files| Access::read(&self.settings, files)) {
            None => {}
            Some(Ok(access)) => {
                let tokens = access.tokens.as_ref().map(Vec::len);
                tracing::info!(tokens, "who may revoke was read anew");
            }
            Some(Err(problem)) => {
                tracing::warn!(problem, "who may revoke cannot be read anew: it is as it was");
            }
        }
    }

    /// How a connection is to be encrypted.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.access.now().tls.clone()
    }

    /// Whether anybody on this machine may come in.
    pub(super) fn is_open(&self) -> bool {
        let wants_certificate =
            self.settings.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        self.settings.token_file.is_none() && !wants_certificate
    }

    /// Who it is that sends these headers, with this certificate, which TLS has verified.
    ///
    /// # Errors
    ///
    /// [`Stranger`].
    pub(super) fn who(
        &self,
        certificate: Option<&CertificateFacts>,
        headers: &HeaderMap,
    ) -> Result<String, Stranger> {
        // Any page that a browser shows may send requests to this machine; where no credentials
        // are asked for, that it says whence it comes is all that tells it from an operator.
        if self.is_open() && headers.contains_key(ORIGIN) {
            return Err(Stranger::Browser);
        }
        let names = self.settings.tls.as_ref().map(|tls| tls.client_names.as_slice());
        let names = names.unwrap_or_default();
        if !names.is_empty() && !certificate.is_some_and(|it| bears_any(it, names)) {
            return Err(Stranger::WrongName);
        }
        let token = match &self.access.now().tokens {
            None => None,
            Some(tokens) => Some(shown(headers).and_then(|shown| named(tokens, shown))?),
        };
        Ok(match (token, certificate) {
            (Some(name), None) => format!("token {name}"),
            (None, Some(it)) => format!("certificate {}", it.subject),
            (Some(name), Some(it)) => format!("token {name}, certificate {}", it.subject),
            (None, None) => "anybody on this machine".to_owned(),
        })
    }
}

impl Access {
    fn read(settings: &RevocationsApi, files: &mut Files) -> Result<Self, String> {
        let tls = settings.tls.as_ref().map(|tls| {
            let own = Own { certificate: &tls.cert_file, key: &tls.key_file };
            tls::server(own, tls.client_ca_file.as_deref(), true, files).map(Arc::new)
        });
        let tokens = settings.token_file.as_deref().map(|path| {
            let text = files.read(path)?;
            tokens(&text).map_err(|what| at(path, &what))
        });
        Ok(Self { tls: tls.transpose()?, tokens: tokens.transpose()? })
    }
}

impl Stranger {
    /// All of them.
    pub(super) const ALL: [Self; 6] = [
        Self::NoToken,
        Self::WrongToken,
        Self::WrongName,
        Self::NoHandshake,
        Self::Browser,
        Self::WrongNotice,
    ];

    /// Its name in metrics and in the audit log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::WrongName => "wrong_certificate",
            Self::NoHandshake => "no_handshake",
            Self::Browser => "browser",
            Self::WrongNotice => "wrong_notice",
        }
    }
}

fn at(path: &Path, (line, what): &(usize, String)) -> String {
    match line {
        0 => format!("{}: {what}", path.display()),
        line => format!("{}:{line}: {what}", path.display()),
    }
}

/// The tokens of a file, or in which line there is what else.
fn tokens(text: &[u8]) -> Result<Vec<Token>, (usize, String)> {
    let text = std::str::from_utf8(text).map_err(|_| (0, "this is no text".to_owned()))?;
    let mut tokens: Vec<Token> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = token(line, number).map_err(|what| (number, what))?;
        if tokens.iter().any(|known| known.digest == token.digest) {
            return Err((number, "this token is there twice".to_owned()));
        }
        tokens.push(token);
    }
    match tokens.len() {
        0 => Err((0, "holds no token; wanted TOKEN or NAME:TOKEN, one a line".to_owned())),
        1..=TOKENS_MAX => Ok(tokens),
        many => Err((0, format!("holds {many} tokens, wanted at most {TOKENS_MAX}"))),
    }
}

fn token(line: &str, number: usize) -> Result<Token, String> {
    let (name, token) = match line.split_once(':') {
        Some((name, token)) => (name.trim().to_owned(), token.trim()),
        None => (format!("of line {number}"), line),
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!("a name before a token has 1 to {NAME_BYTES_MAX} characters"));
    }
    // RFC 6750, section 2.1.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !token.bytes().all(is_plain) {
        return Err("a token has letters, digits and -._~+/= alone".to_owned());
    }
    if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
        return Err(format!(
            "a token of {} characters, wanted {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX}; make one: \
             openssl rand -base64 33",
            token.len()
        ));
    }
    Ok(Token { name, digest: Sha256::digest(token).into() })
}

/// The token of `Authorization: Bearer TOKEN`.
fn shown(headers: &HeaderMap) -> Result<&[u8], Stranger> {
    let value = headers.get(AUTHORIZATION).ok_or(Stranger::NoToken)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7).ok_or(Stranger::NoToken)?;
    match scheme.eq_ignore_ascii_case(b"bearer ") {
        true => Ok(token.trim_ascii()),
        false => Err(Stranger::NoToken),
    }
}

/// Whose token it is.
fn named(tokens: &[Token], shown: &[u8]) -> Result<String, Stranger> {
    let digest: [u8; 32] = Sha256::digest(shown).into();
    let (mut is_one, mut which) = (Choice::from(0), 0_u64);
    for (number, token) in (0_u64..).zip(tokens) {
        let is_this = token.digest.ct_eq(&digest);
        which.conditional_assign(&number, is_this);
        is_one |= is_this;
    }
    let token = tokens.get(usize::try_from(which).unwrap_or(usize::MAX));
    match (bool::from(is_one), token) {
        (true, Some(token)) => Ok(token.name.clone()),
        _ => Err(Stranger::WrongToken),
    }
}

fn bears_any(certificate: &CertificateFacts, names: &[String]) -> bool {
    let CertificateFacts { subject, dns_san, uri_san, .. } = certificate;
    let borne = [Some(subject), dns_san.as_ref(), uri_san.as_ref()];
    borne.into_iter().flatten().any(|borne| names.contains(borne))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef";

    #[test]
    fn a_file_holds_tokens_with_names_and_without() {
        let text = format!("# ours\n\nshop: {ONE}1\n{ONE}2 \n");
        let tokens = tokens(text.as_bytes()).unwrap();
        let who = |shown: &str| named(&tokens, shown.as_bytes());
        assert_eq!(who(&format!("{ONE}1")).unwrap(), "shop");
        assert_eq!(who(&format!("{ONE}2")).unwrap(), "of line 4");
        for wrong in ["", ONE, &format!("{ONE}3"), &format!("{ONE}11")] {
            assert_eq!(who(wrong), Err(Stranger::WrongToken), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_what_it_holds() {
        for (text, line, says) in [
            ("", 0, "holds no token"),
            ("# nothing\n", 0, "holds no token"),
            ("hunter2\n", 1, "a token of 7 characters, wanted 16 to 4096"),
            ("a:0123456789abcdef\n:0123456789abcdeg\n", 2, "a name before a token"),
            ("hunter2 hunter2 hunter2\n", 1, "letters, digits"),
            ("0123456789abcdef\nb:0123456789abcdef\n", 2, "twice"),
        ] {
            let (found, what) = tokens(text.as_bytes()).map(|_| ()).unwrap_err();
            assert!(found == line && what.contains(says), "{text:?}: {found} {what}");
            assert!(!what.contains("hunter2") && !what.contains("0123"), "{what}");
        }
    }

    #[test]
    fn a_token_is_shown_as_a_bearer() {
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            shown(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(shown("Bearer abc").unwrap(), b"abc");
        assert_eq!(shown("bearer  abc").unwrap(), b"abc");
        for other in ["abc", "Basic abc:d", "Bearer"] {
            assert_eq!(shown(other), Err(Stranger::NoToken), "{other}");
        }
    }
}
