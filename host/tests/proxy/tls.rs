//! TLS on both sides, with certificates made for the test.

use crate::common::DEADLINE;
use crate::home::{Client, Proxy, get, modules};
use crate::origin::Origin;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Who signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        Signed { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

impl Signed {
    fn put(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), self.certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), self.key.serialize_pem()).unwrap();
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        (vec![self.certificate.der().clone()], key)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

async fn connect(
    proxy: &Proxy,
    roots: RootCertStore,
    alpn: &[&[u8]],
    own: Option<&Signed>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.der();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(proxy.address).await?;
    let name = ServerName::try_from("shop.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

const LISTENER: &str = "listeners: [{ address: 127.0.0.1:0, tls: { certificate: FOLDER/shop.pem, \
                        key: FOLDER/shop.key } }]\n";

#[tokio::test]
async fn clients_choose_their_http_by_tls() {
    let authority = Authority::new();
    let origin = Origin::start().await;
    let proxy = Proxy::serve_with(&format!("{LISTENER}upstream: {}\n", origin.url()), |folder| {
        authority.sign("shop.test").put(folder, "shop");
    });
    for (alpn, is_http2) in
        [(&[&b"h2"[..], b"http/1.1"][..], true), (&[b"http/1.1"], false), (&[], false)]
    {
        let stream = connect(&proxy, authority.roots(), alpn, None).await.unwrap();
        let mut client = match is_http2 {
            true => Client::http2_over(stream).await,
            false => Client::http1_over(stream).await,
        };
        assert_eq!(client.send(get("/a")).await.text(), "/a");
        assert_eq!(origin.last().headers()["x-forwarded-proto"], "https");
    }
    // Without TLS nobody is served, and nothing breaks.
    let plain = tokio::time::timeout(DEADLINE, async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, crate::home::Any>(
                hyper_util::rt::TokioIo::new(TcpStream::connect(proxy.address).await.unwrap()),
            )
            .await
            .unwrap();
        tokio::spawn(connection);
        sender.send_request(get("/")).await
    });
    assert!(plain.await.unwrap().is_err());
}

#[tokio::test]
async fn clients_must_show_a_certificate_if_it_says_so() {
    let (authority, other) = (Authority::new(), Authority::new());
    let listener = LISTENER.replace("shop.key }", "shop.key, client_ca: FOLDER/ca.pem }");
    let proxy = Proxy::serve_with(&format!("{listener}respond: {{}}\n"), |folder| {
        authority.sign("shop.test").put(folder, "shop");
        std::fs::write(folder.join("ca.pem"), authority.0.pem()).unwrap();
    });
    for (own, is_served) in
        [(Some(authority.sign("client")), true), (Some(other.sign("client")), false), (None, false)]
    {
        let connected = connect(&proxy, authority.roots(), &[b"http/1.1"], own.as_ref()).await;
        // TLS 1.3 tells a client only with the first read that it is not wanted.
        let answered = match connected {
            Err(_) => false,
            Ok(stream) => {
                let io = hyper_util::rt::TokioIo::new(stream);
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake::<_, crate::home::Any>(io).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(get("/")).await.is_ok()
            }
        };
        assert_eq!(answered, is_served);
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up() {
    let (authority, next) = (Authority::new(), Authority::new());
    let proxy = Proxy::serve_with(&format!("{LISTENER}respond: {{}}\n"), |folder| {
        authority.sign("shop.test").put(folder, "shop");
    });
    connect(&proxy, authority.roots(), &[], None).await.unwrap();
    next.sign("shop.test").put(proxy.folder(), "shop");
    proxy.await_metric("tidegate_proxy_reloads_total{outcome=\"taken\"}", 1.0).await;
    connect(&proxy, next.roots(), &[], None).await.unwrap();
    assert!(connect(&proxy, authority.roots(), &[], None).await.is_err());
}

/// An origin behind TLS, that offers these.
async fn origin(signed: &Signed, alpn: &[&[u8]]) -> (Origin, std::net::SocketAddr) {
    let (chain, key) = signed.der();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let (origin, acceptor) = (Origin::start().await, TlsAcceptor::from(Arc::new(config)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = origin.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                serving.serve(stream);
            }
        }
    });
    (origin, address)
}

#[tokio::test]
async fn an_upstream_is_asked_for_its_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_origin, address) = origin(&authority.sign("origin.test"), &[b"h2", b"http/1.1"]).await;
    let serve = |ca: &Authority, more: &str| {
        let yaml = format!("upstream: {{ url: 'https://{address}', ca: FOLDER/ca.pem, {more} }}\n");
        let pem = ca.0.pem();
        Proxy::serve_with(&yaml, |folder| std::fs::write(folder.join("ca.pem"), pem).unwrap())
    };
    for http2 in [false, true] {
        let proxy = serve(&authority, &format!("server_name: origin.test, http2: {http2}"));
        assert_eq!(proxy.get("/a").await.text(), "/a");
    }
    for (ca, name) in [(&other, "origin.test"), (&authority, "another.test")] {
        let answer = serve(ca, &format!("server_name: {name}")).get("/a").await;
        assert_eq!(answer.status, 503);
        assert!(answer.text().contains("TLS error: invalid peer certificate"), "{}", answer.text());
    }
}

#[tokio::test]
async fn keys_are_named_and_never_shown() {
    let authority = Authority::new();
    let (one, two) = (authority.sign("shop.test"), authority.sign("shop.test"));
    let folder = tempfile::tempdir().unwrap();
    one.put(folder.path(), "shop");
    std::fs::write(folder.path().join("shop.key"), two.key.serialize_pem()).unwrap();
    let mut command = crate::common::tidegate();
    command.current_dir(folder.path()).arg("proxy").arg("--cache").arg(modules());
    command.args(["--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0"]);
    command.args(["--tls-certificate", "shop.pem", "--tls-key", "shop.key"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("shop.pem and shop.key: "), "{said}");
    let secret = two.key.serialize_pem();
    let secret = secret.lines().nth(1).unwrap();
    assert!(!said.contains(&secret[..16]), "{said}");
}
