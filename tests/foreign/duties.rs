//! What a server owes to whom it asks and to whom it holds, beyond carrying verdicts.

use crate::hosts::{LANGUAGES, Server, with_guard, with_guard_of};
use harness::client::get;
use harness::origin::Origin;
use harness::workshop::Workshop;
use harness::{Result, guard, ports, stage, wait};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const POLICY: &str = "duties.json";

/// How long the servers hold a request whose guard does not decide it.
const HELD_MAX: Duration = Duration::from_secs(10);

/// One unit an hour for all paths, and beneath `/held` a question about each request.
fn policy(deadline: &str) -> Value {
    json!({
        "tidegate": 1, "domain": "shop",
        "host": { "cluster": "tidegate", "authority": "limits.example:90", "deadline": deadline },
        "limits": [
            { "name": "all", "key": { "const": "all" }, "rate": "1/1h", "burst": 1 },
            {
                "name": "held", "when": { "path": "/held" }, "key": { "const": "all" },
                "rate": "9/1h", "scope": "global", "exact": true, "on_error": "open",
            },
        ],
    })
}

async fn start(
    workshop: &Workshop,
    language: &str,
    deadline: &str,
    service: SocketAddr,
) -> Result<Server> {
    fs::write(workshop.example(POLICY), policy(deadline).to_string())?;
    Server::start(workshop, language, POLICY, service).await
}

#[test]
fn a_question_says_who_asks_for_how_long_and_for_which_request() -> Result<()> {
    stage(async {
        let workshop = with_guard()?;
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for language in LANGUAGES {
            for (deadline, told) in [("2s", "2000"), ("1999001us", "2000")] {
                // An origin in the host service's place records what it is asked.
                let service = Origin::start().await?;
                let server = start(&workshop, language, deadline, service.address()).await?;
                let request = get("/held").header("x-request-id", "r1");
                let request = request.header("traceparent", parent).header("cookie", "secret");
                // Not having the service's mark, its answer is none, and the policy says `open`.
                assert_eq!(server.send(request).await?.status, 200, "{language}");
                let seen = service.seen();
                let asked = |name| seen[0].headers.get(name).and_then(|it| it.to_str().ok());
                assert_eq!(seen[0].path, "/v1/ask", "{language}");
                assert_eq!(asked("x-tidegate-waits-ms"), Some(told), "{language}");
                assert_eq!(asked("host"), Some("limits.example:90"), "{language}");
                assert_eq!(asked("x-request-id"), Some("r1"), "{language}");
                assert_eq!(asked("traceparent"), Some(parent), "{language}");
                assert_eq!(asked("cookie"), None, "{language}");
                let name = asked("x-tidegate-proxy").unwrap_or_default();
                assert!((1..=64).contains(&name.len()), "{language}: {name:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn what_is_no_name_does_not_go_along() -> Result<()> {
    stage(async {
        let workshop = with_guard()?;
        for language in LANGUAGES {
            let service = Origin::start().await?;
            let server = start(&workshop, language, "2s", service.address()).await?;
            let long = "a".repeat(257);
            let request = get("/held").header("x-request-id", "a b").header("traceparent", long);
            assert_eq!(server.send(request).await?.status, 200, "{language}");
            let asked = &service.seen()[0].headers;
            assert!(!asked.contains_key("x-request-id"), "{language}: {asked:?}");
            assert!(!asked.contains_key("traceparent"), "{language}: {asked:?}");
        }
        Ok(())
    })
}

/// Had the server not told its guard, the request would be let through after the deadline, and the
/// unit would be gone.
#[test]
fn who_hangs_up_while_held_gives_back_what_it_took() -> Result<()> {
    stage(async {
        let workshop = with_guard()?;
        let get_of = |language| (language, "GET", 0);
        // The server in Python knows no other method.
        let posts = ["javascript", "rust-server"];
        let posts = posts.into_iter().flat_map(|it| [4, 200_000].map(|bytes| (it, "POST", bytes)));
        for (language, method, bytes) in LANGUAGES.map(get_of).into_iter().chain(posts) {
            let silent = TcpListener::bind("127.0.0.1:0").await?;
            let server = start(&workshop, language, "4s", silent.local_addr()?).await?;
            let mut client = TcpStream::connect(server.address()).await?;
            let length = format!("content-length: {bytes}");
            let head = format!("{method} /held HTTP/1.1\r\nhost: shop.example\r\n{length}\r\n\r\n");
            client.write_all(head.as_bytes()).await?;
            // What is asked about is held.
            let (mut asked, _) = silent.accept().await?;
            asked.read_u8().await?;
            assert_eq!(server.send(get("/")).await?.status, 429, "{language}");
            client.write_all(&vec![b'a'; bytes]).await?;
            drop(client);
            wait::until("the unit to be back", async || {
                (server.send(get("/")).await.ok()?.status == 200).then_some(())
            })
            .await?;
        }
        Ok(())
    })
}

#[test]
fn no_request_is_held_for_ever_by_a_guard_that_does_not_decide() -> Result<()> {
    stage(async {
        let folder = tempfile::tempdir()?;
        let component = folder.path().join("tidegate.component.wasm");
        fs::write(&component, guard::component()?)?;
        let workshop = with_guard_of(&component)?;
        let mut servers = Vec::new();
        for language in LANGUAGES {
            servers.push(start(&workshop, language, "4s", ports::REFUSED).await?);
        }
        let [first, second, third] = &servers[..] else { panic!("three languages") };
        let hold = || get("/").header("x-do", "Hold");
        let answers =
            tokio::try_join!(first.send(hold()), second.send(hold()), third.send(hold()))?;
        for answer in <[_; 3]>::from(answers) {
            assert_eq!(answer.status, 503);
            assert!(answer.took >= HELD_MAX, "held for {:?} only", answer.took);
        }
        for server in &servers {
            assert_eq!(server.send(get("/")).await?.status, 200);
        }
        Ok(())
    })
}
