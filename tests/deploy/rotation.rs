//! Passwords and certificates are replaced while all goes on.

use crate::lab::Lab;
use crate::sentinel::{SENTINELS, SERVERS, master, pods, replaced, trio};
use anyhow::ensure;
use harness::{Result, stage, wait};
use std::fs;

/// Has every process read its users anew.
fn reload(lab: &Lab) -> Result<()> {
    for (kind, pods) in [("server", SERVERS), ("sentinel", SENTINELS)] {
        for pod in pods {
            lab.script(pod, "users.sh", &["reload", kind])?;
        }
    }
    Ok(())
}

/// Replicas connect anew, with what they take for the password now.
async fn replicas_reconnect(lab: &Lab) -> Result<()> {
    let master = master(lab, "tidegate-sentinel-0")?;
    lab.admin(&master, &["CLIENT", "KILL", "TYPE", "replica"])?;
    lab.ready("server", &SERVERS).await
}

#[test]
fn passwords_are_rotated_without_a_restart() -> Result<()> {
    const ROTATED: [&str; 5] = ["tidegate", "sentinel", "replica", "probe", "peer"];
    stage(async {
        let lab = trio().await?;
        let old = |user: &str| format!("{user}-secret");
        let new = |user: &str| format!("{user}'s \"new\" \\ one");
        for step in [
            &|user: &str| vec![old(user), new(user)],
            &|user: &str| vec![new(user), old(user)],
            &|user: &str| vec![new(user)] as Vec<String>,
        ] as [&dyn Fn(&str) -> Vec<String>; 3]
        {
            for user in ROTATED {
                let passwords = step(user);
                let passwords: Vec<&str> = passwords.iter().map(String::as_str).collect();
                lab.set_passwords(user, &passwords)?;
            }
            reload(&lab)?;
            replicas_reconnect(&lab).await?;
            lab.ready("sentinel", &SENTINELS).await?;
            for pod in ["tidegate-redis-0", "tidegate-sentinel-0"] {
                ensure!(lab.say(pod, "tidegate", &["PING"])? == "PONG", "{pod}");
            }
        }
        // Sentinels and servers use the new ones with each other, too.
        lab.kill("tidegate-redis-0")?;
        let now = replaced(&lab, "tidegate-redis-0", "tidegate-sentinel-0").await?;
        wait::until("the other replica to follow", async || {
            let told = lab.admin(&now, &["INFO", "replication"]).ok()?;
            told.contains("connected_slaves:1").then_some(())
        })
        .await?;
        lab.start("tidegate-redis-0")?;
        lab.ready("server", &SERVERS).await?;
        lab.set_passwords("tidegate", &[&old("tidegate")])?;
        for pod in ["tidegate-redis-1", "tidegate-sentinel-0"] {
            let said = lab.say(pod, "tidegate", &["PING"])?;
            ensure!(said.contains("WRONGPASS"), "the old one still works in {pod}: {said}");
        }
        Ok(())
    })
}

/// A new authority of this name, and what it signed for this machine: `tls.crt` and `tls.key`.
pub(crate) fn certificates(lab: &Lab, name: &str) -> Result<String> {
    let mut authority = rcgen::CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(rcgen::DnType::CommonName, name);
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate()?;
    let certificate = authority.self_signed(&key)?;
    let issuer = rcgen::Issuer::new(authority, key);
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own_key = rcgen::KeyPair::generate()?;
    let own = rcgen::CertificateParams::new(names)?.signed_by(&own_key, &issuer)?;
    let folder = lab.folder().join("tls");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("tls.crt"), own.pem())?;
    fs::write(folder.join("tls.key"), own_key.serialize_pem())?;
    Ok(certificate.pem())
}

#[test]
fn with_certificates_everything_is_encrypted_and_they_are_replaced_while_it_runs() -> Result<()> {
    stage(async {
        crate::lab::with_ports(async |ports| {
            let lab = pods(ports)?;
            let authority = lab.folder().join("tls/ca.crt");
            let first = certificates(&lab, "first")?;
            fs::write(&authority, &first)?;
            for pod in SENTINELS.iter().chain(&SERVERS) {
                lab.start(pod)?;
            }
            lab.ready("server", &SERVERS).await?;
            lab.ready("sentinel", &SENTINELS).await?;
            for pod in ["tidegate-redis-0", "tidegate-sentinel-0"] {
                let said = lab.say(pod, "admin", &["PING"])?;
                ensure!(!said.contains("PONG"), "{pod} answers without TLS");
            }

            // First everybody trusts both authorities, then the certificates change.
            let second = certificates(&lab, "second")?;
            fs::write(&authority, first + &second)?;
            let tls = |file: &str| lab.folder().join("tls").join(file).display().to_string();
            let (crt, key, ca) = (tls("tls.crt"), tls("tls.key"), tls("ca.crt"));
            for pod in SERVERS {
                let set = [
                    "CONFIG",
                    "SET",
                    "tls-ca-cert-file",
                    &ca,
                    "tls-cert-file",
                    &crt,
                    "tls-key-file",
                    &key,
                ];
                ensure!(lab.admin(pod, &set)? == "OK");
            }
            for pod in SENTINELS {
                lab.kill(pod)?;
                lab.start(pod)?;
            }
            lab.ready("sentinel", &SENTINELS).await?;
            replicas_reconnect(&lab).await?;
            // Whoever trusts only the second is content: what is shown now is signed by it.
            fs::write(&authority, second)?;
            lab.ready("server", &SERVERS).await?;
            lab.ready("sentinel", &SENTINELS).await
        })
        .await
    })
}
