//! What a client's certificate says of it, in the words that filters ask for.

use proxy_wasm_host::exchange::CertificateFacts;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// Reads a certificate that TLS has verified; `None` if it cannot be read all the same.
pub(crate) fn facts(certificate: &CertificateDer<'_>) -> Option<CertificateFacts> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let names = read.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let first = |wanted: fn(&GeneralName<'_>) -> Option<String>| names.iter().find_map(wanted);
    Some(CertificateFacts {
        subject: rfc2253(read.subject()),
        dns_san: first(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }),
        uri_san: first(|name| match name {
            GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        }),
        sha256: hex(&Sha256::digest(certificate)),
    })
}

/// A name as RFC 2253 writes it: the last part first, `TYPE=value`, with commas between.
fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|part| {
            let pairs = part.iter().map(|pair| {
                let kind = oid2abbrev(pair.attr_type(), oid_registry())
                    .map_or_else(|_| pair.attr_type().to_id_string(), str::to_owned);
                format!("{kind}={}", escaped(pair.as_str().unwrap_or_default()))
            });
            pairs.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// RFC 2253, section 2.4.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (place, letter) in value.chars().enumerate() {
        let is_edge =
            (place == 0 && matches!(letter, ' ' | '#')) || (place == last && letter == ' ');
        if is_edge || matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        if letter.is_control() {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                let _ = write!(escaped, "\\{byte:02X}");
            }
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn a_certificate_says_who_it_is_for() {
        let mut params = CertificateParams::new(vec!["b.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop, Inc. ");
        params.distinguished_name.push(DnType::CommonName, "#b");
        let uri = "spiffe://shop/b".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let facts = facts(certificate.der()).unwrap();
        assert_eq!(facts.subject, "CN=\\#b,O=Shop\\, Inc.\\ ");
        assert_eq!(facts.dns_san.as_deref(), Some("b.example"));
        assert_eq!(facts.uri_san.as_deref(), Some("spiffe://shop/b"));
        assert_eq!(facts.sha256.len(), 64);
    }

    #[test]
    fn what_is_no_certificate_says_nothing() {
        assert_eq!(super::facts(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
