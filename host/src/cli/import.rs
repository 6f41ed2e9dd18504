//! To send a file of revocations, one a line, and to tell what becomes of it while it is read.

use super::client::{Body, Client, NDJSON};
use super::progress::{Progress, Unit};
use super::{Failure, Found, secret, server, shown};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::{Frame, Incoming};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// What a file holds, for the help.
pub(super) const HELP: &str = "\
A file has an object in each line, as the API takes them, or as export writes them:
  {\"jti\": \"4f1c\", \"iss\": \"https://id.example\", \"exp\": 1790000000}
  {\"sub\": \"alice\", \"iss\": \"https://id.example\", \"before\": \"2026-09-21T14:13:20Z\"}
Sending it again does no harm: what is in force already is passed over, and so an import that
broke off goes on.

Exit: 0 all lines are in force, 1 not all are, 64 wrong usage, 65 the server refuses it, 69 the
server cannot be reached or cannot do it now, 74 the file cannot be read, 77 the server does not
let us in.";

/// What is read of the file at once, and how many of these wait to be sent.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_MAX: usize = 4;

/// A server that says nothing for so long is gone; it tells of progress each second.
const QUIET_MAX: Duration = Duration::from_secs(120);

/// The longest line of an answer.
const LINE_BYTES_MAX: usize = 64 << 10;

/// `tidegate revocations import`.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// A file with an object in each line, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to do about a line that is wrong: stop there, or skip it
    #[arg(long, value_name = "HOW", value_parser = ["stop", "skip"], default_value = "stop")]
    on_error: String,
    /// How durable it has to be: shared, this_host, replicas=1 [default: shared]
    #[arg(long, value_name = "HOW")]
    durability: Option<String>,
}

pub(super) async fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Found, Failure> {
    let Arguments { server, file, on_error, durability } = arguments;
    let (source, whole) = open(file)?;
    let mut query =
        form_urlencoded::Serializer::new("/v1/revocations/import?on_error=".to_owned() + on_error);
    if let Some(durability) = durability {
        query.append_pair("durability", durability);
    }
    let mut client = Client::connect(&server.server()?).await?;
    let sent = Sent::default();
    let body = body(source, sent.clone());
    let response = client.send(Method::POST, &query.finish(), Some(NDJSON), body).await?;
    let mut progress = Progress::new(Unit::Bytes, whole);
    let last = follow(response.into_body(), &sent, &mut progress).await;
    progress.end();
    if let Some(error) = sent.failure() {
        return Err(Failure::File(format!("{}: {error}", secret::name(file))));
    }
    let last = last?;
    let told = if server.json { shown::json(&last, out) } else { told(&last, out) };
    told.map_err(|error| Failure::output(&error))?;
    let is_whole = last["done"] == true && last["errors"] == 0;
    Ok(if is_whole { Found::Well } else { Found::Something })
}

/// What has been sent, and what went wrong with the reading of it.
#[derive(Clone, Default)]
struct Sent {
    bytes: Arc<AtomicU64>,
    error: Arc<std::sync::Mutex<Option<String>>>,
}

impl Sent {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn failure(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn fail(&self, error: &io::Error) {
        let mut place = self.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *place = Some(format!("cannot be read: {error}"));
    }
}

fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if secret::is_standard_input(path) {
        return Ok((Box::new(io::stdin()), None));
    }
    let open = || {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let whole = about.is_file().then_some(about.len());
        Ok::<_, io::Error>((Box::new(file) as Box<dyn Read + Send>, whole))
    };
    open().map_err(|error| Failure::File(format!("{}: cannot be read: {error}", path.display())))
}

/// A body that a thread reads as it is sent.
fn body(mut source: Box<dyn Read + Send>, sent: Sent) -> Body {
    let (give, pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES_MAX);
    std::thread::spawn(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = match source.read(&mut piece) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    sent.fail(&error);
                    let _ = give.blocking_send(Err(error));
                    return;
                }
            };
            piece.truncate(read);
            if give.blocking_send(Ok(piece.into())).is_err() {
                return;
            }
            sent.bytes.fetch_add(read as u64, Ordering::Relaxed);
        }
    });
    let frames = stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((piece.map(Frame::data), pieces))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Reads what becomes of it, to its last line.
async fn follow(
    mut body: Incoming,
    sent: &Sent,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let broken = || {
        let what = "the server broke off; send it again: what is in force already is passed over";
        Failure::Unavailable(what.to_owned())
    };
    let mut begun = Vec::new();
    loop {
        let next = tokio::time::timeout(QUIET_MAX, body.frame()).await.map_err(|_| broken())?;
        let frame = next.ok_or_else(broken)?.map_err(|_| broken())?;
        begun.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
            let rest = begun.split_off(end + 1);
            let line: Value = serde_json::from_slice(&begun).map_err(|_| broken())?;
            begun = rest;
            if line.get("done").is_some() {
                return Ok(line);
            }
            tell(&line, sent, progress);
        }
        if begun.len() > LINE_BYTES_MAX {
            return Err(broken());
        }
    }
}

fn tell(line: &Value, sent: &Sent, progress: &mut Progress) {
    if let (Some(number), Some(error)) = (line["line"].as_u64(), line["error"].as_str()) {
        progress.line(&format!("line {number}: {error}"));
        return;
    }
    progress.says(format!("{} in force, {} wrong", in_force(line), line["errors"]));
    progress.is_at(sent.bytes());
}

fn told(last: &Value, out: &mut dyn Write) -> io::Result<()> {
    let count = |name: &str| last[name].as_u64().unwrap_or_default();
    writeln!(
        out,
        "{} lines: {} are newly in force, {} were before, {} were over, {} are wrong",
        count("lines"),
        count("accepted"),
        count("known"),
        count("over"),
        count("errors"),
    )?;
    if let Some(durability) = last.get("durability") {
        writeln!(out, "durable {}", shown::durable(durability))?;
    }
    match last["stopped"].as_str() {
        Some(why) => writeln!(out, "STOPPED: {why}"),
        None => Ok(()),
    }
}

fn in_force(line: &Value) -> u64 {
    ["accepted", "known"].iter().filter_map(|name| line[*name].as_u64()).sum()
}
