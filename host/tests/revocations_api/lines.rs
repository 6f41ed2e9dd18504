//! Imports and exports: any number of revocations, one a line.

use crate::common::{DEADLINE, await_some};
use crate::home::{Answer, Home, TOKEN, now_secs};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt::Write;
use std::io::Write as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const PATH: &str = "/v1/revocations/import";
const NDJSON: &str = "application/x-ndjson";

async fn import(home: &Home, query: &str, text: &str) -> Answer {
    let body = Some((NDJSON, text.as_bytes()));
    home.send(Method::POST, &format!("{PATH}{query}"), body).await
}

/// The lines of an answer.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], NDJSON);
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn last(answer: &Answer) -> Value {
    lines(answer).pop().unwrap()
}

/// So many tokens, which live for an hour and differ from those of another `series`.
fn tokens(series: &str, count: usize) -> String {
    let exp = now_secs() + 3_600;
    (0..count).fold(String::new(), |mut text, number| {
        writeln!(text, r#"{{"jti":"{series}{number}","iss":"https://id.example","exp":{exp}}}"#)
            .unwrap();
        text
    })
}

async fn exported(home: &Home) -> Vec<String> {
    let answer = home.get("/v1/revocations/export").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_is_exported_is_imported_elsewhere_to_the_last_field() {
    let (home, other) = (Home::new(), Home::new());
    let (now, iss) = (now_secs(), "i");
    for said in [
        json!({"jti": "a", "iss": iss, "exp": now + 60}),
        json!({"jti": "b", "iss": iss, "until": now + 60}),
        json!({"sub": "s", "iss": iss, "before": now - 7}),
        json!({"kid": "k", "iss": iss}),
        json!({"sid": "lifted", "iss": iss}),
        json!({"cookie": "c"}),
        json!({"tenant": "t", "iss": iss, "before": "ever"}),
    ] {
        home.post("/v1/revocations", &said.to_string()).await;
    }
    let lift = json!({"sid": "lifted", "iss": iss}).to_string();
    home.post("/v1/revocations/lift", &lift).await;
    let out = exported(&home).await;
    assert_eq!(out.len(), 7, "{out:?}");
    let text = out.join("\n");
    let done = last(&import(&other, "", &text).await);
    assert_eq!(
        (&done["done"], &done["accepted"], &done["known"]),
        (&json!(true), &json!(7), &json!(0)),
        "{done}"
    );
    assert_eq!(exported(&other).await, out);
    // And again: nothing is left to do.
    let again = last(&import(&other, "", &text).await);
    assert_eq!((&again["accepted"], &again["known"]), (&json!(0), &json!(7)), "{again}");
    assert_eq!(exported(&other).await, out);
}

#[tokio::test]
async fn a_line_is_meant_now_unless_it_says_when_it_was_made() {
    let home = Home::new();
    // Another host's clock may be ahead of ours.
    let (now, ahead_ms) = (now_secs(), (now_secs() + 50) * 1_000);
    let until = now + 600;
    let thing = json!({"sid": "s", "iss": "i", "until": until});
    let with = |more: Value| {
        let mut line = thing.clone();
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line.to_string()
    };
    let accepted = async |line: String| last(&import(&home, "", &line).await)["accepted"].clone();
    let is_lifted = async || {
        let line: Value = serde_json::from_str(&exported(&home).await[0]).unwrap();
        line["lifted"] == true
    };
    assert_eq!(accepted(with(json!({"lifted": true, "at_ms": ahead_ms}))).await, 1);
    assert_eq!(accepted(with(json!({"at_ms": now * 1_000}))).await, 0, "it was lifted since");
    assert!(is_lifted().await);
    assert_eq!(accepted(with(json!({}))).await, 1);
    assert!(!is_lifted().await);
    assert_eq!(accepted(with(json!({}))).await, 0, "it is in force");
    assert_eq!(accepted(with(json!({"lifted": true}))).await, 1);
    assert!(is_lifted().await);
}

#[tokio::test]
async fn lines_that_are_wrong_are_told_by_their_number() {
    let home = Home::new();
    let good = r#"{"jti":"a","iss":"b"}"#;
    let text = format!(
        "{good}\r\n\n{{\"jit\":1}}\n{}\nnot json\n{}",
        "x".repeat(200_000),
        good.replace('a', "b"),
    );
    let all = lines(&import(&home, "?on_error=skip", &text).await);
    let told: Vec<(u64, &str)> = all
        .iter()
        .filter_map(|line| Some((line["line"].as_u64()?, line["error"].as_str()?)))
        .collect();
    assert_eq!(
        told,
        [
            (3, "column 6: there is no field \"jit\": did you mean \"jti\"?"),
            (4, "a line of more than 131072 bytes"),
            (5, "column 2: expected ident"),
        ]
    );
    let done = all.last().unwrap();
    assert_eq!(
        (&done["done"], &done["lines"], &done["accepted"], &done["errors"]),
        (&json!(true), &json!(6), &json!(2), &json!(3))
    );

    // What came before the wrong line is in force, and what comes behind it is not.
    let other = Home::new();
    let stopped = last(&import(&other, "", &text).await);
    assert_eq!((&stopped["done"], &stopped["accepted"]), (&json!(false), &json!(1)), "{stopped}");
    assert_eq!(
        stopped["stopped"],
        "line 3: column 6: there is no field \"jit\": did you mean \"jti\"?"
    );
    assert_eq!(other.get("/v1/revocations/stats").await.json()["revoked"], 1);
}

#[tokio::test]
async fn a_hundred_errors_are_told_and_all_are_counted() {
    let home = Home::new();
    let text = "nonsense\n".repeat(5_000) + &tokens("a", 3);
    let all = lines(&import(&home, "?on_error=skip", &text).await);
    assert_eq!(all.iter().filter(|line| line.get("error").is_some()).count(), 100);
    let done = all.last().unwrap();
    assert_eq!((&done["errors"], &done["accepted"]), (&json!(5_000), &json!(3)), "{done}");
}

/// An import whose body comes piece by piece.
struct Piecewise {
    pieces: mpsc::Sender<Bytes>,
    answer: Incoming,
    connection: JoinHandle<()>,
}

impl Piecewise {
    async fn begin(home: &Home) -> Self {
        let (pieces, coming) = mpsc::channel(4);
        let frames = stream::unfold(coming, |mut coming: mpsc::Receiver<Bytes>| async {
            let piece = coming.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(piece)), coming))
        });
        let stream = TcpStream::connect(home.api).await.unwrap();
        let shook = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shook.unwrap();
        let connection = tokio::spawn(async { drop(connection.await) });
        let request = Request::post(PATH)
            .header("host", "t")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", NDJSON)
            .body(StreamBody::new(Box::pin(frames)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { pieces, answer: response.into_body(), connection }
    }

    async fn send(&self, text: &str) {
        self.pieces.send(text.to_owned().into()).await.unwrap();
    }
}

/// The next line of an answer.
async fn line(answer: &mut Incoming) -> Value {
    let frame = tokio::time::timeout(DEADLINE, answer.frame()).await;
    let data = frame.expect("a line in time").unwrap().unwrap().into_data().unwrap();
    serde_json::from_slice(data.trim_ascii().split(|byte| *byte == b'\n').next().unwrap()).unwrap()
}

#[tokio::test]
async fn progress_is_told_while_the_body_is_still_coming() {
    let home = Home::new();
    let mut import = Piecewise::begin(&home).await;
    let sending = async {
        // Progress is told about once a second, if something comes.
        for number in 0_u32.. {
            import.pieces.send(tokens(&format!("{number}-"), 2_000).into()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let page = tokio::select! {
        page = line(&mut import.answer) => page,
        () = sending => Value::Null,
    };
    assert!(page["lines"].as_u64().unwrap() >= 2_000 && page.get("done").is_none(), "{page}");
    drop(import.pieces);
    let end = import.answer.collect().await.unwrap().to_bytes();
    let last = end.trim_ascii().rsplit(|byte| *byte == b'\n').next().unwrap();
    let done: Value = serde_json::from_slice(last).unwrap();
    assert_eq!((&done["done"], &done["accepted"]), (&json!(true), &done["lines"]), "{done}");
}

#[tokio::test]
async fn so_many_imports_are_under_way_at_once_and_no_more() {
    let section = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens, imports_max: 1 }";
    let home = Home::with(section, "");
    let mut first = Piecewise::begin(&home).await;
    first.send(&tokens("a", 1)).await;
    let second = import(&home, "", &tokens("b", 1)).await;
    assert_eq!((second.status, &second.headers["retry-after"]), (503, &"5".parse().unwrap()));
    // Whoever goes away makes room.
    drop(first.pieces);
    assert_eq!(line(&mut first.answer).await["done"], true);
    let end = std::time::Instant::now() + DEADLINE;
    while import(&home, "", &tokens("b", 1)).await.status != 200 {
        assert!(std::time::Instant::now() < end, "no room");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_what_came_in_force() {
    let home = Home::new();
    let import = Piecewise::begin(&home).await;
    // More than one batch, of which the whole ones are sent off as they come.
    import.send(&tokens("a", 3_000)).await;
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let stats = home.get("/v1/revocations/stats").await.json();
        if stats["revoked"].as_u64() >= Some(2_048) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{stats}");
    }
    import.connection.abort();
    let _ = import.connection.await;
    home.host.logs().line_with(&["\"action\":\"import\"", "\"outcome\":\"stopped\"", "3000"]);
    assert_eq!(home.get("/v1/revocations/stats").await.json()["revoked"], 3_000);
}

/// The host is killed while it imports; sent again, the import goes on, and nothing is missing.
#[tokio::test]
async fn an_import_that_was_killed_goes_on_when_it_is_sent_again() {
    const COUNT: usize = 60_000;
    let home = Home::new();
    std::fs::write(home.path("tokens.ndjson"), tokens("k", COUNT)).unwrap();
    let mut command = home.command(&["revocations", "import", "tokens.ndjson"]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let before = loop {
        let stats = home.get("/v1/revocations/stats").await.json();
        let count = stats["revoked"].as_u64().unwrap();
        if count > 0 {
            break count;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    home.host.signal(rustix::process::Signal::KILL);
    let status = await_some("the importer's end", || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(69), "{before} of {COUNT} were in force");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert!(said.contains("send it again: what is in force already is passed over"), "{said}");

    let home = home.killed_and_served_again();
    let after = home.get("/v1/revocations/stats").await.json()["revoked"].as_u64().unwrap();
    assert!(after >= before, "{after} of {before} that were told of");
    let output = home.run(&["revocations", "import", "--json", "tokens.ndjson"]).await;
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["known"], after, "{done}");
    assert_eq!(done["accepted"], COUNT as u64 - after, "{done}");
    assert_eq!(home.get("/v1/revocations/stats").await.json()["revoked"], COUNT as u64);
}

/// Memory while so many lines come in and go out is bounded: by the ledger's cache (64 MiB), and
/// not by their number.
///
/// A million, or ten: `TIDEGATE_LINES=10000000 cargo nextest run --release -p tidegate --test
/// revocations_api --run-ignored all --no-capture lines_without_end`.
#[tokio::test]
async fn lines_without_end_take_bounded_memory() {
    let count = std::env::var("TIDEGATE_LINES").map_or(100_000, |text| text.parse().unwrap());
    let home = Home::new();
    let (file, exp) = (home.path("many.ndjson"), now_secs() + 3_600);
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
    for number in 0..count {
        // As random as ids are, so that the ledger's pages are met in no order.
        let jti = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(out, r#"{{"jti":"{jti:016x}","iss":"i","exp":{}}}"#, exp + number as u64 % 60_000)
            .unwrap();
    }
    out.into_inner().unwrap();
    let rest = home.host.peak_rss_bytes();
    for what in ["import", "import again", "export"] {
        let mut arguments = vec!["revocations", what.split(' ').next().unwrap()];
        arguments.push(if what == "export" { "out.ndjson" } else { "many.ndjson" });
        let start = std::time::Instant::now();
        let mut command = home.command(&arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let peak = home.host.peak_rss_bytes();
        println!(
            "{what}: {count} lines in {:.1} s; at most {} MB in all, {} MB before",
            start.elapsed().as_secs_f64(),
            peak / 1_000_000,
            rest / 1_000_000
        );
        assert!(peak < rest + MEMORY_BYTES_MAX, "{what}: {peak} bytes, {rest} before");
    }
    let exported = std::fs::read(home.path("out.ndjson")).unwrap();
    assert_eq!(exported.iter().filter(|byte| **byte == b'\n').count(), count);
    assert!(!home.path("out.ndjson.part").exists());
}

/// The ledger's cache, twice, for images of them are made; and some.
const MEMORY_BYTES_MAX: u64 = 400 << 20;
