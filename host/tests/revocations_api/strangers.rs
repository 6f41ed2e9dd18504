//! Who may come in, and who may not.

use crate::common::{Caller, DEADLINE, Host, Logs, await_some, tidegate};
use crate::home::{Home, TOKEN};
use hyper::{Method, Request};
use std::time::{Duration, Instant};

const PATH: &str = "/v1/revocations/stats";

async fn status_of(home: &Home, token: &str) -> u16 {
    home.send_as(Some(token), Method::GET, PATH, None).await.status
}

/// Until a token is answered so.
async fn until(home: &Home, token: &str, status: u16) {
    let end = Instant::now() + DEADLINE;
    while status_of(home, token).await != status {
        assert!(Instant::now() < end, "no {status} in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nobody_comes_in_without_the_right_token() {
    let home = Home::new();
    for path in [PATH, "/", "/v1/revoke", "/v1/revocations/export"] {
        let none = home.send_as(None, Method::GET, path, None).await;
        assert_eq!(
            (none.status, &none.headers["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
    }
    for wrong in ["", "0", &TOKEN[1..], &format!("{TOKEN}x"), &format!("tests:{TOKEN}")] {
        let answer = home.send_as(Some(wrong), Method::GET, PATH, None).await;
        assert!([401, 429].contains(&answer.status), "{wrong}: {answer:?}");
        assert!(!answer.text.contains("revoked"), "{answer:?}");
    }
    let basic =
        Request::get(PATH).header("host", "t").header("authorization", format!("Basic {TOKEN}"));
    let status = home.request(basic.body(Default::default()).unwrap()).await.status;
    assert!([401, 429].contains(&status), "{status}");
    assert_eq!(status_of(&home, TOKEN).await, 200);
}

#[tokio::test]
async fn a_flood_of_wrong_tokens_is_cut_short_and_keeps_nobody_else_out() {
    let home = Home::new();
    let mut answers = Vec::new();
    for n in 0..200 {
        let answer = home.send_as(Some(&format!("wrong-{n}")), Method::GET, PATH, None).await;
        if answer.status == 429 {
            let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=6).contains(&wait), "{answer:?}");
        }
        answers.push(answer.status);
    }
    let refused = answers.iter().filter(|status| **status == 401).count();
    assert!((10..40).contains(&refused), "10, and one more each 6 s: {refused}");
    assert!(answers.iter().all(|status| [401, 429].contains(status)));
    assert_eq!(status_of(&home, TOKEN).await, 200, "from the same address");
    let lines = home.host.logs().text().matches("wrong_token").count();
    assert!(lines <= refused, "{lines} lines");
    let counted = "tidegate_revocations_api_strangers_total{why=\"wrong_token\"}";
    assert_eq!(home.host.metric(counted).await, 200.0);
}

#[tokio::test]
async fn tokens_are_rotated_without_a_restart_and_a_wrong_file_changes_nothing() {
    let home = Home::new();
    let (old, new) = (TOKEN, "another-token-of-length");
    let put = |text: &str| {
        std::fs::write(home.path("next"), text).unwrap();
        std::fs::rename(home.path("next"), home.path("tokens")).unwrap();
    };
    put(&format!("old:{old}\nnew:{new}\n"));
    until(&home, new, 200).await;
    assert_eq!(status_of(&home, old).await, 200);
    put(&format!("{new}\n"));
    until(&home, old, 401).await;
    put("short\n");
    home.host.logs().line_with(&[
        "WARN",
        "cannot be read anew",
        "tokens:1: a token of 5 characters",
    ]);
    assert_eq!(status_of(&home, new).await, 200);
    std::fs::remove_file(home.path("tokens")).unwrap();
    home.host.logs().line_with(&["WARN", "cannot be read anew", "tokens: cannot be read"]);
    assert_eq!(status_of(&home, new).await, 200);
    put(&format!("{old}\n"));
    until(&home, old, 200).await;
    until(&home, new, 401).await;
}

#[tokio::test]
async fn where_nobody_is_asked_for_credentials_pages_of_browsers_are_not_answered() {
    let home = Home::with("api: { listen: 127.0.0.1:0 }", "");
    home.host.logs().line_with(&["WARN", "whoever is on this machine may revoke"]);
    assert_eq!(home.send_as(None, Method::GET, PATH, None).await.status, 200);
    let page = Request::post("/v1/revoke")
        .header("host", "t")
        .header("origin", "https://evil.example")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("token=a".into())
        .unwrap();
    assert_eq!(home.request(page).await.status, 403);
}

#[tokio::test]
async fn a_caller_has_so_many_requests_a_second() {
    let section = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens, requests_per_second: 3 }";
    let home = Home::prepared(section, "", |folder| {
        let tokens = format!("one:{TOKEN}\nother:{TOKEN}2\n");
        std::fs::write(folder.join("tokens"), tokens).unwrap();
    });
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(status_of(&home, TOKEN).await);
    }
    assert_eq!(statuses[..3], [200; 3]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(status_of(&home, &format!("{TOKEN}2")).await, 200, "another has its own");
}

#[test]
fn a_token_file_that_is_wrong_ends_the_program_with_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let yaml = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nlog_level: error\nrevocations:\n  data_dir: {}\n  \
         api: {{ listen: 127.0.0.1:0, token_file: {} }}\n",
        path("data").display(),
        path("tokens").display()
    );
    std::fs::write(path("t.yaml"), yaml).unwrap();
    for (text, says) in [
        (None, "cannot be read"),
        (Some(""), "tokens: holds no token; wanted TOKEN or NAME:TOKEN, one a line"),
        (
            Some("hunter2\n"),
            "tokens:1: a token of 7 characters, wanted 16 to 4096; make one: openssl",
        ),
    ] {
        let _ = text.map(|text| std::fs::write(path("tokens"), text).unwrap());
        let mut command = tidegate();
        let output = command.arg("serve").arg("--config").arg(path("t.yaml")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("tidegate: revocations.api: ") && said.contains(says), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_keeps_nobody_out() {
    let section = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens, connections_max: 2 }";
    let home = Home::with(section, "");
    let silent = tokio::net::TcpStream::connect(home.api).await.unwrap();
    assert_eq!(status_of(&home, TOKEN).await, 200);
    let other = tokio::net::TcpStream::connect(home.api).await.unwrap();
    // There is no room now; who comes is let in when somebody goes.
    let waiting = async { status_of(&home, TOKEN).await };
    let going = async {
        tokio::task::yield_now().await;
        drop((silent, other));
    };
    assert_eq!(tokio::join!(waiting, going).0, 200);
}

/// Whoever wants few logs wants to know of these all the same.
#[tokio::test]
async fn who_was_not_let_in_is_told_at_any_level() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nlog_level: error\nrevocations:\n  data_dir: {0}\n  \
         api: {{ listen: {free}, token_file: {0}/tokens }}\n",
        folder.path().display()
    );
    std::fs::write(folder.path().join("t.yaml"), yaml).unwrap();
    std::fs::write(folder.path().join("tokens"), TOKEN).unwrap();
    let mut command = tidegate();
    command.arg("serve").arg("--config").arg(folder.path().join("t.yaml"));
    let mut child =
        crate::common::Killed(command.stderr(std::process::Stdio::piped()).spawn().unwrap());
    let logs = Logs::of(child.0.stderr.take().unwrap());
    await_some("a listener", || std::net::TcpStream::connect(free).ok()).await;
    let stream = tokio::net::TcpStream::connect(free).await.unwrap();
    let request = Request::get(PATH).header("host", "t").body(Default::default()).unwrap();
    assert_eq!(Caller::http1(stream).await.send(request).await.0.status(), 401);
    logs.line_with(&["\"target\":\"audit\"", "no_token"]);
    assert!(!logs.text().contains("listening"), "{}", logs.text());
}

#[tokio::test]
async fn without_a_listener_nothing_is_listened_on() {
    let host = Host::serve("");
    assert_eq!(host.admin("/readyz").await.0, 200);
    assert!(!host.logs().text().contains("\"door\":\"revocations\""));
}
