//! To write all revocations to a file, or to standard output.

use super::client::Client;
use super::progress::{Progress, Unit};
use super::{Failure, Found, server};
use http_body_util::{BodyExt, Empty};
use hyper::Method;
use hyper::body::Incoming;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A server that sends nothing for so long is gone.
const QUIET_MAX: Duration = Duration::from_secs(60);

/// `tidegate revocations export`.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: server::Arguments,
    /// Where to; without it, standard output. It is there when it is whole, and not before
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Found, Failure> {
    let Arguments { server, file } = arguments;
    let mut client = Client::connect(&server.server()?).await?;
    let stats = client.ask(Method::GET, "/v1/revocations/stats", None).await?;
    let count = |name: &str| stats[name].as_u64().unwrap_or_default();
    let mut progress = Progress::new(Unit::Records, Some(count("revoked") + count("lifted")));
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let response = client.send(Method::GET, "/v1/revocations/export", None, body).await?;
    let body = response.into_body();
    let written = match file {
        None => write(body, out, "standard output", &mut progress).await,
        Some(file) => write_file(body, file, &mut progress).await,
    };
    progress.end();
    let written = written?;
    if let Some(file) = file {
        let told = match server.json {
            true => writeln!(out, "{}", serde_json::json!({ "records": written })),
            false => writeln!(out, "{written} records are in {}", file.display()),
        };
        told.map_err(|error| Failure::output(&error))?;
    }
    Ok(Found::Well)
}

/// Writes beside the file, and puts it in its place once it is whole and on the disk.
async fn write_file(body: Incoming, path: &Path, progress: &mut Progress) -> Result<u64, Failure> {
    let name = path.display().to_string();
    let failed = |error: io::Error| Failure::File(format!("{name}: cannot be written: {error}"));
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file = File::create(&part).map_err(failed)?;
    let written = match write(body, &mut file, &name, progress).await {
        Ok(written) => written,
        Err(failure) => {
            let _ = std::fs::remove_file(&part);
            return Err(failure);
        }
    };
    file.sync_all().and_then(|()| std::fs::rename(&part, path)).map_err(failed)?;
    Ok(written)
}

/// Writes a body as it comes; tells how many lines it had.
async fn write(
    mut body: Incoming,
    out: &mut dyn Write,
    name: &str,
    progress: &mut Progress,
) -> Result<u64, Failure> {
    let failed = |error: io::Error| Failure::File(format!("{name}: cannot be written: {error}"));
    let broken = || Failure::Unavailable("the export breaks off: what came is not all".to_owned());
    let mut lines = 0;
    while let Some(frame) =
        tokio::time::timeout(QUIET_MAX, body.frame()).await.map_err(|_| broken())?
    {
        let frame = frame.map_err(|_| broken())?;
        let Some(data) = frame.data_ref() else { continue };
        out.write_all(data).map_err(failed)?;
        lines += data.iter().filter(|byte| **byte == b'\n').count() as u64;
        progress.is_at(lines);
    }
    out.flush().map_err(failed)?;
    Ok(lines)
}
