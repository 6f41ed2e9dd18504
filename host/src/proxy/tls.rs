//! Certificates and keys: what clients are shown, and what upstreams must show.
//!
//! Messages name files, never what is in them.

pub(super) mod certificate;

use super::files::Files;
use super::settings::Tls;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

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
pub(super) fn server(tls: &Tls, is_http: bool, files: &mut Files) -> Result<ServerConfig, String> {
    let certificates = certificates(&tls.certificate, files)?;
    let key = PrivateKeyDer::from_pem_slice(&files.read(&tls.key)?)
        .map_err(|_| format!("{}: holds no private key in PEM", tls.key.display()))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots(path, files)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| {
        format!("{} and {}: {error}", tls.certificate.display(), tls.key.display())
    })?;
    if is_http {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(config)
}

/// How an upstream is asked for its certificate, and by whom that may be signed.
///
/// # Errors
///
/// A file that holds no certificates, or a system that has none.
pub(super) fn client(
    ca: Option<&Path>,
    is_http2: bool,
    files: &mut Files,
) -> Result<ClientConfig, String> {
    let roots = match ca {
        Some(path) => roots(path, files)?,
        None => system_roots()?,
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
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
