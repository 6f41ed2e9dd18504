//! A real Redis that speaks TLS: whom it is trusted by, what it is shown, and what is said
//! when that does not fit.

mod load;
mod server;

use load::{Load, one};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use server::until;
use server::{Server, free_port};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate_redis::{
    Access, Address, ClientCertificate, Credentials, Password, Servers, Settings, Store, Tls,
};

const PASSWORD: &str = "hunter2-of-tls";

/// A certificate authority, and files with what it signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        let name = folder.path().display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names or addresses, and its key.
    fn sign(&self, file: &str, names: &[&str]) -> ClientCertificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let write = |end: &str, pem: String| {
            let path = self.folder.path().join(format!("{file}{end}"));
            std::fs::write(&path, pem).unwrap();
            path
        };
        ClientCertificate {
            cert_file: write(".pem", signed.pem()),
            key_file: write(".key", key.serialize_pem()),
        }
    }

    /// A server with a certificate for `names`, its TLS port, and whether it asks clients
    /// for theirs.
    fn server(&self, names: &[&str], asks: bool) -> Option<(Server, u16)> {
        self.server_with(names, asks, &[])
    }

    /// The same, with more arguments.
    fn server_with(&self, names: &[&str], asks: bool, more: &[&str]) -> Option<(Server, u16)> {
        let shown = self.sign("server", names);
        let text = |path: &Path| path.display().to_string();
        let port = free_port();
        let server = Server::start_with(
            &[
                &[
                    "--tls-port",
                    &port.to_string(),
                    "--tls-cert-file",
                    &text(&shown.cert_file),
                    "--tls-key-file",
                    &text(&shown.key_file),
                    "--tls-ca-cert-file",
                    &text(&self.ca()),
                    "--tls-auth-clients",
                    if asks { "yes" } else { "no" },
                    "--requirepass",
                    PASSWORD,
                ],
                more,
            ]
            .concat(),
            Some(PASSWORD),
        )?;
        Some((server, port))
    }

    fn trusted(&self) -> Tls {
        Tls { ca_file: Some(self.ca()), ..Tls::default() }
    }
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_its_name() {
    let authority = Authority::new();
    let Some((_server, port)) = authority.server(&["127.0.0.1", "localhost"], false) else {
        return;
    };
    for host in ["127.0.0.1", "localhost"] {
        answers(settings(host, port, Some(authority.trusted()))).await;
    }
    // Managed services are told in one line, and trusted by the system's authorities: not so
    // this one.
    let url = format!("rediss://default:{PASSWORD}@localhost:{port}");
    let said = trouble(Settings::from_url(&url).unwrap()).await;
    assert!(said.contains("UnknownIssuer") && said.contains("tls.ca_file must hold"), "{said}");
    let other = Authority::new();
    let said = trouble(settings("localhost", port, Some(other.trusted()))).await;
    assert!(said.starts_with("tls: ") && said.contains("tls.ca_file must hold"), "{said}");
}

#[tokio::test]
async fn a_certificate_may_bear_another_name_than_the_host_that_is_connected_to() {
    let authority = Authority::new();
    let Some((_server, port)) = authority.server(&["redis.lab.test"], false) else { return };
    let said = trouble(settings("127.0.0.1", port, Some(authority.trusted()))).await;
    assert!(said.contains("tls.server_name must be a name"), "{said}");
    let named = |name: &str| Tls { server_name: Some(name.to_owned()), ..authority.trusted() };
    answers(settings("127.0.0.1", port, Some(named("redis.lab.test")))).await;
    let said = trouble(settings("127.0.0.1", port, Some(named("other.lab.test")))).await;
    assert!(said.contains("tls.server_name must be a name"), "{said}");
    // It is taken for what it is not, if that is what is wanted.
    let any = Tls { insecure_skip_verify: true, ..Tls::default() };
    answers(settings("127.0.0.1", port, Some(any))).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_one_and_a_new_one_when_files_change() {
    let authority = Authority::new();
    let Some((_server, port)) = authority.server(&["127.0.0.1"], true) else { return };
    let said = trouble(settings("127.0.0.1", port, Some(authority.trusted()))).await;
    assert!(said.contains("CertificateRequired") && said.contains("tls.cert_file"), "{said}");
    let stranger = Authority::new().sign("client", &["client"]);
    let said = trouble(settings(
        "127.0.0.1",
        port,
        Some(Tls { certificate: Some(stranger.clone()), ..authority.trusted() }),
    ))
    .await;
    // The stranger's folder is gone with it: that is said too.
    assert!(said.starts_with("files: ") && said.contains("client.pem"), "{said}");

    let other = Authority::new();
    let shown = other.sign("client", &["client"]);
    let tls = Tls { certificate: Some(shown.clone()), ..authority.trusted() };
    let store = Store::start(settings("127.0.0.1", port, Some(tls)));
    until(|| store.trouble().is_some_and(|said| said.contains("UnknownCA"))).await;
    let right = authority.sign("client", &["client"]);
    std::fs::copy(&right.cert_file, &shown.cert_file).unwrap();
    std::fs::copy(&right.key_file, &shown.key_file).unwrap();
    until(|| store.trouble().is_none()).await;
    assert!(store.answer(one(1, 5)).await.unwrap().admits());
}

#[tokio::test]
async fn with_and_without_tls_are_told_from_each_other() {
    let authority = Authority::new();
    let Some((server, port)) = authority.server(&["127.0.0.1"], false) else { return };
    let said = trouble(settings("127.0.0.1", port, None)).await;
    assert!(said.contains("does this port want TLS?"), "{said}");
    let mut nobody = settings("127.0.0.1", port, None);
    nobody.access.credentials = Credentials::default();
    let said = trouble(nobody).await;
    assert!(said.contains("does this port want TLS?"), "{said}");
    let said = trouble(settings("127.0.0.1", server.port, Some(authority.trusted()))).await;
    assert!(said.contains("does this port speak TLS?"), "{said}");
}

#[tokio::test]
async fn an_acl_user_over_tls_needs_its_rights_and_no_more() {
    let authority = Authority::new();
    let Some((server, port)) = authority.server(&["127.0.0.1"], false) else { return };
    let rights = "+evalsha +script|load +mget +set +time +info";
    let mut user = vec!["ACL", "SETUSER", "limiter", "on", ">token", "resetkeys", "~tidegate:*"];
    user.push("-@all");
    user.extend(rights.split(' '));
    assert_eq!(server.command(&user), "+OK");
    let url = format!("rediss://limiter:token@127.0.0.1:{port}/0");
    let mut settings = Settings::from_url(&url).unwrap();
    settings.access.tls = Some(authority.trusted());
    let store = answers(settings).await;
    assert_eq!(server.command(&["ACL", "LOG"]), "", "nothing was tried that it may not");
    assert_eq!(store.stats().resets(), 0);
}

#[tokio::test]
async fn sentinels_over_tls_name_a_master_over_tls() {
    let authority = Authority::new();
    let Some((_server, port)) = authority.server(&["redis.lab.test"], false) else { return };
    // It names the master by an address that the certificate does not bear.
    let shown = authority.sign("sentinel", &["sentinel.lab.test"]);
    let dir = authority.folder.path().display();
    let sentinel_port = free_port();
    let file = authority.folder.path().join("sentinel.conf");
    let text = format!(
        "dir {dir}\ntls-port {sentinel_port}\ntls-replication yes\ntls-auth-clients no\n\
         tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {dir}/ca.pem\n\
         sentinel monitor truth 127.0.0.1 {port} 1\nsentinel auth-pass truth {PASSWORD}\n",
        shown.cert_file.display(),
        shown.key_file.display(),
    );
    std::fs::write(&file, text).unwrap();
    let _sentinel = Server::start_with_file(&file, &["--sentinel"]).unwrap();
    let named =
        |name: &str| Some(Tls { server_name: Some(name.to_owned()), ..authority.trusted() });
    let mut settings = settings("unused", 1, named("redis.lab.test"));
    settings.servers = Servers::Sentinel {
        master_name: "truth".to_owned(),
        sentinels: vec![Address::new("127.0.0.1", sentinel_port)],
        access: Access { tls: named("sentinel.lab.test"), ..Access::default() },
    };
    let store = answers(settings).await;
    assert_eq!(store.health().backends[0].address, format!("127.0.0.1:{port}"));
}

#[tokio::test]
async fn a_cluster_over_tls_is_followed_over_tls() {
    let authority = Authority::new();
    let cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-config-file"];
    let file = authority.folder.path().join("nodes.conf").display().to_string();
    let bus = free_port().to_string();
    let more = [&cluster[..], &[&file, "--cluster-port", &bus]].concat();
    let Some((server, port)) = authority.server_with(&["redis.lab.test"], false, &more) else {
        return;
    };
    assert_eq!(server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "+OK");
    let tls = Tls { server_name: Some("redis.lab.test".to_owned()), ..authority.trusted() };
    let mut settings = settings("unused", 1, Some(tls));
    settings.servers = Servers::Cluster { seeds: vec![Address::new("localhost", port)] };
    let store = answers(settings).await;
    let health = store.health();
    assert_eq!((health.backends.len(), health.backends[0].slots), (1, 16_384));
    assert!(health.backends[0].address.ends_with(&format!(":{port}")), "{health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_replaced_by_age_lose_nothing() {
    let authority = Authority::new();
    let Some((server, port)) = authority.server(&["127.0.0.1"], false) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let mut settings = settings("127.0.0.1", port, Some(authority.trusted()));
    settings.access.credentials.password = Password::File(file.clone());
    settings.max_conn_age = Some(Duration::from_millis(100));
    let store = Arc::new(Store::start(settings));
    until(|| store.trouble().is_none()).await;
    let load = Load::start(&store, vec![1, 2, 3]);
    until(|| store.stats().dials() >= 3).await;
    // A token is replaced: the old one is good for connections that are there, the new one
    // for those to come.
    server.command(&["CONFIG", "SET", "requirepass", "next-token"]);
    std::fs::write(&file, "next-token\n").unwrap();
    let dials = store.stats().dials();
    until(|| store.stats().dials() >= dials + 2).await;
    load.answered_after(Instant::now()).await;
    let report = load.stop().await;
    assert!(report.errors().is_empty(), "{:?}", report.errors());
    assert!(store.health().backends[0].connects >= 4);
    let left: u32 = 60_000 * 3 - u32::try_from(report.admitted()).unwrap();
    let mut found = 0;
    for key in [1, 2, 3] {
        let reply = store.answer(load::none(key)).await.unwrap();
        found += reply.answers[0].outcome.unwrap().remaining;
    }
    assert_eq!(found, left, "each was charged once");
}

fn settings(host: &str, port: u16, tls: Option<Tls>) -> Settings {
    let mut settings = Settings::standalone(host.to_owned(), port);
    settings.access.credentials =
        Credentials { username: None, password: Password::Text(PASSWORD.to_owned()) };
    settings.access.tls = tls;
    settings.dial_timeout = Duration::from_secs(2);
    settings.read_timeout = Duration::from_secs(10);
    settings.pool_timeout = Duration::from_secs(10);
    settings
}

/// A store by those settings, which works.
async fn answers(settings: Settings) -> Store {
    let store = Store::start(settings);
    until(|| store.trouble().is_none()).await;
    assert!(store.answer(one(1, 5_000)).await.unwrap().admits());
    store
}

/// What is said of settings that do not work, which is no secret.
async fn trouble(settings: Settings) -> String {
    let store = Store::start(settings);
    until(|| store.trouble().is_some_and(|said| said != "not connected yet")).await;
    let said = store.trouble().unwrap();
    assert!(!said.contains("hunter2"), "{said}");
    said
}
