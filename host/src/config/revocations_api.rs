//! What the section `revocations.api` means: where tokens are revoked, and who may.
//!
//! Whatever of credentials is set is demanded of every caller: a token, a certificate, or both.
//! Whoever sets neither is answered on this machine's own addresses only.

use super::kinds::{Count, maybe_address};
use super::{Node, Problem};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The section as typed.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Text {
    /// Left out, nobody can revoke anything here.
    #[serde(deserialize_with = "maybe_address")]
    listen: Option<SocketAddr>,
    /// Bearer tokens, one a line, `TOKEN` or `NAME:TOKEN`; read anew when the file changes.
    token_file: Option<PathBuf>,
    tls: TextTls,
    /// A thousand log-outs a second are an outage of its own; bulk goes by import.
    requests_per_second: Count<1, 1_000_000>,
    /// Callers are issuers and operators, not the public.
    connections_max: Count<1, 65_536>,
    /// Each parses as fast as a core can.
    imports_max: Count<1, 64>,
    claims: TextClaims,
    /// By name, which is part of where each is sent to.
    receivers: BTreeMap<String, TextReceiver>,
}

/// What an issuer sends by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TextReceiver {
    issuer: Option<String>,
    /// What we are to the issuer; it says so in what it sends.
    audiences: Vec<String>,
    /// The issuer's keys; read anew when the file changes.
    jwks_file: Option<PathBuf>,
    /// Whose tokens it revokes, if not its own.
    token_issuers: Vec<String>,
}

/// All files are PEM, and read anew when they change.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TextTls {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    /// Who signs callers' certificates. Left out, callers show none.
    client_ca_file: Option<PathBuf>,
    /// Whose certificates will do, by a name in it; left out, all that are signed.
    client_names: Vec<String>,
}

/// As in policies: what the claims are called that this issuer names in its own way.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TextClaims {
    client: Option<String>,
    tenant: Option<String>,
    session: String,
}

/// Where tokens are revoked, and who may.
#[derive(Clone, Debug)]
pub struct RevocationsApi {
    /// Where it is.
    pub listen: SocketAddr,
    /// With TLS, or without.
    pub tls: Option<ApiTls>,
    /// Where the tokens are of which callers must show one.
    pub token_file: Option<PathBuf>,
    /// How many requests each caller has a second, and at once.
    pub requests_per_second: u32,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Imports at once; more are refused.
    pub imports_max: usize,
    /// What claims are called.
    pub claims: Claims,
    /// What issuers send by themselves, by name.
    pub receivers: BTreeMap<String, Receiver>,
}

/// Takes what one issuer sends of logouts and security events.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Who sends it: the `iss` of what is sent.
    pub issuer: String,
    /// Of its `aud`, one of these at least.
    pub audiences: Vec<String>,
    /// The issuer's public keys, a JWKS.
    pub jwks_file: PathBuf,
    /// Whose tokens it revokes, by their `iss`: at least one.
    pub token_issuers: Vec<String>,
}

/// What callers are shown, and what they must show.
#[derive(Clone, Debug)]
pub struct ApiTls {
    /// Certificates in PEM, ours first.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Who signs callers' certificates; `None`: they show none.
    pub client_ca_file: Option<PathBuf>,
    /// Whose certificates will do: names in them; empty: all that are signed.
    pub client_names: Vec<String>,
}

/// What claims are called that have no one name.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Whose token it is, `client_id` or `azp` if nothing is said.
    pub client: Option<String>,
    /// Which tenant's; there is no usual name.
    pub tenant: Option<String>,
    /// Which session's.
    pub session: String,
}

/// The longest name of a receiver, and the most audiences and issuers that one names.
const NAME_BYTES_MAX: usize = 64;
const NAMED_MAX: usize = 16;

/// Where the section is.
const SECTION: &str = "revocations.api";

/// What the section means; `None` if it says nothing.
///
/// # Errors
///
/// The first thing in it that is missing, contradicts another, or lets in strangers.
pub(super) fn resolve(text: Text, tree: &Node) -> Result<Option<RevocationsApi>, Problem> {
    let reader = Reader { tree };
    let Some(listen) = text.listen else { return reader.nowhere(&text) };
    let tls = reader.tls(text.tls)?;
    let receivers = text.receivers.into_iter();
    let receivers = receivers.map(|(name, text)| reader.receiver(name, text));
    let receivers = receivers.collect::<Result<_, _>>()?;
    let asks_for_certificates = tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    if !listen.ip().is_loopback() && text.token_file.is_none() && !asks_for_certificates {
        let what =
            format!("{listen} can be reached from elsewhere, and callers need no credentials");
        return Err(reader.problem("listen", &what).hint(
            "give token_file, or tls.client_ca_file, or listen on 127.0.0.1 alone".to_owned(),
        ));
    }
    Ok(Some(RevocationsApi {
        listen,
        tls,
        token_file: text.token_file,
        requests_per_second: text.requests_per_second.0,
        connections_max: text.connections_max.0 as usize,
        imports_max: text.imports_max.0 as usize,
        claims: Claims {
            client: text.claims.client,
            tenant: text.claims.tenant,
            session: text.claims.session,
        },
        receivers,
    }))
}

struct Reader<'a> {
    tree: &'a Node,
}

impl Reader<'_> {
    /// Whoever says who may come wants somebody to come.
    fn nowhere(&self, text: &Text) -> Result<Option<RevocationsApi>, Problem> {
        let said = [
            (text.token_file.is_some(), "token_file"),
            (text.tls.cert_file.is_some(), "tls.cert_file"),
            (text.tls.key_file.is_some(), "tls.key_file"),
            (text.tls.client_ca_file.is_some(), "tls.client_ca_file"),
            (!text.receivers.is_empty(), "receivers"),
        ];
        match said.into_iter().find(|(is_said, _)| *is_said) {
            None => Ok(None),
            Some((_, name)) => Err(self
                .without(name, "listen")
                .hint("say where: listen: 127.0.0.1:8083".to_owned())),
        }
    }

    fn tls(&self, tls: TextTls) -> Result<Option<ApiTls>, Problem> {
        let TextTls { cert_file, key_file, client_ca_file, client_names } = tls;
        if !client_names.is_empty() && client_ca_file.is_none() {
            return Err(self.without("tls.client_names", "tls.client_ca_file"));
        }
        match (cert_file, key_file) {
            (Some(cert_file), Some(key_file)) => {
                Ok(Some(ApiTls { cert_file, key_file, client_ca_file, client_names }))
            }
            (Some(_), None) => Err(self.without("tls.cert_file", "tls.key_file")),
            (None, Some(_)) => Err(self.without("tls.key_file", "tls.cert_file")),
            (None, None) if client_ca_file.is_some() => {
                Err(self.without("tls.client_ca_file", "tls.cert_file"))
            }
            (None, None) => Ok(None),
        }
    }

    fn receiver(&self, name: String, text: TextReceiver) -> Result<(String, Receiver), Problem> {
        let at = format!("receivers.{name}");
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
            let what = format!("a name has 1 to {NAME_BYTES_MAX} letters, digits and -_.");
            return Err(self.problem(&at, &what));
        }
        let without = |missing: &str| self.problem(&at, &format!("has no {missing}"));
        let issuer = text.issuer.filter(|issuer| !issuer.is_empty());
        let issuer = issuer.ok_or_else(|| {
            without("issuer")
                .hint("the iss of what it sends, such as https://id.example".to_owned())
        })?;
        let jwks_file = text.jwks_file.ok_or_else(|| {
            without("jwks_file")
                .hint("the issuer's keys: what its jwks_uri answers, in a file".to_owned())
        })?;
        if text.audiences.is_empty() {
            let hint = "what it calls us: the client_id that its logouts are for, or the audience of \
                        its stream";
            return Err(without("audiences").hint(hint.to_owned()));
        }
        for (list, name) in [(&text.audiences, "audiences"), (&text.token_issuers, "token_issuers")]
        {
            if list.len() > NAMED_MAX || list.iter().any(String::is_empty) {
                let what = format!("wanted at most {NAMED_MAX} names, none of them empty");
                return Err(self.problem(&format!("{at}.{name}"), &what));
            }
        }
        let token_issuers = match text.token_issuers.is_empty() {
            true => vec![issuer.clone()],
            false => text.token_issuers,
        };
        Ok((name, Receiver { issuer, audiences: text.audiences, jwks_file, token_issuers }))
    }

    fn without(&self, name: &str, missing: &str) -> Problem {
        self.problem(name, &format!("is set, and {SECTION}.{missing} is not"))
    }

    fn problem(&self, name: &str, what: &str) -> Problem {
        Problem::new(what.to_owned()).located(self.tree, &format!("{SECTION}.{name}"))
    }
}

impl Default for Text {
    fn default() -> Self {
        Self {
            listen: None,
            token_file: None,
            tls: TextTls::default(),
            requests_per_second: Count(1_000),
            connections_max: Count(256),
            imports_max: Count(2),
            claims: TextClaims::default(),
            receivers: BTreeMap::new(),
        }
    }
}

impl Default for TextClaims {
    fn default() -> Self {
        Self { client: None, tenant: None, session: "sid".to_owned() }
    }
}
