//! TLS: what callers are shown, and what they must show, with certificates made for the test.

use crate::common::DEADLINE;
use crate::home::{Home, TOKEN};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::Path;
use std::time::{Duration, Instant};

/// Who signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Puts a certificate and its key into a folder.
    fn sign(&self, names: &[&str], folder: &Path, file: &str) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        put(&folder.join(format!("{file}.pem")), &certificate.pem());
        put(&folder.join(format!("{file}.key")), &key.serialize_pem());
    }

    fn put(&self, folder: &Path, file: &str) {
        put(&folder.join(file), &self.0.pem());
    }
}

/// In one step, as rotations do.
fn put(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// Runs `stats` over TLS; its exit code and all that it said.
async fn stats(home: &Home, arguments: &[&str]) -> (i32, String) {
    let server = format!("https://localhost:{}", home.api.port());
    let all = [&["revocations", "stats", "--server", &server], arguments].concat();
    let output = home.run(&all).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn tokens_go_over_tls_and_its_certificate_may_be_rotated() {
    let (authority, other) = (Authority::new(), Authority::new());
    let section = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens, \
                   tls: { cert_file: FOLDER/api.pem, key_file: FOLDER/api.key } }";
    let home = Home::prepared(section, "", |folder| {
        authority.sign(&["localhost"], folder, "api");
        authority.put(folder, "ca.pem");
        other.put(folder, "other.pem");
    });
    let (code, said) = stats(&home, &["--ca-file", "ca.pem"]).await;
    assert_eq!(code, 0, "{said}");
    let (code, said) = stats(&home, &["--ca-file", "other.pem"]).await;
    assert!(code == 69 && said.contains("invalid peer certificate"), "{code}: {said}");
    let (code, said) = stats(&home, &["--ca-file", "ca.pem", "--api-token-file", "ca.pem"]).await;
    assert_eq!(code, 74, "{said}");
    // Without TLS nobody is heard.
    let plain = home.run(&["revocations", "stats"]).await;
    assert_eq!(plain.status.code(), Some(69), "{plain:?}");

    other.sign(&["localhost"], &home.path(""), "api");
    let end = Instant::now() + DEADLINE;
    while stats(&home, &["--ca-file", "other.pem"]).await.0 != 0 {
        assert!(Instant::now() < end, "the new certificate is not shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn callers_show_a_certificate_that_bears_one_of_the_names() {
    let (authority, other) = (Authority::new(), Authority::new());
    let section = "api: { listen: 127.0.0.1:0, tls: { cert_file: FOLDER/api.pem, key_file: \
                   FOLDER/api.key, client_ca_file: FOLDER/ca.pem, client_names: [admin.example] } }";
    let home = Home::prepared(section, "", |folder| {
        authority.sign(&["localhost"], folder, "api");
        authority.sign(&["admin.example"], folder, "admin");
        authority.sign(&["shop.example"], folder, "shop");
        other.sign(&["admin.example"], folder, "forged");
        authority.put(folder, "ca.pem");
    });
    let with = async |name: &str| {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        stats(&home, &["--ca-file", "ca.pem", "--cert-file", &certificate, "--key-file", &key])
            .await
    };
    let (code, said) = with("admin").await;
    assert_eq!(code, 0, "{said}");
    let (code, said) = with("shop").await;
    assert!(
        code == 77 && said.contains("bears none of revocations.api.tls.client_names"),
        "{said}"
    );
    let (code, said) = with("forged").await;
    assert_eq!(code, 69, "{said}");
    let (code, said) = stats(&home, &["--ca-file", "ca.pem"]).await;
    assert_eq!(code, 69, "{said}");
    home.host.logs().line_with(&["\"audit\"", "no_handshake"]);
    home.host.logs().line_with(&["\"audit\"", "wrong_certificate"]);
    assert!(!home.host.logs().text().contains(TOKEN));
}

#[tokio::test]
async fn where_both_are_set_both_are_demanded() {
    let authority = Authority::new();
    let section = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens, tls: { cert_file: \
                   FOLDER/api.pem, key_file: FOLDER/api.key, client_ca_file: FOLDER/ca.pem } }";
    let home = Home::prepared(section, "", |folder| {
        authority.sign(&["localhost"], folder, "api");
        authority.sign(&["admin.example"], folder, "admin");
        authority.put(folder, "ca.pem");
        std::fs::write(folder.join("wrong"), "another-token-of-length").unwrap();
    });
    let own = ["--ca-file", "ca.pem", "--cert-file", "admin.pem", "--key-file", "admin.key"];
    assert_eq!(stats(&home, &own).await.0, 0);
    let wrong = [&own[..], &["--api-token-file", "wrong"]].concat();
    assert_eq!(stats(&home, &wrong).await.0, 77);
    assert_eq!(stats(&home, &own[..2]).await.0, 69);
}
