//! TLS to a server: whom we trust, what we show, and what went wrong, said so that one knows
//! what to change.
//!
//! Everything is read anew for each connection, so a certificate that was rotated is used by
//! the next one. Messages name files, never what is in them.

use crate::settings::{ClientCertificate, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The longest PEM file read: a system's whole store of certificates has some 200 KB.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How a server is spoken to, by the files as they are now. Blocks while it reads them.
///
/// # Errors
///
/// The first file that is not what it should be, in words.
pub(crate) fn client(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match tls.insecure_skip_verify {
        true => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        }
        false => builder.with_root_certificates(match &tls.ca_file {
            Some(path) => roots(path)?,
            None => system_roots()?,
        }),
    };
    match &tls.certificate {
        None => Ok(builder.with_no_client_auth()),
        Some(ClientCertificate { cert_file, key_file }) => {
            let certificates = certificates(cert_file)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key_file)?)
                .map_err(|_| format!("{}: holds no private key in PEM", key_file.display()))?;
            builder.with_client_auth_cert(certificates, key).map_err(|error| {
                format!("{} and {}: {error}", cert_file.display(), key_file.display())
            })
        }
    }
}

/// The name that a server at `host` must prove, and is told.
///
/// # Errors
///
/// If it is none that a certificate may bear.
pub(crate) fn server_name(tls: &Tls, host: &str) -> Result<ServerName<'static>, String> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name:?} is no name that a certificate may bear"))
}

/// What to change, where a failed handshake tells that.
pub(crate) fn hint(error: &io::Error) -> Option<&'static str> {
    let rustls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match rustls {
        rustls::Error::InvalidMessage(_) => "does this port speak TLS?",
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // A bad signature: an authority of that name, but with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "tls.ca_file must hold whoever signed it"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "tls.server_name must be a name that it bears"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server needs a new certificate, or a clock is wrong"
            }
            _ => return None,
        },
        rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired) => {
            "the server wants tls.cert_file and tls.key_file"
        }
        rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA) => {
            "the server does not know whoever signed tls.cert_file"
        }
        _ => return None,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: io::Error| format!("{}: {error}", path.display());
    if std::fs::metadata(path).map_err(said)?.len() > PEM_BYTES_MAX {
        return Err(format!("{}: is too large to be a PEM file", path.display()));
    }
    std::fs::read(path).map_err(said)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| format!("{}: holds no certificates in PEM", path.display()))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match added {
        0 => Err("this system trusts no certificates; name those to trust by tls.ca_file".into()),
        _ => Ok(roots),
    }
}

/// Takes any certificate. The handshake itself is still held to it, so that a server at least
/// has the key of what it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
