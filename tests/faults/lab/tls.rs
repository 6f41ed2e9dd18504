//! One Redis that speaks TLS, and its certificates.

use super::{Lab, PASSWORD, of_one, say};
use crate::fault::{Fault, MENDED, NONE};
use crate::server::{Server, free_port};
use harness::host::Environment;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::time::Duration;
use tempfile::TempDir;

/// A server, and who signs for it.
pub(crate) struct Tls {
    redis: Server,
    port: u16,
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Lab for Tls {
    const NAME: &'static str = "one Redis behind TLS";
    const UNDER: Duration = Duration::from_secs(4);
    const FAULTS: &'static [Fault<Self>] = &[Fault {
        name: "certificate expired",
        make: |lab| lab.show("expired", true),
        mend: |lab| lab.show("renewed", false),
        heals: MENDED,
        over_max: NONE,
    }];

    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let mut params = CertificateParams::new([]).ok()?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().ok()?;
        let authority = params.self_signed(&key).ok()?;
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).ok()?;
        let issuer = Issuer::new(params, key);
        let port = free_port();
        let [certificate, key] = sign(&issuer, &folder, "first", false);
        let ca = folder.path().join("ca.pem").display().to_string();
        let redis = Server::start_with(
            &[
                ["--tls-port", &port.to_string()],
                ["--tls-cert-file", &certificate],
                ["--tls-key-file", &key],
                ["--tls-ca-cert-file", &ca],
                ["--tls-auth-clients", "no"],
                ["--requirepass", PASSWORD],
            ]
            .concat(),
            Some(PASSWORD),
        )?;
        Some(Self { redis, port, issuer, folder })
    }

    fn environment(&self) -> Environment {
        let ca = self.folder.path().join("ca.pem").display().to_string();
        let mut environment = of_one(format!("localhost:{}", self.port));
        environment.push(("TIDEGATE_REDIS_TLS_ENABLED", "true".to_owned()));
        environment.push(("TIDEGATE_REDIS_TLS_CA_FILE", ca));
        environment
    }
}

impl Tls {
    /// From now on the server shows this certificate, to whoever connects; and all must.
    fn show(&mut self, name: &str, is_expired: bool) {
        let [certificate, key] = sign(&self.issuer, &self.folder, name, is_expired);
        let words = ["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key];
        say(&self.redis, &words);
        self.redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
}

/// Files with a certificate for this machine, and its key.
fn sign(
    issuer: &Issuer<'static, KeyPair>,
    folder: &TempDir,
    name: &str,
    is_expired: bool,
) -> [String; 2] {
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    if is_expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate().expect("a key");
    let signed = params.signed_by(&key, issuer).expect("a certificate");
    [("pem", signed.pem()), ("key", key.serialize_pem())].map(|(end, text)| {
        let path = folder.path().join(format!("{name}.{end}"));
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    })
}
