//! The limiter in servers of other languages: each decides by itself, shares budgets through a real
//! host service, and outlives it.

use anyhow::{bail, ensure};
use harness::client::{Answer, Call, Client, get};
use harness::host::Host;
use harness::process::Process;
use harness::workshop::Workshop;
use harness::{Result, parts, ports, stage, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const LANGUAGES: [&str; 3] = ["javascript", "python", "rust-server"];

/// What all are told, and the units that it gives: of `/items` in each server, of `/login` in all.
const POLICY: &str = "policy.json";
const ITEMS: usize = 3;
const LOGINS: usize = 5;

/// What the host service says of asks that it answered with yes.
const ADMITTED: &str = "tidegate_asks_total{outcome=\"admitted\"}";

/// One of the examples; it is killed when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    process: Process,
}

impl Server {
    /// Starts it as the README says, and waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// If it ends instead: with its log.
    pub(crate) async fn start(
        workshop: &Workshop,
        language: &str,
        policy: &str,
        service: SocketAddr,
    ) -> Result<Self> {
        for _ in 0..ports::TRIES {
            let mut server = Self::launch(workshop, language, policy, service)?;
            if server.is_ready().await? {
                return Ok(server);
            }
            let log = server.process.log();
            // Somebody was faster; anything else would happen again.
            ensure!(log.contains("in use"), "the server in {language} ended:\n{log}");
        }
        bail!("the server in {language} did not come up in {} tries", ports::TRIES)
    }

    fn launch(
        workshop: &Workshop,
        language: &str,
        policy: &str,
        service: SocketAddr,
    ) -> Result<Self> {
        let address = ports::free()?;
        let mut command = workshop.program(&format!("{language}-serve"))?;
        command.env("PORT", address.port().to_string()).env("SERVICE", service.to_string());
        command.env("POLICY", format!("../{policy}"));
        let process = Process::start(language, &mut command, &workshop.example(language))?;
        Ok(Self { address, process })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// False if it ended.
    async fn is_ready(&mut self) -> Result<bool> {
        wait::until("the server to be ready", async || match self.process.ended() {
            Ok(None) => self.process.out().contains("ready").then_some(true),
            _ => Some(false),
        })
        .await
    }

    async fn get(&self, path: &str) -> Result<Answer> {
        self.send(get(path)).await
    }

    pub(crate) async fn send(&self, request: Call) -> Result<Answer> {
        Client::http1(self.address).await?.send(request).await
    }

    /// How many of so many requests, one after another, were let through.
    ///
    /// # Errors
    ///
    /// If one was neither let through nor limited.
    async fn admitted(&self, path: &str, requests: usize) -> Result<usize> {
        let mut admitted = 0;
        for _ in 0..requests {
            match self.get(path).await?.status.as_u16() {
                200 => admitted += 1,
                429 => {}
                status => bail!("{status} for {path}"),
            }
        }
        Ok(admitted)
    }
}

/// The examples with the guard in them, and a server of each language.
async fn servers(service: SocketAddr) -> Result<(Workshop, Vec<Server>)> {
    let workshop = with_guard()?;
    let servers = servers_in(&workshop, service).await?;
    Ok((workshop, servers))
}

/// A server of each language, with the policy as it is by now.
async fn servers_in(workshop: &Workshop, service: SocketAddr) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for language in LANGUAGES {
        servers.push(Server::start(workshop, language, POLICY, service).await?);
    }
    Ok(servers)
}

/// Has servers wait as long as they can be told to: a busy machine is not taken for a host service
/// that is away.
fn make_patient(workshop: &Workshop) -> Result<()> {
    change(workshop, |policy| policy["host"]["deadline"] = json!("4s"))
}

/// Changes what all are told.
fn change(workshop: &Workshop, how: impl FnOnce(&mut Value)) -> Result<()> {
    let file = workshop.example(POLICY);
    let mut policy: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    how(&mut policy);
    Ok(fs::write(file, policy.to_string())?)
}

fn limit<'a>(policy: &'a mut Value, name: &str) -> &'a mut Value {
    let mut limits = policy["limits"].as_array_mut().into_iter().flatten();
    limits.find(|limit| limit["name"] == name).expect("a limit of this name")
}

/// The examples with the guard in them.
pub(crate) fn with_guard() -> Result<Workshop> {
    with_guard_of(&parts::component()?)
}

/// The same with another component as the guard. What jco makes of it is part of the server in
/// JavaScript.
pub(crate) fn with_guard_of(component: &Path) -> Result<Workshop> {
    let workshop = Workshop::open()?.with_component(component);
    workshop.run("javascript-guard")?;
    Ok(workshop)
}

#[test]
fn a_server_of_any_language_limits_by_itself_and_tells_its_client() -> Result<()> {
    stage(async {
        let (_workshop, servers) = servers(ports::REFUSED).await?;
        for server in servers {
            assert_eq!(server.admitted("/items", 2 * ITEMS).await?, ITEMS);
            let refusal = server.get("/items").await?;
            assert_eq!(refusal.status, 429);
            assert_eq!(refusal.header("content-type"), "application/problem+json");
            assert_eq!(refusal.header("ratelimit-policy"), r#""items";q=3;w=10800"#);
            let wait: u32 = refusal.header("retry-after").parse()?;
            assert!((3500..=3600).contains(&wait), "a unit comes back in an hour: {wait}");
            assert_eq!(refusal.json()?["violated-policies"], json!(["items"]));
            assert_eq!(server.admitted("/unlimited", 10).await?, 10);
        }
        Ok(())
    })
}

/// Clients may write the whole URL where others write the path (RFC 9112, 3.2.2).
#[test]
fn no_limit_is_passed_by_another_form_of_the_path() -> Result<()> {
    stage(async {
        let workshop = with_guard()?;
        change(&workshop, |policy| {
            let mut root = limit(policy, "items").clone();
            root["name"] = json!("root");
            root["when"] = json!({ "path": "/", "host": "shop.example" });
            policy["limits"].as_array_mut().expect("limits").push(root);
        })?;
        for server in &servers_in(&workshop, ports::REFUSED).await? {
            ensure!(server.admitted("/items", ITEMS).await? == ITEMS);
            ensure!(server.admitted("/", ITEMS).await? == ITEMS);
            for rest in ["/items", "/items?a=b", "/", "", "?a=b"] {
                let target = format!("HTTP://shop.example{rest}");
                let mut stream = TcpStream::connect(server.address).await?;
                let request = format!("GET {target} HTTP/1.1\r\nhost: other.example\r\n\r\n");
                stream.write_all(request.as_bytes()).await?;
                let mut status = [0; 12];
                stream.read_exact(&mut status).await?;
                ensure!(status == *b"HTTP/1.1 429", "{target}: {}", status.escape_ascii());
            }
        }
        Ok(())
    })
}

#[test]
fn servers_of_all_languages_share_one_budget() -> Result<()> {
    stage(async {
        let host = Host::on_memory().await?;
        let workshop = with_guard()?;
        make_patient(&workshop)?;
        let servers = servers_in(&workshop, host.address()).await?;
        let mut admitted = 0;
        for _ in 0..LOGINS {
            for server in &servers {
                admitted += server.admitted("/login", 1).await?;
            }
        }
        assert_eq!(admitted, LOGINS);
        assert_eq!(host.metric(ADMITTED).await?, LOGINS as u64);
        Ok(())
    })
}

#[test]
fn a_held_request_is_answered_though_the_host_service_is_silent() -> Result<()> {
    stage(async {
        let host = Host::on_memory().await?;
        let workshop = with_guard()?;
        // It may still answer what nobody waits for any more.
        change(&workshop, |policy| limit(policy, "login")["burst"] = json!(10 * LOGINS))?;
        let servers = servers_in(&workshop, host.address()).await?;
        host.signal(Signal::STOP)?;
        for server in &servers {
            let refusal = server.get("/login").await?;
            assert_eq!(refusal.status, 503);
            // The policy's deadline is half a second.
            assert!(refusal.took < Duration::from_secs(5), "held for {:?}", refusal.took);
            assert_eq!(server.admitted("/items", 1).await?, 1);
        }
        host.signal(Signal::CONT)?;
        for server in &servers {
            wait::until("the host service to be asked again", async || {
                (server.get("/login").await.ok()?.status == 200).then_some(())
            })
            .await?;
        }
        Ok(())
    })
}

#[test]
fn a_policy_that_makes_no_sense_ends_a_server_with_what_is_wrong() -> Result<()> {
    stage(async {
        let workshop = with_guard()?;
        let policy = json!({ "tidegate": 1, "domain": "shop", "limitz": [] }).to_string();
        fs::write(workshop.example(POLICY), policy)?;
        for language in LANGUAGES {
            let mut server = Server::launch(&workshop, language, POLICY, ports::REFUSED)?;
            let ended = async || server.process.ended().ok().flatten();
            let status = wait::until("the server to end", ended).await?;
            assert_eq!(status.code(), Some(1), "{language}");
            assert!(server.process.log().contains("limitz: "), "{}", server.process.log());
        }
        Ok(())
    })
}
