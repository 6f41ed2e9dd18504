//! Tidegate in hyper's HTTP server: what the guard lets through is greeted, all else gets its refusal.
//!
//!     edge-server PORT COMPONENT POLICY SERVICE
//!
//! POLICY is a file of JSON; SERVICE is where a Tidegate host service answers asks, such as
//! 127.0.0.1:9090. Only a policy with global limits, or with revocation, asks.

mod ask;
mod guard;

use ask::Service;
use guard::{Guard, Names, Verdict, Want};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep};

type Answer = Response<Full<Bytes>>;

/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(50);

async fn respond(
    guard: Rc<Guard>,
    request: Request<Incoming>,
    client: SocketAddr,
) -> Result<Answer, hyper::http::Error> {
    let (request, body) = request.into_parts();
    let facts: Vec<_> = guard.wants.iter().map(|want| fact(want, &request, client)).collect();
    let verdict = tokio::select! {
        biased;
        verdict = guard.decide(&facts, names_of(&request)) => verdict,
        () = cut_off(body) => None,
    };
    let (status, fields, body) = match verdict {
        None => (503, Vec::new(), String::new()),
        Some(Verdict::Refuse(refusal)) => (refusal.status, refusal.fields, refusal.body),
        Some(Verdict::Allow(told)) => {
            (200, told.map(|told| told.fields).unwrap_or_default(), "hello\n".into())
        }
    };
    let response = Response::builder().status(status);
    let response =
        fields.into_iter().fold(response, |it, field| it.header(field.name, field.value));
    response.body(Full::new(body.into()))
}

/// Reads a body that nobody wants, and ends if the client does before it: hyper sees one that hangs up
/// only once all is read.
async fn cut_off(mut body: Incoming) {
    while let Some(part) = body.frame().await {
        if part.is_err() {
            return;
        }
    }
    pending().await
}

/// What the policy wants to know of a request, as bytes.
fn fact(want: &Want, request: &Parts, client: SocketAddr) -> Option<Vec<u8>> {
    let (name, is_sole) = match want {
        Want::Header(name) => (name.as_str(), false),
        Want::SoleHeader(name) => (name.as_str(), true),
        Want::ClientAddress => return Some(client.ip().to_string().into()),
        Want::Route | Want::Property(_) => return None,
    };
    match name {
        ":method" => return Some(request.method.as_str().into()),
        ":path" => return Some(request.uri.path_and_query()?.to_string().into()),
        // Of a whole URL that counts (RFC 9112, 3.2.2).
        ":authority" if let Some(whole) = request.uri.authority() => {
            return Some(whole.as_str().into());
        }
        _ => {}
    }
    let name = if name == ":authority" { "host" } else { name };
    let mut values = request.headers.get_all(name).iter();
    let first = values.next()?;
    Some(if is_sole && values.next().is_some() { b",".to_vec() } else { first.as_bytes().to_vec() })
}

/// What goes along with a question: only what is plainly a name.
fn names_of(request: &Parts) -> Names {
    let name = |key| {
        let value = request.headers.get(key)?.to_str().ok()?;
        let is_name = value.len() <= 256 && value.bytes().all(|byte| byte.is_ascii_graphic());
        is_name.then(|| (key, value.to_owned()))
    };
    ["x-request-id", "traceparent"].into_iter().filter_map(name).collect()
}

async fn serve(port: u16, guard: Rc<Guard>) -> wasmtime::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready");
    let ticking = guard.clone();
    spawn_local(async move {
        let mut ticks = interval(ticking.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            ticking.tick();
        }
    });
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(problem) => {
                // Too many connections, perhaps: some will end.
                eprintln!("Warn: {problem}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let guard = guard.clone();
        let service = service_fn(move |request| respond(guard.clone(), request, client));
        let mut http = server::conn::http1::Builder::new();
        spawn_local(http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> wasmtime::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, component, policy, service] = &arguments[..] else {
        wasmtime::bail!("wanted PORT COMPONENT POLICY SERVICE");
    };
    let policy = std::fs::read_to_string(policy)?;
    let process = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
    let service = Service { address: service.clone(), process };
    let guard = Guard::start(component, &policy, service)?;
    LocalSet::new().run_until(serve(port.parse()?, guard)).await
}
