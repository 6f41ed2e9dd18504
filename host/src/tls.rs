//! Certificates and keys: what callers of ours are shown, and what whom we call must show.
//!
//! Messages name files, never what is in them.

pub(crate) mod certificate;

use crate::files::Files;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// A certificate in PEM, with those that it was signed by, and its key.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
}

/// `ring`: builds with a C compiler alone.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a listener shows, and what it wants to be shown. HTTP/2 is preferred if it is
/// offered.
///
/// # Errors
///
/// The first file that is not what it should be.
pub(crate) fn server(
    own: Own<'_>,
    client_ca: Option<&Path>,
    is_http: bool,
    files: &mut Files,
) -> Result<ServerConfig, String> {
    let (certificates, key) = own.read(files)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots(path, files)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(certificates, key);
    let mut config = config.map_err(|error| own.problem(&error))?;
    if is_http {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(config)
}

/// How somebody we call is asked for its certificate, by whom that may be signed, and what it is
/// shown if it asks.
///
/// # Errors
///
/// A file that holds no certificates, or a system that has none.
pub(crate) fn client(
    ca: Option<&Path>,
    own: Option<Own<'_>>,
    is_http2: bool,
    files: &mut Files,
) -> Result<ClientConfig, String> {
    let roots = match ca {
        Some(path) => roots(path, files)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (certificates, key) = own.read(files)?;
            let config = builder.with_client_auth_cert(certificates, key);
            config.map_err(|error| own.problem(&error))?
        }
    };
    config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

impl Own<'_> {
    fn read(
        &self,
        files: &mut Files,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let certificates = certificates(self.certificate, files)?;
        let key = PrivateKeyDer::from_pem_slice(&files.read(self.key)?)
            .map_err(|_| format!("{}: holds no private key in PEM", self.key.display()))?;
        Ok((certificates, key))
    }

    fn problem(&self, error: &rustls::Error) -> String {
        format!("{} and {}: {error}", self.certificate.display(), self.key.display())
    }
}

fn certificates(path: &Path, files: &mut Files) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = files.read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| format!("{}: holds no certificates in PEM", path.display()))
}

fn roots(path: &Path, files: &mut Files) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, files)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match added {
        0 => Err("this system trusts no certificates; name those to trust: ca: FILE".to_owned()),
        _ => Ok(roots),
    }
}
