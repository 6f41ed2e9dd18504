//! The phases of one request: its headers, and the host service's answer if it had to wait.
//!
//! A request is answered once: after a local reply it is never continued, for that would
//! let it through.

use crate::abi::memory::Scratch;
use crate::abi::{self, Map};
use crate::guard;
use crate::vm::{self, Call, Plugin, Sent, Serial, Vm};
use crate::{CONTINUE, PAUSE};
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;
use tidegate_core::ask::NoAnswer;
use tidegate_core::gate::{Answered, Question, Step, Ticket};
use tidegate_core::headers;
use tidegate_core::numbered::Numbered;
use tidegate_core::policy::OnError;
use tidegate_core::time::Span;
use tidegate_core::verdict::{Denial, Verdict};
use tidegate_core::wire;

/// Decides a request, or holds it.
pub(crate) fn on_request(stream: u32) -> u32 {
    let _scratch = Scratch::open();
    vm::with(|vm| {
        guard::fault("headers");
        let Some(plugin) = vm.plugin_of_request() else { return CONTINUE };
        let mut facts = plugin.reader.request();
        let step = plugin.gate.on_request(&mut plugin.ground, &mut facts);
        let (serial, has_questions) = (plugin.serial, plugin.gate.has_questions());
        let action = match step {
            Step::Answer(verdict) => answer(vm, serial, stream, verdict),
            Step::Hold(ticket) => {
                plugin.held.insert(ticket.0, stream);
                PAUSE
            }
        };
        if has_questions { carry(vm, serial, Some(stream)).unwrap_or(action) } else { action }
    })
}

/// Goes on with what a callout was for.
pub(crate) fn on_call_response(call: Call, body_size: usize) {
    vm::with(|vm| {
        let Some(plugin) = vm.plugin(call.plugin) else { return };
        let Some(sent) = call.question else {
            return plugin.gate.on_probe(&mut plugin.ground, is_ready());
        };
        let reply = reply(sent, body_size);
        let held = &plugin.held;
        let mut is_there = |ticket: Ticket| {
            let is_there = is_held(held, ticket);
            guard::fault("reply");
            is_there
        };
        plugin.gate.on_reply(&mut plugin.ground, sent.id, reply, &mut is_there);
        carry(vm, call.plugin, None);
    });
}

/// Sends the questions that a gate has, and does what it has decided of requests that were held.
///
/// Of the request in whose callback this runs, if it is `current`, it says what to do: only
/// others may be told to go on.
pub(crate) fn carry(vm: &mut Vm, serial: Serial, current: Option<u32>) -> Option<u32> {
    let mut action = None;
    loop {
        let questions = vm.plugin(serial)?.gate.take_questions();
        if questions.is_empty() {
            break;
        }
        for question in questions {
            put(vm, serial, &question, current.is_some());
        }
    }
    let plugin = vm.plugin(serial)?;
    for (ticket, verdict) in plugin.gate.take_decided() {
        let Some(stream) = vm.plugin(serial)?.held.remove(ticket.0) else { continue };
        if abi::enter(stream).is_err() {
            continue;
        }
        let done = answer(vm, serial, stream, verdict);
        if current == Some(stream) {
            action = Some(done);
        } else if done == CONTINUE {
            let _ = abi::resume();
        }
    }
    action
}

/// Asks the host service whether it is there again; what its store can do it says to each ask.
pub(crate) fn probe(vm: &mut Vm, serial: Serial) {
    let Some(plugin) = vm.plugin(serial) else { return };
    let Some(host) = &plugin.gate.policy().host else { return };
    let headers = [(":method", "GET"), (":path", "/healthz"), (":authority", &*host.authority)];
    match abi::call(&host.cluster, &headers, &[], millis(host.deadline)) {
        Ok(token) => {
            vm.calls.insert(token, Call { plugin: serial, question: None });
        }
        Err(_) => plugin.gate.on_probe(&mut plugin.ground, false),
    }
}

/// What a request gets whose decision panicked: it goes on, unless a limit of its policy, or what it
/// says of revocations, would rather refuse than let one through unchecked.
pub(crate) fn answer_panic(stream: u32) -> u32 {
    let is_closed = vm::with(|vm| {
        let Some(plugin) = vm.plugin_of_request() else { return false };
        // Whatever its gate still decides of it comes too late.
        plugin.held.retain(|_, held| *held != stream);
        is_closed(plugin)
    });
    if is_closed { refuse_panic() } else { CONTINUE }
}

/// The same for all requests that a gate held when it panicked: what they waited for may never
/// be told.
pub(crate) fn release_after_panic(serial: Serial) {
    let released = vm::with(|vm| {
        let plugin = vm.plugin(serial)?;
        Some((plugin.held.take_all(), is_closed(plugin)))
    });
    let Some((held, is_closed)) = released else { return };
    for (ticket, stream) in held {
        if abi::enter(stream).is_ok() && (!is_closed || refuse_panic() == CONTINUE) {
            let _ = abi::resume();
        }
        guard::guarded(|| {
            vm::with(|vm| {
                if let Some(plugin) = vm.plugin(serial) {
                    plugin.gate.on_gone(&mut plugin.ground, Ticket(ticket));
                }
            });
        });
    }
}

fn is_closed(plugin: &Plugin) -> bool {
    let policy = plugin.gate.policy();
    policy.limits.iter().any(|limit| limit.on_error == OnError::Closed)
        || policy.revocation.as_ref().is_some_and(|rules| !rules.is_open)
}

fn refuse_panic() -> u32 {
    let _ = abi::reply(500, "tidegate{bug}", "", &[], 13);
    PAUSE
}

/// Tells a client whose request was let through where it stands.
#[cfg(feature = "standing")]
pub(crate) fn on_response(stream: u32) {
    let fields = vm::with(|vm| vm.standings.remove(stream)).unwrap_or_default();
    for (name, value) in fields {
        let _ = abi::set_header(Map::Response, name, &value);
    }
}

/// Forgets a request that ended without a response.
#[cfg(feature = "standing")]
pub(crate) fn on_delete(stream: u32) {
    vm::with(|vm| vm.standings.remove(stream));
}

fn answer(vm: &mut Vm, serial: Serial, stream: u32, verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow(standings) => {
            #[cfg(feature = "standing")]
            if let Some(plugin) = vm.plugin(serial).filter(|_| !standings.is_empty()) {
                let mut fields = Vec::new();
                headers::standing_fields(plugin.gate.policy(), &standings, &mut fields);
                vm.standings.insert(stream, fields);
            }
            let _ = (stream, standings);
            CONTINUE
        }
        Verdict::Deny(denial) => {
            if let Some(plugin) = vm.plugin(serial) {
                refuse(plugin, &denial);
            }
            PAUSE
        }
        Verdict::Reject(rejection) => {
            if let Some(plugin) = vm.plugin(serial) {
                send_local(&headers::rejection(plugin.gate.policy(), rejection));
            }
            PAUSE
        }
    }
}

fn refuse(plugin: &Plugin, denial: &Denial) {
    send_local(&headers::refusal(plugin.gate.policy(), denial));
}

fn send_local(response: &headers::Response) {
    let fields: Vec<_> =
        response.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let headers::Response { status, grpc_status, body, details, .. } = response;
    let _ = abi::reply(*status, details, body, &fields, *grpc_status);
}

/// Sends a question; one that cannot be sent stays without an answer.
fn put(vm: &mut Vm, serial: Serial, question: &Question, is_of_request: bool) {
    let (body, answer) = question.ask.encode();
    let sent = Sent { id: question.id, answer };
    if let Some(token) = send(vm, serial, (question.waits, &body), is_of_request) {
        vm.calls.insert(token, Call { plugin: serial, question: Some(sent) });
    } else if let Some(Plugin { gate, ground, .. }) = vm.plugin(serial) {
        gate.on_reply(ground, question.id, Err(NoAnswer::Unreachable), &mut |_| true);
    }
}

/// Puts a question to the host service; `None` if it cannot be sent.
fn send(
    vm: &mut Vm,
    serial: Serial,
    (waits, body): (Span, &[u8]),
    is_of_request: bool,
) -> Option<u32> {
    let id = vm.process.as_ref().map(|process| process.id.clone())?;
    let plugin = vm.plugin(serial)?;
    let waits_ms = millis(waits);
    let waits_text = waits_ms.to_string();
    let host = plugin.gate.policy().host.as_ref()?;
    let forwarded = wire::FORWARDED.map(|name| {
        if !is_of_request {
            return None;
        }
        let value = abi::header(Map::Request, name).filter(|value| wire::may_go_along(value))?;
        String::from_utf8(value.to_vec()).ok()
    });
    let mut headers = vec![
        (":method", "POST"),
        (":path", "/v1/ask"),
        (":authority", &*host.authority),
        ("content-type", wire::ASK_TYPE),
        (wire::PROXY, id.as_str()),
        (wire::WAITS_MS, waits_text.as_str()),
    ];
    for (name, value) in wire::FORWARDED.iter().zip(&forwarded) {
        headers.extend(value.as_deref().map(|value| (*name, value)));
    }
    abi::call(&host.cluster, &headers, body, waits_ms).ok()
}

/// Whether a request that waits is still there.
fn is_held(held: &Numbered<u32>, ticket: Ticket) -> bool {
    held.get(ticket.0).is_some_and(|stream| abi::enter(*stream).is_ok())
}

/// What the host service itself said, if it said anything.
fn reply(sent: Sent, body_size: usize) -> Result<Answered, NoAnswer> {
    if !is_ready() {
        return Err(away().map_or(NoAnswer::Unreachable, NoAnswer::StoreAway));
    }
    if body_size > Answered::bytes_max(sent.answer) {
        return Err(NoAnswer::Unreachable);
    }
    let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size);
    let body = body.ok().flatten().unwrap_or_default();
    Answered::decode(sent.answer, body).map_err(|_| NoAnswer::Unreachable)
}

/// A proxy makes 503s and 504s of its own, and they look like answers: the mark tells.
fn is_ready() -> bool {
    abi::header(Map::CalloutResponse, ":status").as_deref() == Some(b"200")
        && abi::header(Map::CalloutResponse, wire::MARK).is_some()
}

/// For how long the store has been away, if the host service says that it is.
fn away() -> Option<Span> {
    wire::away(&abi::header(Map::CalloutResponse, wire::AWAY_MS)?)
}

/// Whole milliseconds, for a callout: zero would wait for ever.
fn millis(span: Span) -> u32 {
    u32::try_from(span.millis_ceil()).unwrap_or(u32::MAX).max(1)
}
