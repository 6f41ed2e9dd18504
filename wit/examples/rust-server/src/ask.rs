//! Where the guard's questions go: a Tidegate host service, as HTTP/1.1.

use crate::guard::{Names, NoAnswer, Question};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, client};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// Where it answers, and by which name it knows this process.
pub struct Service {
    pub address: String,
    pub process: String,
}

impl Service {
    /// What came of a question, as late as it may come.
    pub async fn ask(&self, question: Question, names: Names) -> Result<Vec<u8>, NoAnswer> {
        let wait = Duration::from_millis(question.waits.div_ceil(1_000_000));
        match timeout(wait, self.exchange(question, wait, names)).await {
            Ok(Ok(answer)) => answer,
            problem => {
                eprintln!("Debug: {problem:?}");
                Err(NoAnswer::Unreachable)
            }
        }
    }

    /// Without the host service's mark a response is somebody else's.
    async fn exchange(
        &self,
        Question { authority, body, .. }: Question,
        wait: Duration,
        names: Names,
    ) -> wasmtime::Result<Result<Vec<u8>, NoAnswer>> {
        let request = match body {
            None => Request::get("/healthz"),
            Some(_) => Request::post("/v1/ask").header("content-type", "application/x-tidegate"),
        };
        let request = request.header("host", authority).header("x-tidegate-proxy", &self.process);
        let request = request.header("x-tidegate-waits-ms", wait.as_millis().to_string());
        let request = names.into_iter().fold(request, |it, (name, value)| it.header(name, value));
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        let stream = TokioIo::new(TcpStream::connect(&self.address).await?);
        let (mut sender, connection) = client::conn::http1::handshake(stream).await?;
        spawn_local(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let (body, is_ours) = (body.collect().await?, head.headers.contains_key("x-tidegate"));
        let away_ms = head.headers.get("x-tidegate-away-ms");
        let away_ms = away_ms.and_then(|ms| ms.to_str().ok()?.parse().ok());
        Ok(match (is_ours, head.status.as_u16(), away_ms) {
            (true, 200, _) => Ok(body.to_bytes().into()),
            (true, _, Some(ms)) => Err(NoAnswer::StoreAway(1_000_000_u64.saturating_mul(ms))),
            _ => Err(NoAnswer::Unreachable),
        })
    }
}
