//! What a component finds around it in the proxy, and its questions as calls to clusters.

use super::party::GuardPlan;
use super::{Calls, Shared};
use crate::component::Shell;
use crate::component::world::log::Level;
use crate::component::world::store::{NoAnswer, Question};
use bytes::Bytes;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::outside::{HttpCall, HttpResponse};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::wire;

/// The longest answer that a component reads.
const ANSWER_BYTES_MAX: usize = 512 << 10;

pub(super) const UNREACHABLE: NoAnswer = NoAnswer::Unreachable;

/// The most questions of one call of an instance, and of bytes in them: more than a limiter has of
/// which a thousand requests at once wait for an answer.
const LETTERS_MAX: usize = 1_024;
const LETTERS_BYTES_MAX: usize = 8 << 20;

/// Questions that an instance has put and nobody has sent yet.
#[derive(Clone, Default)]
pub(super) struct Letters(Rc<RefCell<Bundle>>);

#[derive(Default)]
struct Bundle {
    questions: Vec<Question>,
    bytes: usize,
}

impl Letters {
    pub(super) fn take(&self) -> Vec<Question> {
        std::mem::take(&mut *self.0.borrow_mut()).questions
    }

    /// Adds one, if there is room for it. Whether there was.
    fn add(&self, question: Question) -> bool {
        let mut bundle = self.0.borrow_mut();
        let body = question.body.as_ref().map_or(0, Vec::len);
        let bytes = bundle.bytes.saturating_add(body).saturating_add(question.authority.len());
        let has_room = bundle.questions.len() < LETTERS_MAX && bytes <= LETTERS_BYTES_MAX;
        if has_room {
            bundle.questions.push(question);
            bundle.bytes = bytes;
        }
        has_room
    }
}

/// What one instance finds around it.
pub(super) struct Outlook {
    plan: Arc<GuardPlan>,
    /// Where what it shares lies: no filter has such a `vm_id`, and no other component.
    space: String,
    shared: Arc<Shared>,
    calls: Rc<Calls>,
    letters: Letters,
}

impl Outlook {
    pub(super) fn new(
        plan: &Arc<GuardPlan>,
        shared: &Arc<Shared>,
        calls: &Rc<Calls>,
        letters: &Letters,
    ) -> Self {
        Self {
            plan: Arc::clone(plan),
            space: format!("component\0{}", plan.settings.name),
            shared: Arc::clone(shared),
            calls: Rc::clone(calls),
            letters: letters.clone(),
        }
    }
}

impl Shell for Outlook {
    fn now(&self) -> u64 {
        self.shared.monotonic_ns()
    }

    fn log(&self, level: Level, message: &str) {
        log(&self.plan, level, message);
    }

    fn shared(&self, key: &[u8]) -> Option<(Bytes, u32)> {
        self.shared.process.shared(&self.space, key)
    }

    fn share(&self, key: &[u8], value: Vec<u8>, version: Option<u32>) -> bool {
        self.shared.process.share(&self.space, key, value.into(), version)
    }

    fn send(&self, question: Question) -> bool {
        self.calls.knows(&question.to) && self.letters.add(question)
    }
}

/// A line that a component logs, if its allowance has room.
pub(super) fn log(plan: &GuardPlan, level: Level, message: &str) {
    let component = &plan.settings.name;
    let level = match level {
        Level::Debug => tracing::Level::DEBUG,
        Level::Info => tracing::Level::INFO,
        Level::Warn => tracing::Level::WARN,
        Level::Error => tracing::Level::ERROR,
    };
    if !plan.lines.allows(level) {
        return;
    }
    match level {
        tracing::Level::ERROR => tracing::error!(component, "{message}"),
        tracing::Level::WARN => tracing::warn!(component, "{message}"),
        tracing::Level::INFO => tracing::info!(component, "{message}"),
        _ => tracing::debug!(component, "{message}"),
    }
}

/// A question as a call; `proxy` is who asks, `request` for whom.
pub(super) fn call(question: Question, proxy: &str, request: Option<&HeaderMap>) -> HttpCall {
    let wait_ms = Duration::from_nanos(question.waits).as_nanos().div_ceil(1_000_000);
    let wait_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX).max(1);
    let (method, path) = match question.body {
        Some(_) => ("POST", "/v1/ask"),
        None => ("GET", "/healthz"),
    };
    let mut headers = HeaderMap::new();
    headers.add(":method", method);
    headers.add(":path", path);
    headers.add(":authority", question.authority);
    if question.body.is_some() {
        headers.add("content-type", wire::ASK_TYPE);
        headers.add(wire::PROXY, proxy.to_owned());
        headers.add(wire::WAITS_MS, wait_ms.to_string());
        for (name, value) in request.into_iter().flat_map(forwarded) {
            headers.add(name, value);
        }
    }
    HttpCall {
        cluster: question.to,
        headers,
        body: question.body.unwrap_or_default().into(),
        trailers: HeaderMap::new(),
        timeout_ms: Some(wait_ms),
    }
}

/// Its own names for itself, forwarded so that its question can be found.
fn forwarded(request: &HeaderMap) -> impl Iterator<Item = (&'static str, Bytes)> {
    wire::FORWARDED.into_iter().filter_map(|name| {
        let value = request.get(name.as_bytes()).filter(|value| wire::may_go_along(value))?;
        Some((name, value.clone()))
    })
}

/// What the host service itself said, if it said anything: a proxy makes 503s and 504s of its own.
pub(super) fn answer(response: &HttpResponse) -> Result<&[u8], NoAnswer> {
    let header = |name: &str| response.headers.get(name.as_bytes());
    let is_ready =
        header(":status").is_some_and(|status| status == "200") && header(wire::MARK).is_some();
    if is_ready && response.body.len() <= ANSWER_BYTES_MAX {
        return Ok(&response.body);
    }
    let away = header(wire::AWAY_MS).filter(|_| !is_ready).and_then(|value| wire::away(value));
    Err(away.map_or(UNREACHABLE, |span| NoAnswer::StoreAway(span.0)))
}
