//! Two of the real program on one real Redis: what is revoked at one, proxies of the other are
//! told; and what it acknowledged outlives both it and Redis's memory.

use crate::common::Host;
use crate::host::{api_caller, before_secs, id, news, revoke, revoke_request, serve};
use crate::server::Server;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate_core::revoke::{EVER, Position};

/// The longest wait for what must come, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_revoked_at_one_host_proxies_of_the_other_are_told() {
    let Some(server) = Server::start() else { return };
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (one, api) = serve(folders[0].path(), &redis(&server));
    let (other, _) = serve(folders[1].path(), &redis(&server));
    let (mut caller, mut proxy) = (api_caller(api).await, other.http2().await);
    is_up(&one).await;
    is_up(&other).await;
    let mut known = news(&mut proxy, Position::default(), 5_000).await.position;
    for number in 0..20 {
        let jti = format!("token-{number}");
        let start = Instant::now();
        revoke(&mut caller, &jti).await;
        // Mostly it is known by now; else the poll is answered as soon as it is.
        while before_secs(&mut proxy, &[id(&jti)]).await != [EVER] {
            assert!(start.elapsed() < DEADLINE, "{jti} is not known at the other host");
            known = news(&mut proxy, known, 1_000).await.position;
        }
    }
    // It is counted a moment after it is known.
    until(&other, "tidegate_revocation_log_followed_records_total", 20.0).await;
    assert_eq!(one.metric("tidegate_revocation_log_appended_records_total").await, 20.0);
    assert_eq!(other.metric("tidegate_revocation_log_losses_total").await, 0.0);
}

#[tokio::test]
async fn a_host_that_is_killed_after_its_word_and_a_redis_that_forgets_lose_nothing() {
    let Some(server) = Server::start() else { return };
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let mut revoked = Vec::new();
    for round in 0..3 {
        let (host, api) = serve(folders[0].path(), &redis(&server));
        is_up(&host).await;
        let mut caller = api_caller(api).await;
        for number in 0..10 {
            let jti = format!("token-{round}-{number}");
            revoke(&mut caller, &jti).await;
            revoked.push(id(&jti));
        }
        host.signal(Signal::KILL);
        // Nobody else knows of them now.
        server.command(&["FLUSHALL"]);
    }
    let (back, _) = serve(folders[0].path(), &redis(&server));
    let (stranger, _) = serve(folders[1].path(), &redis(&server));
    is_up(&back).await;
    for host in [&back, &stranger] {
        let (mut proxy, start) = (host.http2().await, Instant::now());
        for ids in revoked.chunks(16) {
            while before_secs(&mut proxy, ids).await.iter().any(|before| *before != EVER) {
                assert!(start.elapsed() < DEADLINE, "not all of them are known");
            }
        }
    }
    // So is what was put back; and some of it perhaps twice.
    let put_back = "tidegate_revocation_log_put_back_records_total";
    until_it(&back, put_back, |records| records >= 30.0).await;
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_revoked_and_that_is_said() {
    let Some(mut server) = Server::start() else { return };
    let folder = TempDir::new().unwrap();
    let (host, api) = serve(folder.path(), &redis(&server));
    is_up(&host).await;
    let mut caller = api_caller(api).await;
    revoke(&mut caller, "before").await;
    server.kill();
    until(&host, "tidegate_revocation_log_up", 0.0).await;
    let (head, body) = caller.send(revoke_request("meanwhile")).await;
    assert_eq!(head.status(), 503, "{body:?}");
    let mut proxy = host.http2().await;
    let known = before_secs(&mut proxy, &[id("before"), id("meanwhile")]).await;
    assert_eq!(known, [EVER, 0], "what was revoked stays so");
    server.restart();
    is_up(&host).await;
    revoke(&mut caller, "meanwhile").await;
    assert_eq!(before_secs(&mut proxy, &[id("meanwhile")]).await, [EVER]);
}

fn redis(server: &Server) -> String {
    format!("redis:\n  addresses: [127.0.0.1:{}]\n", server.port)
}

async fn is_up(host: &Host) {
    until(host, "tidegate_revocation_log_up", 1.0).await;
}

async fn until(host: &Host, series: &str, value: f64) {
    until_it(host, series, |found| found == value).await;
}

async fn until_it(host: &Host, series: &str, is_so: impl Fn(f64) -> bool) {
    let start = Instant::now();
    loop {
        let found = host.metric(series).await;
        if is_so(found) {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{series} is {found}");
    }
}
