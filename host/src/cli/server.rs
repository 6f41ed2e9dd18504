//! Which server, and how it lets us in.

use super::Failure;
use super::secret;
use crate::files::Files;
use crate::secret::Secret;
use crate::tls::{self, Own};
use hyper::Uri;
use hyper::http::uri::Scheme;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the API listens unless something else is said, as `host/tidegate.yaml` shows it.
const SERVER: &str = "http://127.0.0.1:8083";

const SERVER_VARIABLE: &str = "TIDEGATE_API";
const TOKEN_FILE_VARIABLE: &str = "TIDEGATE_API_TOKEN_FILE";

/// Which server, and how it lets us in; and how it is told what it answers.
#[derive(Clone, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Where a host service's revocations.api listens [default: http://127.0.0.1:8083]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The token by which the server knows us, from a file; NAME: before it is passed over
    #[arg(long, value_name = "FILE")]
    api_token_file: Option<PathBuf>,
    /// Who signs the server's certificate; without it, whom the system trusts
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Our certificate, if the server wants one
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Tell it in JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A server, as it is called.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(super) token: Option<Secret>,
}

impl Arguments {
    /// Which one is meant.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL, or with a file.
    pub(super) fn server(&self) -> Result<Server, Failure> {
        let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = self.server.clone().or_else(|| said(SERVER_VARIABLE));
        let url = url.unwrap_or_else(|| SERVER.to_owned());
        let (host, port, is_tls) = parts(&url).ok_or_else(|| {
            Failure::Usage(format!(
                "--server: found {url:?}, wanted http://HOST:PORT or https://HOST:PORT"
            ))
        })?;
        let says_tls = self.ca_file.is_some() || self.cert_file.is_some();
        if says_tls && !is_tls {
            let what = format!("--server: {url} has no TLS, and there are files for it");
            return Err(Failure::Usage(what));
        }
        let tls = is_tls.then(|| self.tls(&host)).transpose()?;
        let file = self.api_token_file.clone();
        let file = file.or_else(|| said(TOKEN_FILE_VARIABLE).map(PathBuf::from));
        let token = file.as_deref().map(token).transpose()?;
        Ok(Server { host, port, tls, token })
    }

    fn tls(&self, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), Failure> {
        let own = self.cert_file.as_deref().zip(self.key_file.as_deref());
        let own = own.map(|(certificate, key)| Own { certificate, key });
        let config = tls::client(self.ca_file.as_deref(), own, false, &mut Files::default());
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| Failure::Usage(format!("--server: {host:?} is no name")))?;
        Ok((Arc::new(config.map_err(Failure::File)?), name))
    }
}

/// Host, port, and whether it speaks TLS.
fn parts(url: &str) -> Option<(String, u16, bool)> {
    let uri: Uri = url.parse().ok()?;
    let is_tls = uri.scheme()? == &Scheme::HTTPS;
    if !is_tls && uri.scheme()? != &Scheme::HTTP {
        return None;
    }
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let has_user = uri.authority()?.as_str().contains('@');
    (is_bare && !has_user && !host.is_empty()).then(|| (host.to_owned(), port, is_tls))
}

/// The first token of a file, which may be the very one that the server has.
fn token(path: &Path) -> Result<Secret, Failure> {
    let text = secret::read(path)?;
    let text = std::str::from_utf8(&text).map_err(|_| ());
    let mut lines = text.unwrap_or_default().lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let token = line.map(|line| line.split_once(':').map_or(line, |(_, token)| token.trim()));
    match token {
        Some(token) if token.bytes().all(|b| b.is_ascii_graphic()) && !token.is_empty() => {
            Ok(Secret::new(token.to_owned()))
        }
        _ => Err(Failure::File(format!("{}: holds no token", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        let is = |url: &str, wanted: Option<(&str, u16, bool)>| {
            let wanted = wanted.map(|(host, port, is_tls)| (host.to_owned(), port, is_tls));
            assert_eq!(parts(url), wanted, "{url}");
        };
        is("http://127.0.0.1:8083", Some(("127.0.0.1", 8083, false)));
        is("https://tidegate.example/", Some(("tidegate.example", 443, true)));
        is("http://[::1]:1", Some(("::1", 1, false)));
        for url in ["127.0.0.1:8083", "ftp://a", "http://a/v1", "http://u:p@a", "http://", ""] {
            is(url, None);
        }
    }
}
