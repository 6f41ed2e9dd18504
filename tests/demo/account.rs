//! What is printed.

use harness::Result;
use harness::client::Answer;
use harness::envoy::Envoy;
use harness::host::Host;
use std::collections::BTreeSet;

/// Where the filter's counters are among Envoy's.
pub(crate) const PREFIX: &str = "wasmcustom.wasm_filter.tidegate.";

/// Fields of a response that say nothing of the limit.
const EVERY_RESPONSE_HAS: [&str; 4] = ["date", "server", "content-length", "connection"];

/// What became of requests of one kind.
#[derive(Debug)]
pub(crate) struct Row {
    sent: String,
    pub(crate) admitted: usize,
    pub(crate) refused: usize,
    /// What the refused ones got; empty if there are none.
    pub(crate) status: String,
}

/// Prints who is there and the table's head.
pub(crate) fn open() {
    println!("Two Envoys, A and B, run envoy/envoy.yaml with the filter in it;");
    println!("`tidegate serve` counts what they share; an origin answers.\n");
    line("sent", "admitted", "refused", "with", "because, says Envoy's access log");
}

/// Prints what happens between two rows.
pub(crate) fn note(what: &str) {
    println!("  -- {what}");
}

impl Row {
    pub(crate) fn of(sent: &str, answers: &[Answer]) -> Self {
        let refusals: Vec<String> = answers.iter().filter_map(refused_with).collect();
        let kinds: BTreeSet<&str> = refusals.iter().map(String::as_str).collect();
        Self {
            sent: format!("{:>2} × {sent}", answers.len()),
            admitted: answers.len() - refusals.len(),
            refused: refusals.len(),
            status: kinds.into_iter().collect::<Vec<_>>().join(", "),
        }
    }

    pub(crate) fn print(&self, reason: &str) {
        let (admitted, refused) = (self.admitted.to_string(), self.refused.to_string());
        line(&self.sent, &admitted, &refused, &self.status, reason);
    }
}

/// How a request was refused, if it was.
fn refused_with(answer: &Answer) -> Option<String> {
    match answer.grpc_status() {
        Some("0") => None,
        Some(status) => Some(format!("grpc-status {status}")),
        None if answer.status.is_success() => None,
        None => Some(answer.status.as_u16().to_string()),
    }
}

/// Prints a refusal as its client got it.
pub(crate) fn refusal(answer: &Answer) {
    println!("\nA refusal, as its client gets it:\n");
    println!("  HTTP/1.1 {}", answer.status);
    for (name, value) in &answer.headers {
        if !EVERY_RESPONSE_HAS.contains(&name.as_str()) {
            println!("  {name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    println!("\n  {}", String::from_utf8_lossy(&answer.body));
}

/// Prints what the filter counted in each proxy, zeroes left out.
pub(crate) fn counters(proxies: &[(&str, &Envoy)]) -> Result<()> {
    println!("\nWhat the filters counted, from Envoy's /stats:\n");
    for (name, proxy) in proxies {
        for (counter, value) in proxy.stats()? {
            if let Some(counter) = counter.strip_prefix(PREFIX).filter(|_| value > 0) {
                println!("  {name}  {PREFIX}{counter}: {value}");
            }
        }
    }
    Ok(())
}

/// Prints where everything is and what to try.
pub(crate) fn signpost(a: &Envoy, b: &Envoy, host: &Host) {
    println!("\nEverything stays up until Ctrl-C:\n");
    for (name, proxy) in [("A", a), ("B", b)] {
        let (serves, admin) = (proxy.address(), proxy.admin_address());
        println!("  Envoy {name}   http://{serves}   its admin page http://{admin}");
    }
    println!("  host      http://{}/metrics", host.admin());
    println!("\nTry:\n");
    let a_serves = a.address();
    println!(
        "  for i in $(seq 25); do curl -so /dev/null --interface 127.0.0.3 -w '%{{http_code}} ' http://{a_serves}/api/items; done"
    );
    println!("  curl -si -X POST -H 'x-device: mine' http://{a_serves}/login");
    println!("  curl -s 'http://{}/stats?filter=tidegate.limit'", a.admin_address());
    println!("  curl -s http://{}/metrics", host.admin());
}

fn line(sent: &str, admitted: &str, refused: &str, with: &str, because: &str) {
    let line = format!("  {sent:<46} {admitted:>8} {refused:>8}  {with:<13}  {because}");
    println!("{}", line.trim_end());
}
