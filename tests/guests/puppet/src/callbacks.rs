//! Every callback of the ABI, exported, logged and played.

use crate::actor::{self, Protocol, play};
use crate::show::HIDDEN;
use crate::verbs::{buffers, headers, properties};

/// Which buffer holds what `on_vm_start` is about; it may be a script, too.
const VM_CONFIGURATION: u32 = 6;

/// Which buffer holds what `on_configure` is about.
const PLUGIN_CONFIGURATION: u32 = 7;

/// Which map holds the request's fields.
const REQUEST_HEADERS: u32 = 0;

/// Which map holds the fields of an answer to a call.
const CALL_HEADERS: u32 = 6;
const GRPC_INITIAL_METADATA: u32 = 4;

/// The field that names a stream's case.
const CASE: &str = "x-case";

#[cfg(feature = "abi-0-1-0")]
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_1_0() {}

#[cfg(feature = "abi-0-2-0")]
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_0() {}

#[cfg(not(any(feature = "abi-0-1-0", feature = "abi-0-2-0")))]
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
    actor::enter(id, parent);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(root: u32, size: u32) -> u32 {
    let configuration = buffers::whole(VM_CONFIGURATION);
    if configuration.starts_with(b"case ") {
        actor::learn(root, &configuration);
    }
    play(root, "vm_start", if size == 0 { "0" } else { "" }, 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_validate_configuration(root: u32, size: u32) -> u32 {
    play(root, "validate_configuration", &size.to_string(), 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: u32) -> u32 {
    if !actor::learn(root, &buffers::whole(PLUGIN_CONFIGURATION)) {
        return 0;
    }
    play(root, "configure", if size == 0 { "0" } else { "" }, 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    play(root, "tick", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(root: u32, _token: u32) {
    play(root, "queue_ready", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_foreign_function(root: u32, id: u32, size: u32) {
    play(root, "foreign_function", &format!("{id} {size}"), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(id: u32) -> u32 {
    if let (0, address) = properties::value("source\0address") {
        actor::cast_client(id, &address);
    }
    play(id, "new_connection", "", 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(id: u32, size: u32, is_end: u32) -> u32 {
    play(id, "downstream_data", &format!("{size} {is_end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_data(id: u32, size: u32, is_end: u32) -> u32 {
    play(id, "upstream_data", &format!("{size} {is_end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_connection_close(id: u32, peer: u32) {
    play(id, "downstream_close", &peer.to_string(), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_connection_close(id: u32, peer: u32) {
    play(id, "upstream_close", &peer.to_string(), 0);
}

#[cfg(feature = "abi-0-1-0")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, fields: u32) -> u32 {
    on_request_headers(id, &fields.to_string())
}

#[cfg(not(feature = "abi-0-1-0"))]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, fields: u32, is_end: u32) -> u32 {
    on_request_headers(id, &format!("{fields} {is_end}"))
}

fn on_request_headers(id: u32, details: &str) -> u32 {
    if let (0, case) = headers::value(REQUEST_HEADERS, CASE) {
        actor::cast(id, &case);
    }
    play(id, "request_headers", details, 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(id: u32, size: u32, is_end: u32) -> u32 {
    play(id, "request_body", &format!("{size} {is_end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(id: u32, fields: u32) -> u32 {
    play(id, "request_trailers", &fields.to_string(), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_metadata(id: u32, elements: u32) -> u32 {
    play(id, "request_metadata", &elements.to_string(), 0)
}

#[cfg(feature = "abi-0-1-0")]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, fields: u32) -> u32 {
    play(id, "response_headers", &fields.to_string(), 0)
}

#[cfg(not(feature = "abi-0-1-0"))]
#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, fields: u32, is_end: u32) -> u32 {
    play(id, "response_headers", &format!("{fields} {is_end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(id: u32, size: u32, is_end: u32) -> u32 {
    play(id, "response_body", &format!("{size} {is_end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(id: u32, fields: u32) -> u32 {
    play(id, "response_trailers", &fields.to_string(), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_metadata(id: u32, elements: u32) -> u32 {
    play(id, "response_metadata", &elements.to_string(), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(
    root: u32,
    token: u32,
    fields: u32,
    size: u32,
    trailers: u32,
) {
    let details = format!("{} {size} {trailers}", fields - hidden(CALL_HEADERS));
    play_call(Protocol::Http, root, token, "http_call_response", &details);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive_initial_metadata(root: u32, token: u32, fields: u32) {
    let fields = fields - hidden(GRPC_INITIAL_METADATA);
    play_call(Protocol::Grpc, root, token, "grpc_initial_metadata", &fields.to_string());
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(root: u32, token: u32, size: u32) {
    play_call(Protocol::Grpc, root, token, "grpc_receive", &size.to_string());
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive_trailing_metadata(root: u32, token: u32, fields: u32) {
    play_call(Protocol::Grpc, root, token, "grpc_trailing_metadata", &fields.to_string());
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(root: u32, token: u32, status: u32) {
    play_call(Protocol::Grpc, root, token, "grpc_close", &status.to_string());
}

/// Plays what happened on a call in the case of the context that started it. The host
/// says which root it is for; the context is still the root's until the script enters
/// another.
fn play_call(protocol: Protocol, root: u32, token: u32, callback: &'static str, details: &str) {
    match actor::call(protocol, token) {
        Some(call) => play(call.actor, callback, &format!("{} {details}", call.name), 0),
        None => play(root, callback, &format!("unknown({token}) {details}"), 0),
    };
}

/// How many fields of a map are not counted.
fn hidden(map: u32) -> u32 {
    let (_, value) = headers::value(map, HIDDEN);
    u32::from(!value.is_empty())
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(id: u32) -> u32 {
    play(id, "done", "", 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(id: u32) {
    play(id, "log", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    play(id, "delete", "", 0);
}
