//! A filter that makes whatever host calls a program tells it to, with whatever arguments.
//!
//! The program is its configuration. Each callback goes on in it where the last one stopped,
//! up to a `return`, and answers what that says. Even what `malloc` gives is up to the program.

use std::fmt::Write;

/// Where in the guest's memory the host may find something sensible.
pub(crate) const TEXT_AT: i32 = 1024;

/// What lies there: a name, a value, an encoded map, a property's path, a cluster.
pub(crate) const TEXT: &[u8] =
    b"x-key\0value\0\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0b\0request\0path\0cluster\0:status";

/// Where the program lies, and the most bytes it may have.
pub(crate) const PROGRAM_AT: i32 = 65_536;
/// As above.
pub(crate) const PROGRAM_BYTES_MAX: usize = 60_000;

/// How much memory the guest has.
pub(crate) const MEMORY_BYTES: i32 = 3 * 65_536;

/// Ends a callback, with an answer.
pub(crate) const RETURN: u8 = 255;
/// Sets what `malloc` gives from now on; 0: what it should.
pub(crate) const MALLOC: u8 = 254;

/// A host call: its module, its name, its parameters (`i` 32 bits, `I` 64), whether it
/// returns a status.
pub(crate) type Import = (&'static str, &'static str, &'static str, bool);

const ENV: &str = "env";
const WASI: &str = "wasi_snapshot_preview1";

/// Every host call there is.
pub(crate) const IMPORTS: &[Import] = &[
    (ENV, "proxy_log", "iii", true),
    (ENV, "proxy_get_log_level", "i", true),
    (ENV, "proxy_get_property", "iiii", true),
    (ENV, "proxy_set_property", "iiii", true),
    (ENV, "proxy_send_local_response", "iiiiiiii", true),
    (ENV, "proxy_get_header_map_value", "iiiii", true),
    (ENV, "proxy_add_header_map_value", "iiiii", true),
    (ENV, "proxy_replace_header_map_value", "iiiii", true),
    (ENV, "proxy_remove_header_map_value", "iii", true),
    (ENV, "proxy_get_header_map_pairs", "iii", true),
    (ENV, "proxy_set_header_map_pairs", "iii", true),
    (ENV, "proxy_get_header_map_size", "ii", true),
    (ENV, "proxy_get_buffer_bytes", "iiiii", true),
    (ENV, "proxy_set_buffer_bytes", "iiiii", true),
    (ENV, "proxy_get_buffer_status", "iii", true),
    (ENV, "proxy_http_call", "iiiiiiiiii", true),
    (ENV, "proxy_grpc_call", "iiiiiiiiiiii", true),
    (ENV, "proxy_grpc_stream", "iiiiiiiii", true),
    (ENV, "proxy_grpc_send", "iiii", true),
    (ENV, "proxy_grpc_cancel", "i", true),
    (ENV, "proxy_grpc_close", "i", true),
    (ENV, "proxy_get_status", "iii", true),
    (ENV, "proxy_get_shared_data", "iiiii", true),
    (ENV, "proxy_set_shared_data", "iiiii", true),
    (ENV, "proxy_register_shared_queue", "iii", true),
    (ENV, "proxy_resolve_shared_queue", "iiiii", true),
    (ENV, "proxy_dequeue_shared_queue", "iii", true),
    (ENV, "proxy_enqueue_shared_queue", "iii", true),
    (ENV, "proxy_define_metric", "iiii", true),
    (ENV, "proxy_increment_metric", "iI", true),
    (ENV, "proxy_record_metric", "iI", true),
    (ENV, "proxy_get_metric", "ii", true),
    (ENV, "proxy_set_tick_period_milliseconds", "i", true),
    (ENV, "proxy_get_current_time_nanoseconds", "i", true),
    (ENV, "proxy_set_effective_context", "i", true),
    (ENV, "proxy_done", "", true),
    (ENV, "proxy_call_foreign_function", "iiiiii", true),
    (ENV, "proxy_continue_stream", "i", true),
    (ENV, "proxy_close_stream", "i", true),
    (ENV, "proxy_continue_request", "", true),
    (ENV, "proxy_continue_response", "", true),
    (ENV, "proxy_clear_route_cache", "", true),
    (ENV, "proxy_get_configuration", "ii", true),
    (WASI, "fd_write", "iiii", true),
    (WASI, "fd_read", "iiii", true),
    (WASI, "fd_close", "i", true),
    (WASI, "fd_seek", "iIii", true),
    (WASI, "fd_fdstat_get", "ii", true),
    (WASI, "fd_fdstat_set_flags", "ii", true),
    (WASI, "fd_filestat_get", "ii", true),
    (WASI, "fd_prestat_get", "ii", true),
    (WASI, "fd_prestat_dir_name", "iii", true),
    (WASI, "fd_advise", "iIIi", true),
    (WASI, "path_open", "iiiiiIIii", true),
    (WASI, "path_filestat_get", "iiiii", true),
    (WASI, "environ_get", "ii", true),
    (WASI, "environ_sizes_get", "ii", true),
    (WASI, "args_get", "ii", true),
    (WASI, "args_sizes_get", "ii", true),
    (WASI, "clock_time_get", "iIi", true),
    (WASI, "clock_res_get", "ii", true),
    (WASI, "random_get", "ii", true),
    (WASI, "poll_oneoff", "iiii", true),
    (WASI, "sched_yield", "", true),
    (WASI, "proc_exit", "i", false),
];

/// Callbacks: name, how many parameters, whether they answer.
const CALLBACKS: &[(&str, usize, bool)] = &[
    ("proxy_on_context_create", 2, false),
    ("proxy_on_vm_start", 2, true),
    ("proxy_on_tick", 1, false),
    ("proxy_on_new_connection", 1, true),
    ("proxy_on_downstream_data", 3, true),
    ("proxy_on_upstream_data", 3, true),
    ("proxy_on_downstream_connection_close", 2, false),
    ("proxy_on_upstream_connection_close", 2, false),
    ("proxy_on_request_headers", 3, true),
    ("proxy_on_request_body", 3, true),
    ("proxy_on_request_trailers", 2, true),
    ("proxy_on_response_headers", 3, true),
    ("proxy_on_response_body", 3, true),
    ("proxy_on_response_trailers", 2, true),
    ("proxy_on_http_call_response", 5, false),
    ("proxy_on_grpc_receive_initial_metadata", 3, false),
    ("proxy_on_grpc_receive", 3, false),
    ("proxy_on_grpc_receive_trailing_metadata", 3, false),
    ("proxy_on_grpc_close", 3, false),
    ("proxy_on_queue_ready", 2, false),
    ("proxy_on_foreign_function", 3, false),
    ("proxy_on_done", 1, true),
    ("proxy_on_log", 1, false),
    ("proxy_on_delete", 1, false),
];

/// The guest, as text.
#[must_use]
pub(crate) fn text() -> String {
    let mut wat = String::from("(module\n");
    for (place, (module, name, params, answers)) in IMPORTS.iter().enumerate() {
        let params: Vec<_> = params.chars().map(kind).collect();
        let result = if *answers { "(result i32)" } else { "" };
        let params = params.join(" ");
        let _ = writeln!(
            wat,
            "(import \"{module}\" \"{name}\" (func $call{place} (param {params}) {result}))"
        );
    }
    let _ = write!(
        wat,
        r#"(memory (export "memory") 3 16)
        (data (i32.const {TEXT_AT}) "{data}")
        (global $pc (mut i32) (i32.const {PROGRAM_AT}))
        (global $end (mut i32) (i32.const {PROGRAM_AT}))
        (global $heap (mut i32) (i32.const 131072))
        (global $given (mut i32) (i32.const 0))
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param $size i32) (result i32) (local $at i32)
          (if (global.get $given) (then (return (global.get $given))))
          (if (i32.gt_u (local.get $size) (i32.const 60000)) (then (return (i32.const 0))))
          (local.set $at (global.get $heap))
          (global.set $heap (i32.add (global.get $heap) (local.get $size)))
          (if (i32.gt_u (global.get $heap) (i32.const 190000)) (then
            (local.set $at (i32.const 131072))
            (global.set $heap (i32.add (i32.const 131072) (local.get $size)))))
          (local.get $at))
        (func $i (result i32)
          (if (i32.ge_u (global.get $pc) (global.get $end)) (then (return (i32.const 0))))
          (global.set $pc (i32.add (global.get $pc) (i32.const 4)))
          (i32.load (i32.sub (global.get $pc) (i32.const 4))))
        (func $I (result i64) (i64.extend_i32_s (call $i)))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          ;; the program comes to lie where malloc says, and that is where it is wanted
          (global.set $given (i32.const {PROGRAM_AT}))
          (drop (call ${buffer} (i32.const 7) (i32.const 0) (local.get 1) (i32.const 0) (i32.const 4)))
          (global.set $given (i32.const 0))
          (global.set $end (i32.add (i32.const {PROGRAM_AT}) (local.get 1)))
          (i32.const 1))
        (func $run (result i32) (local $op i32)
          (loop $next
            (if (i32.ge_u (global.get $pc) (global.get $end)) (then (return (i32.const 0))))
            (local.set $op (i32.load8_u (global.get $pc)))
            (global.set $pc (i32.add (global.get $pc) (i32.const 1)))
            (if (i32.eq (local.get $op) (i32.const {RETURN})) (then (return (call $i))))
            (if (i32.eq (local.get $op) (i32.const {MALLOC})) (then
              (global.set $given (call $i)) (br $next)))
            (call $act (local.get $op))
            (br $next))
          (i32.const 0))
        "#,
        data = TEXT.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:02x}");
            text
        }),
        buffer = call("proxy_get_buffer_bytes"),
    );
    act(&mut wat);
    for (name, params, answers) in CALLBACKS {
        let params = "i32 ".repeat(*params);
        let body = if *answers { "(call $run)" } else { "(drop (call $run))" };
        let result = if *answers { "(result i32)" } else { "" };
        let _ = writeln!(wat, "(func (export \"{name}\") (param {params}) {result} {body})");
    }
    wat.push(')');
    wat
}

/// One host call, by its number.
fn act(wat: &mut String) {
    wat.push_str("(func $act (param $op i32)\n");
    for (place, (.., params, answers)) in IMPORTS.iter().enumerate() {
        let arguments: String = params.chars().map(|it| format!("(call ${it}) ")).collect();
        let call = format!("(call $call{place} {arguments})");
        let call = if *answers { format!("(drop {call})") } else { call };
        let _ = writeln!(
            wat,
            "(if (i32.eq (local.get $op) (i32.const {place})) (then {call} (return)))"
        );
    }
    wat.push_str(")\n");
}

fn call(name: &str) -> String {
    let place = IMPORTS.iter().position(|(_, known, ..)| *known == name);
    format!("call{}", place.expect("a host call"))
}

const fn kind(letter: char) -> &'static str {
    match letter {
        'I' => "i64",
        _ => "i32",
    }
}
