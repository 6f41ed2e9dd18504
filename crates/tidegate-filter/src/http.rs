//! The phases of one request: its headers, and the host service's answer if it had to wait.
//!
//! A request is answered once: after a local reply it is never continued, for that would
//! let it through.

use crate::abi::memory::Scratch;
use crate::abi::{self, Map};
use crate::guard;
use crate::vm::{self, Call, Plugin, Serial, Vm};
use crate::{CONTINUE, PAUSE};
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;
use tidegate_core::ask::{Ask, NoAnswer, Reply};
use tidegate_core::gate::{Step, Ticket};
use tidegate_core::headers;
use tidegate_core::policy::OnError;
use tidegate_core::time::Span;
use tidegate_core::verdict::{Denial, Verdict};
use tidegate_core::wire;

/// The request's own names for itself, forwarded so that its callout can be found.
const FORWARDED: [&str; 2] = ["x-request-id", "traceparent"];

/// Decides a request, or holds it.
pub(crate) fn on_request(stream: u32) -> u32 {
    let _scratch = Scratch::open();
    vm::with(|vm| {
        guard::fault("headers");
        let Some(plugin) = vm.plugin_of_request() else { return CONTINUE };
        let mut facts = plugin.reader.request();
        let step = plugin.gate.on_request(&mut plugin.ground, &mut facts);
        let (serial, has_asides) = (plugin.serial, plugin.gate.has_asides());
        let action = match step {
            Step::Answer(verdict) => answer(vm, serial, stream, verdict),
            Step::Ask(ticket, ask) => hold(vm, serial, stream, ticket, &ask),
        };
        if has_asides {
            send_asides(vm, serial);
        }
        action
    })
}

/// Goes on with a request whose callout came back.
pub(crate) fn on_call_response(call: Call, body_size: usize) {
    let reply = reply(body_size);
    vm::with(|vm| match call {
        Call::Probe { plugin } => {
            if let Some(plugin) = vm.plugin(plugin) {
                plugin.gate.on_probe(&mut plugin.ground, is_ready());
            }
        }
        Call::Aside { plugin, ticket } => {
            if let Some(plugin) = vm.plugin(plugin) {
                let _ = plugin.gate.on_reply(&mut plugin.ground, ticket, reply);
            }
        }
        Call::Request { plugin: serial, ticket, stream } => {
            let is_gone = abi::enter(stream).is_err();
            guard::fault("reply");
            let Some(plugin) = vm.plugin(serial) else { return };
            if is_gone {
                plugin.gate.on_gone(&mut plugin.ground, ticket);
                return;
            }
            let Some(verdict) = plugin.gate.on_reply(&mut plugin.ground, ticket, reply) else {
                return;
            };
            if answer(vm, serial, stream, verdict) == CONTINUE {
                let _ = abi::resume();
            }
            send_asides(vm, serial);
        }
    });
}

/// Asks the host service whether it is there again; what its store can do it says to each ask.
pub(crate) fn probe(vm: &mut Vm, serial: Serial) {
    let Some(plugin) = vm.plugin(serial) else { return };
    let Some(host) = &plugin.gate.policy().host else { return };
    let headers = [(":method", "GET"), (":path", "/healthz"), (":authority", &*host.authority)];
    match abi::call(&host.cluster, &headers, &[], timeout_ms(plugin)) {
        Ok(token) => {
            vm.calls.insert(token, Call::Probe { plugin: serial });
        }
        Err(_) => plugin.gate.on_probe(&mut plugin.ground, false),
    }
}

/// What a request gets whose decision panicked: it goes on, unless a limit of its policy
/// would rather refuse than let one through unchecked.
pub(crate) fn answer_panic() -> u32 {
    let is_closed = vm::with(|vm| {
        vm.plugin_of_request().is_some_and(|plugin| {
            plugin.gate.policy().limits.iter().any(|limit| limit.on_error == OnError::Closed)
        })
    });
    if !is_closed {
        return CONTINUE;
    }
    let _ = abi::reply(500, "tidegate{bug}", "", &[], 13);
    PAUSE
}

/// As [`answer_panic`], for a request that was held.
pub(crate) fn release_after_panic(stream: u32) {
    if abi::enter(stream).is_ok() && answer_panic() == CONTINUE {
        let _ = abi::resume();
    }
}

/// Tells a client whose request was let through where it stands.
#[cfg(feature = "standing")]
pub(crate) fn on_response(stream: u32) {
    let fields = vm::with(|vm| vm.standings.remove(&stream)).unwrap_or_default();
    for (name, value) in fields {
        let _ = abi::set_header(Map::Response, name, &value);
    }
}

/// Forgets a request that ended without a response.
#[cfg(feature = "standing")]
pub(crate) fn on_delete(stream: u32) {
    vm::with(|vm| vm.standings.remove(&stream));
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
    }
}

fn refuse(plugin: &Plugin, denial: &Denial) {
    let response = headers::refusal(plugin.gate.policy(), denial);
    let fields: Vec<_> =
        response.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let headers::Response { status, grpc_status, body, details, .. } = &response;
    let _ = abi::reply(*status, details, body, &fields, *grpc_status);
}

/// Holds a request while the host service is asked; decides it at once if it cannot be.
fn hold(vm: &mut Vm, serial: Serial, stream: u32, ticket: Ticket, ask: &Ask) -> u32 {
    match send(vm, serial, ask) {
        Some(token) => {
            vm.calls.insert(token, Call::Request { plugin: serial, ticket, stream });
            PAUSE
        }
        None => {
            let Some(plugin) = vm.plugin(serial) else { return CONTINUE };
            let verdict =
                plugin.gate.on_reply(&mut plugin.ground, ticket, Err(NoAnswer::Unreachable));
            let verdict = verdict.unwrap_or_else(|| Verdict::Allow(Vec::new()));
            answer(vm, serial, stream, verdict)
        }
    }
}

/// Sends the questions that no request waits for.
pub(crate) fn send_asides(vm: &mut Vm, serial: Serial) {
    let asides = vm.plugin(serial).map(|plugin| plugin.gate.take_asides()).unwrap_or_default();
    for (ticket, ask) in asides {
        match send(vm, serial, &ask) {
            Some(token) => {
                vm.calls.insert(token, Call::Aside { plugin: serial, ticket });
            }
            None => {
                if let Some(plugin) = vm.plugin(serial) {
                    let _ = plugin.gate.on_reply(
                        &mut plugin.ground,
                        ticket,
                        Err(NoAnswer::Unreachable),
                    );
                }
            }
        }
    }
}

/// Puts a question to the host service; `None` if it cannot be sent.
fn send(vm: &mut Vm, serial: Serial, ask: &Ask) -> Option<u32> {
    let id = vm.process.as_ref().map(|process| process.id.clone())?;
    let plugin = vm.plugin(serial)?;
    let waits_ms = timeout_ms(plugin);
    let waits_text = waits_ms.to_string();
    let host = plugin.gate.policy().host.as_ref()?;
    let forwarded = FORWARDED.map(|name| {
        // Only text that is plainly harmless goes on; ids are.
        let value = String::from_utf8(abi::header(Map::Request, name)?.to_vec()).ok()?;
        (value.len() <= 256 && value.bytes().all(|byte| byte.is_ascii_graphic())).then_some(value)
    });
    let mut headers = vec![
        (":method", "POST"),
        (":path", "/v1/ask"),
        (":authority", &*host.authority),
        ("content-type", wire::ASK_TYPE),
        (wire::PROXY, id.as_str()),
        (wire::WAITS_MS, waits_text.as_str()),
    ];
    for (name, value) in FORWARDED.iter().zip(&forwarded) {
        headers.extend(value.as_deref().map(|value| (*name, value)));
    }
    let body = wire::encode_ask(ask);
    abi::call(&host.cluster, &headers, &body, waits_ms).ok()
}

/// What the host service itself said, if it said anything.
fn reply(body_size: usize) -> Result<Reply, NoAnswer> {
    if !is_ready() {
        return Err(away().map_or(NoAnswer::Unreachable, NoAnswer::StoreAway));
    }
    if body_size > wire::REPLY_BYTES_MAX {
        return Err(NoAnswer::Unreachable);
    }
    let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size);
    wire::decode_reply(&body.ok().flatten().unwrap_or_default()).map_err(|_| NoAnswer::Unreachable)
}

/// A proxy makes 503s and 504s of its own, and they look like answers: the mark tells.
fn is_ready() -> bool {
    abi::header(Map::CalloutResponse, ":status").as_deref() == Some(b"200")
        && abi::header(Map::CalloutResponse, wire::MARK).is_some()
}

/// For how long the store has been away, if the host service says that it is.
fn away() -> Option<Span> {
    let millis = abi::header(Map::CalloutResponse, wire::AWAY_MS)?;
    let millis = core::str::from_utf8(&millis).ok()?.parse().ok()?;
    Some(Span(u64::saturating_mul(millis, 1_000_000)))
}

fn timeout_ms(plugin: &Plugin) -> u32 {
    let deadline = plugin.gate.policy().host.as_ref().map_or(1, |host| host.deadline.millis_ceil());
    // Zero would wait for ever.
    u32::try_from(deadline).unwrap_or(u32::MAX).max(1)
}
