//! New settings while it runs, and its end.

use crate::common::DEADLINE;
use crate::filters::{CALL, MARK, NEVER_SLOW, ODD, STUBBORN, put};
use crate::home::{Client, Proxy, get, has_thread};
use crate::origin::Origin;
use http_body_util::BodyExt;
use rustix::process::Signal;
use std::time::Instant;

const TAKEN: &str = "tidegate_proxy_reloads_total{outcome=\"taken\"}";
const REFUSED: &str = "tidegate_proxy_reloads_total{outcome=\"refused\"}";

/// Settings that answer by themselves.
fn answering(yaml: &str) -> String {
    format!("{yaml}respond: {{ body: ok }}\n")
}

#[tokio::test]
async fn changed_settings_are_taken_up_and_bad_ones_are_not() {
    let mark = |mark: &str| {
        answering(&format!("filters: [{{ wasm: FOLDER/f.wasm, configuration: {mark} }}]\n"))
    };
    let proxy = Proxy::serve_with(&mark("one"), |folder| put(folder, "f.wasm", MARK));
    let mut client = Client::http1(proxy.address).await;
    assert_eq!(client.send(get("/")).await.header("x-mark"), "one");

    proxy.rewrite(&mark("two"));
    proxy.await_metric(TAKEN, 1.0).await;
    assert_eq!(client.send(get("/")).await.header("x-mark"), "two", "on the same connection");

    // The filter refuses it, …
    proxy.rewrite(&mark("bad"));
    proxy.await_metric(REFUSED, 1.0).await;
    // … a setting is wrong, …
    proxy.rewrite(&mark("three, wsam: x"));
    proxy.await_metric(REFUSED, 2.0).await;
    proxy.logs().line_with(&["not reloaded", "there is no setting", "did you mean"]);
    // … or a module is none.
    proxy.rewrite(&mark("two"));
    proxy.await_metric(TAKEN, 2.0).await;
    std::fs::write(proxy.folder().join("f.wasm"), "(module)").unwrap();
    proxy.await_metric(REFUSED, 3.0).await;
    proxy.logs().line_with(&["not reloaded", "f.wasm: "]);
    assert_eq!(client.send(get("/")).await.header("x-mark"), "two");

    // What was refused is looked at again when it is mended.
    put(proxy.folder(), "f.wasm", &MARK.replace("x-mark", "x-mine"));
    proxy.await_metric(TAKEN, 3.0).await;
    assert_eq!(client.send(get("/")).await.header("x-mine"), "two");
}

#[tokio::test]
async fn a_signal_and_a_swapped_link_are_reasons_to_read_anew() {
    let yaml =
        answering("filters: [{ wasm: FOLDER/f.wasm, configuration_file: FOLDER/now/mark }]\n");
    let proxy = Proxy::serve_with(&yaml, |folder| {
        put(folder, "f.wasm", MARK);
        for name in ["one", "two"] {
            std::fs::create_dir(folder.join(name)).unwrap();
            std::fs::write(folder.join(name).join("mark"), name).unwrap();
        }
        std::os::unix::fs::symlink("one", folder.join("now")).unwrap();
    });
    assert_eq!(proxy.get("/").await.header("x-mark"), "one");
    std::os::unix::fs::symlink("two", proxy.folder().join("next")).unwrap();
    std::fs::rename(proxy.folder().join("next"), proxy.folder().join("now")).unwrap();
    proxy.await_metric(TAKEN, 1.0).await;
    assert_eq!(proxy.get("/").await.header("x-mark"), "two");

    proxy.signal(Signal::HUP);
    proxy.await_metric(TAKEN, 2.0).await;
}

#[tokio::test]
async fn what_was_opened_at_the_start_stays() {
    let proxy = Proxy::serve(&answering(""));
    proxy.rewrite(&answering("listeners: [{ address: 127.0.0.1:1 }]\n"));
    proxy.await_metric(REFUSED, 1.0).await;
    proxy.logs().line_with(&["addresses and protocols change with a restart only"]);
    assert_eq!(proxy.get("/").await.text(), "ok");
}

#[tokio::test]
async fn an_address_has_one_proxy() {
    let proxy = Proxy::serve(&answering(""));
    let mut second = crate::common::tidegate();
    second.args(["proxy", "--no-cache", "--upstream", "http://127.0.0.1:9", "--listen"]);
    let output = second.arg(proxy.address.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on 127.0.0.1:") && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn exchanges_under_way_outlive_a_reload() {
    let origin = Origin::start().await;
    let yaml = |mark: &str| {
        format!(
            "filters: [{{ wasm: FOLDER/f.wasm, vm_id: {mark}, configuration: {mark} }}]\n\
             upstream: {}\n",
            origin.url()
        )
    };
    let proxy = Proxy::serve_with(&yaml("one"), |folder| put(folder, "f.wasm", MARK));
    let mut client = Client::http1(proxy.address).await;
    let asked = tokio::spawn(async move { client.send(get("/held")).await });
    proxy.await_metric("tidegate_proxy_exchanges", 1.0).await;
    proxy.rewrite(&yaml("two"));
    proxy.await_metric(TAKEN, 1.0).await;
    origin.go();
    assert_eq!(asked.await.unwrap().header("x-mark"), "one", "by what it began with");
    assert_eq!(proxy.get("/").await.header("x-mark"), "two");
}

#[tokio::test]
async fn a_log_that_was_moved_away_is_opened_anew() {
    let yaml = answering("access_log: { format: json, path: FOLDER/log }\n");
    let proxy = Proxy::serve(&yaml);
    let (log, old) = (proxy.folder().join("log"), proxy.folder().join("old"));
    proxy.get("/first").await;
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let has = |path: &std::path::Path, what: &str| read(path).contains(what).then_some(());
    crate::common::await_some("a line", || has(&log, "/first")).await;
    std::fs::rename(&log, &old).unwrap();
    proxy.signal(Signal::HUP);
    proxy.await_metric(TAKEN, 1.0).await;
    proxy.get("/second").await;
    crate::common::await_some("a line in the new file", || has(&log, "/second")).await;
    assert!(!read(&old).contains("/second"));
}

#[tokio::test]
async fn told_to_stop_it_ends_what_is_under_way() {
    let origin = Origin::start().await;
    let mut proxy = Proxy::serve(&format!("upstream: {}\n", origin.url()));
    let mut idle = Client::http1(proxy.address).await;
    idle.send(get("/a")).await;
    let (mut one, mut two) =
        (Client::http1(proxy.address).await, Client::http2(proxy.address).await);
    let first = one.begin(get("/parts"));
    origin.go();
    let first = first.await.unwrap();
    let second = tokio::spawn(async move { two.send(get("/held")).await });
    proxy.await_metric("tidegate_proxy_exchanges", 2.0).await;
    assert_eq!(proxy.page("/readyz").await.0, 200);

    proxy.signal(Signal::TERM);
    proxy.logs().line_with(&["\"draining\""]);
    assert_eq!(proxy.page("/readyz").await.0, 503);
    crate::common::await_some("the idle connection's end", || match &idle {
        Client::Http1(sender) => sender.is_closed().then_some(()),
        Client::Http2(_) => None,
    })
    .await;
    crate::common::await_some("a closed door", || {
        std::net::TcpStream::connect(proxy.address).is_err().then_some(())
    })
    .await;
    // Each word lets one of the two go on.
    let going = origin.clone();
    let go = tokio::spawn(async move {
        loop {
            going.go();
            tokio::task::yield_now().await;
        }
    });
    let body = tokio::time::timeout(DEADLINE, first.into_body().collect()).await.unwrap();
    assert_eq!(body.unwrap().to_bytes(), "onetwothree");
    assert_eq!(second.await.unwrap().text(), "late");
    assert!(proxy.ended().await.success());
    go.abort();
    assert!(proxy.logs().to_end().contains("\"drained\""));
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let origin = Origin::start().await;
    let timeouts = "timeouts: { drain: 200ms }\n";
    let mut proxy = Proxy::serve(&format!("{timeouts}upstream: {}\n", origin.url()));
    let mut client = Client::http1(proxy.address).await;
    let asked = tokio::spawn(async move { client.begin(get("/never")).await });
    proxy.await_metric("tidegate_proxy_exchanges", 1.0).await;
    proxy.signal(Signal::TERM);
    assert!(proxy.ended().await.success());
    assert!(asked.await.unwrap().is_err());
    assert!(proxy.logs().to_end().contains("drain timeout"));
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let origin = Origin::start().await;
    let mut proxy = Proxy::serve(&format!("upstream: {}\n", origin.url()));
    let mut client = Client::http1(proxy.address).await;
    let asked = tokio::spawn(async move { client.begin(get("/never")).await });
    proxy.await_metric("tidegate_proxy_exchanges", 1.0).await;
    proxy.signal(Signal::TERM);
    proxy.logs().line_with(&["\"draining\""]);
    proxy.signal(Signal::TERM);
    assert!(proxy.ended().await.success());
    assert!(asked.await.unwrap().is_err());
}

#[tokio::test]
async fn the_last_lines_of_the_log_are_not_lost() {
    let mut proxy = Proxy::serve(&answering("access_log: { format: json }\n"));
    for number in 0..50 {
        proxy.get(&format!("/{number}")).await;
    }
    proxy.signal(Signal::TERM);
    assert!(proxy.ended().await.success());
    assert_eq!(proxy.out().to_end().lines().count(), 50);
}

#[tokio::test]
async fn a_reload_while_calls_are_under_way_loses_none() {
    let origin = Origin::start().await;
    let yaml = |body: &str| {
        format!(
            "filters: [{{ wasm: FOLDER/f.wasm, configuration: helper }}]\n\
             clusters: {{ helper: {} }}\nrespond: {{ body: {body} }}\n",
            origin.url()
        )
    };
    let proxy = Proxy::serve_with(&yaml("one"), |folder| put(folder, "f.wasm", CALL));
    let address = proxy.address;
    let asking = tokio::spawn(async move {
        let mut client = Client::http1(address).await;
        for _ in 0..2_000 {
            assert_eq!(client.send(get("/")).await.text(), "/asked");
        }
    });
    for round in 1..=3 {
        proxy.rewrite(&yaml(&format!("round-{round}")));
        proxy.await_metric(TAKEN, f64::from(round)).await;
    }
    asking.await.unwrap();
}

/// A proxy whose filter has just become one that does not start.
async fn stubborn(start: &str) -> Proxy {
    let limits = format!("limits: {{ callback: 100ms, start: {start} }}");
    let yaml = format!("workers: 1\nfilters: [{{ wasm: FOLDER/f.wasm, {limits} }}]\n");
    let proxy = Proxy::serve_with(&answering(&yaml), |folder| put(folder, "f.wasm", MARK));
    crate::common::await_some("no trial", || (!has_thread(proxy.child(), "trial")).then_some(()))
        .await;
    put(proxy.folder(), "f.wasm", STUBBORN);
    proxy
}

#[tokio::test]
async fn a_filter_that_loops_at_its_start_is_not_taken_and_holds_nobody_up() {
    let proxy = stubborn("12s").await;
    let mut client = Client::http1(proxy.address).await;
    let end = Instant::now() + DEADLINE;
    while proxy.metric(REFUSED).await == 0.0 {
        let begun = Instant::now();
        assert!(begun < end, "no reload was refused");
        assert_eq!(client.send(get("/")).await.status, 200);
        assert_eq!(proxy.page("/readyz").await.0, 200);
        let took = begun.elapsed();
        assert!(took < NEVER_SLOW, "{took:?}");
    }
    proxy.logs().line_with(&["starting for ever"]);
    proxy.logs().line_with(&["not reloaded", "proxy_on_vm_start", "longer than it may"]);
    assert_eq!(client.send(get("/")).await.status, 200);
}

#[tokio::test]
async fn told_to_stop_it_does_not_wait_for_a_filter_that_it_tries() {
    let mut proxy = stubborn("10m").await;
    crate::common::await_some("a trial", || has_thread(proxy.child(), "trial").then_some(())).await;
    proxy.signal(Signal::TERM);
    assert!(proxy.ended().await.success());
    assert!(proxy.logs().to_end().contains("\"drained\""));
}

#[tokio::test]
async fn told_to_stop_it_does_not_wait_for_its_first_start() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "f.wasm", STUBBORN);
    let settings = folder.path().join("proxy.yaml");
    let filter = "{ wasm: f.wasm, limits: { start: 10m } }";
    let yaml = format!("listeners: [{{ address: 127.0.0.1:0 }}]\nfilters: [{filter}]\n");
    std::fs::write(&settings, answering(&yaml)).unwrap();
    let mut command = crate::common::tidegate();
    command.args(["proxy", "--no-cache", "--settings"]).arg(settings).current_dir(folder.path());
    let mut child = crate::common::Killed(command.spawn().unwrap());
    crate::common::await_some("a trial", || has_thread(&child.0, "trial").then_some(())).await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child.0), Signal::TERM)
        .unwrap();
    let ended = crate::common::await_some("its end", || child.0.try_wait().unwrap()).await;
    assert!(ended.success());
}

#[tokio::test]
async fn what_some_workers_cannot_start_none_goes_by() {
    let origin = Origin::start().await;
    let yaml = |cluster: &str, others: &str| {
        answering(&format!(
            "filters: [{{ wasm: FOLDER/f.wasm, configuration: helper }}{others}]\n\
             clusters: {{ {cluster}: {} }}\n",
            origin.url()
        ))
    };
    let proxy = Proxy::serve_with(&yaml("helper", ""), |folder| {
        put(folder, "f.wasm", CALL);
        put(folder, "odd.wasm", ODD);
    });
    proxy.rewrite(&yaml("other", ", { wasm: FOLDER/odd.wasm, vm_id: odd }"));
    proxy.await_metric(REFUSED, 1.0).await;
    for _ in 0..20 {
        assert_eq!(
            proxy.get("/").await.text(),
            "/asked",
            "each by the clusters that it began with"
        );
    }
}
