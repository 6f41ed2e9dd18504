//! A server that speaks TLS: how long its certificate is good, and whether it is the right one.

use crate::doctor;
use crate::server::{Server, free_port};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A server with a certificate that ends in so many days, and its authority's file.
struct Encrypted {
    _server: Server,
    port: u16,
    authority: PathBuf,
    _folder: TempDir,
}

fn encrypted(days: u64) -> Option<Encrypted> {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "authority of the doctor's");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    // Half a day more, so that a slow test does not count one less.
    let end = SystemTime::now() + Duration::from_secs(days * 86_400 + 43_200);
    own.not_after = end.into();
    let own = own.signed_by(&own_key, &issuer).unwrap();
    let write = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let ca = write("ca.pem", &authority.pem());
    let certificate = write("own.pem", &own.pem());
    let key = write("own.key", &own_key.serialize_pem());
    let port = free_port();
    let text = |path: &PathBuf| path.display().to_string();
    let (ca_text, certificate, key) = (text(&ca), text(&certificate), text(&key));
    let arguments = [
        "--tls-port",
        &port.to_string(),
        "--tls-ca-cert-file",
        &ca_text,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ];
    let server = Server::start_with(&arguments, None)?;
    Some(Encrypted { _server: server, port, authority: ca, _folder: folder })
}

impl Encrypted {
    fn yaml(&self, tls: &str) -> String {
        format!("redis:\n  addresses: [127.0.0.1:{}]\n  tls:\n    enabled: true\n{tls}", self.port)
    }

    fn trusted(&self) -> String {
        self.yaml(&format!("    ca_file: {}\n", self.authority.display()))
    }
}

#[test]
fn days_left_are_counted_and_few_are_too_few() {
    for (days, level, exit) in [(300, "OK", 0), (20, "WARNING", 1), (3, "CRITICAL", 2)] {
        let Some(server) = encrypted(days) else { return };
        let told = doctor(&server.trusted());
        assert_eq!(told.exit, exit, "{}", told.all());
        told.has(level, "certificate", &format!("ends in {days} days"));
        told.has("OK", "script", "half of the runs");
    }
}

#[test]
fn a_certificate_of_a_stranger_or_no_look_at_it_at_all() {
    let Some(server) = encrypted(300) else { return };
    let told = doctor(&server.yaml(""));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "reach", "tls.ca_file must hold whoever signed it");
    let told = doctor(&server.yaml("    insecure_skip_verify: true\n"));
    assert_eq!(told.exit, 1, "{}", told.all());
    told.has("WARNING", "certificate", "insecure_skip_verify");
    // Without TLS to a port that wants it.
    let told = doctor(&format!("redis:\n  addresses: [127.0.0.1:{}]\n", server.port));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "reach", "does this port want TLS?");
}
