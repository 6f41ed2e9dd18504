//! Modules that are odd before any request: which start, which are refused.

use crate::client;
use crate::home::{Home, Kind};
use crate::origin::Origin;
use crate::script::{Filter, Setup};
use anyhow::ensure;
use harness::{Result, stage};

/// What became of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The proxy does not start with it.
    Refuse,
    /// It does, and answers a request with this status.
    Answer(u16),
}

use Verdict::{Answer, Refuse};

/// A module, what Envoy makes of it, and what our own host makes of it, with the reason, if
/// that is something else.
struct Start {
    what: &'static str,
    wat: &'static str,
    envoy: Verdict,
    ours: Option<(Verdict, &'static str)>,
}

/// The rest of a module that lacks nothing; `{}` in a module's text stands for it.
const REST: &str = r#"
    (memory (export "memory") 1)
    (func (export "malloc") (param i32) (result i32) i32.const 1024)
    (func (export "proxy_abi_version_0_2_1"))
"#;

const fn start(what: &'static str, wat: &'static str, envoy: Verdict) -> Start {
    Start { what, wat, envoy, ours: None }
}

impl Start {
    const fn ours(self, verdict: Verdict, reason: &'static str) -> Self {
        Self { ours: Some((verdict, reason)), ..self }
    }
}

/// Why a module may import what nobody has.
const TOLERANT: &str = "a call that never comes does no harm; one that comes is a trap by name";

/// Why callbacks may have the form of another version of the ABI.
const UNMISTAKABLE: &str = "there are such modules, and each form says itself what it is";

const STARTS: &[Start] = &[
    start("nothing but the ABI's version", "(module {})", Answer(200)),
    start(
        "a callback",
        r#"(module {} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0))"#,
        Answer(200),
    ),
    start(
        "a trap in a callback",
        r#"(module {} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable))"#,
        Answer(503),
    ),
    start("no module", "", Refuse),
    start(
        "no ABI version",
        r#"(module (memory (export "memory") 1) (func (export "malloc") (param i32) (result i32) i32.const 1024))"#,
        Refuse,
    ),
    start(
        "an unknown ABI version",
        r#"(module (memory (export "memory") 1)
            (func (export "malloc") (param i32) (result i32) i32.const 1024)
            (func (export "proxy_abi_version_9_9_9")))"#,
        Refuse,
    ),
    start(
        "two ABI versions",
        r#"(module {} (func (export "proxy_abi_version_0_1_0"))
            (func (export "proxy_on_request_headers") (param i32 i32) (result i32) i32.const 0))"#,
        Refuse,
    )
    .ours(Answer(200), UNMISTAKABLE),
    start(
        "no memory",
        r#"(module (func (export "malloc") (param i32) (result i32) i32.const 1024)
            (func (export "proxy_abi_version_0_2_1")))"#,
        Answer(200),
    )
    .ours(Refuse, "nothing can be handed to a module without memory"),
    start(
        "no allocator",
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1")))"#,
        Refuse,
    ),
    start(
        "the ABI's own allocator",
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024))"#,
        Answer(200),
    ),
    start(
        "an allocator of the wrong type",
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i64) (result i32) i32.const 1024))"#,
        Refuse,
    ),
    start(
        "a callback of the wrong type",
        r#"(module {} (func (export "proxy_on_request_headers") (param i64 i32 i32) (result i32) i32.const 0))"#,
        Refuse,
    ),
    start(
        "headers without end of stream, which ABI 0.2.1 has",
        r#"(module {} (func (export "proxy_on_request_headers") (param i32 i32) (result i32) i32.const 0))"#,
        Refuse,
    )
    .ours(Answer(200), UNMISTAKABLE),
    start(
        "headers with end of stream, which ABI 0.1.0 lacks",
        r#"(module (memory (export "memory") 1)
            (func (export "malloc") (param i32) (result i32) i32.const 1024)
            (func (export "proxy_abi_version_0_1_0"))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0))"#,
        Refuse,
    )
    .ours(Answer(200), UNMISTAKABLE),
    start(
        "a host call that is none",
        r#"(module (import "env" "proxy_no_such_call" (func)) {})"#,
        Refuse,
    )
    .ours(Answer(200), TOLERANT),
    start(
        "a host call that is none, called",
        r#"(module (import "env" "proxy_no_such_call" (func $none)) {}
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                call $none i32.const 0))"#,
        Refuse,
    )
    .ours(Answer(503), TOLERANT),
    start(
        "a call of WASI that is none",
        r#"(module (import "wasi_snapshot_preview1" "no_such_call" (func)) {})"#,
        Refuse,
    )
    .ours(Answer(200), TOLERANT),
    start("an import of JavaScript", r#"(module (import "__wbindgen_placeholder__" "now" (func)) {})"#, Refuse)
        .ours(Answer(200), TOLERANT),
    start(
        "a host call of another type",
        r#"(module (import "env" "proxy_log" (func (param i32) (result i32))) {})"#,
        Refuse,
    ),
    start(
        "a host call of an older ABI",
        r#"(module (import "env" "proxy_continue_request" (func (result i32))) {})"#,
        Refuse,
    )
    .ours(Answer(200), "the calls of all versions are there for all"),
    start(
        "WASI by its older name",
        r#"(module (import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32))) {})"#,
        Answer(200),
    ),
    start(
        "what Emscripten imports",
        r#"(module (import "env" "emscripten_notify_memory_growth" (func (param i32))) {})"#,
        Answer(200),
    ),
    start("a memory of the host's", r#"(module (import "env" "memory" (memory 1)) {})"#, Answer(200)),
    start(
        "a global of the host's",
        r#"(module (import "env" "base" (global i32)) {})"#,
        Refuse,
    ),
    start(
        "a trap in the start function",
        r#"(module {} (func $f unreachable) (start $f))"#,
        Refuse,
    ),
    start("a trap in _start", r#"(module {} (func (export "_start") unreachable))"#, Refuse),
    start("a trap in _initialize", r#"(module {} (func (export "_initialize") unreachable))"#, Refuse),
    start(
        "_initialize, so _start is not called",
        r#"(module {} (func (export "_initialize")) (func (export "_start") unreachable))"#,
        Answer(200),
    ),
    start(
        "main behind _initialize",
        r#"(module {} (func (export "_initialize"))
            (func (export "main") (param i32 i32) (result i32) unreachable))"#,
        Refuse,
    ),
    start(
        "main alone",
        r#"(module {} (func (export "main") (param i32 i32) (result i32) unreachable))"#,
        Answer(200),
    ),
    start(
        "a log line in _initialize",
        r#"(module (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32))) {}
            (func (export "_initialize") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 0)))))"#,
        Answer(200),
    ),
    start(
        "another host call in _initialize",
        r#"(module (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32))) {}
            (func (export "_initialize") (drop (call $tick (i32.const 0)))))"#,
        Refuse,
    ),
    start(
        "a trap in on_context_create",
        r#"(module {} (func (export "proxy_on_context_create") (param i32 i32) unreachable))"#,
        Answer(503),
    )
    .ours(Refuse, "its root context is made at the start: what fails then is refused then"),
    start(
        "a trap in on_vm_start",
        r#"(module {} (func (export "proxy_on_vm_start") (param i32 i32) (result i32) unreachable))"#,
        Refuse,
    ),
    start(
        "a trap in on_configure",
        r#"(module {} (func (export "proxy_on_configure") (param i32 i32) (result i32) unreachable))"#,
        Refuse,
    ),
    start(
        "no in on_vm_start",
        r#"(module {} (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 0))"#,
        Refuse,
    ),
    start(
        "no in on_configure",
        r#"(module {} (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 0))"#,
        Refuse,
    ),
    start(
        "no in validate_configuration",
        r#"(module {} (func (export "proxy_validate_configuration") (param i32 i32) (result i32) i32.const 0))"#,
        Answer(200),
    ),
    start(
        "all the memory there could be",
        r#"(module (memory (export "memory") 65536)
            (func (export "malloc") (param i32) (result i32) i32.const 1024)
            (func (export "proxy_abi_version_0_2_1")))"#,
        Refuse,
    ),
];

#[test]
fn in_envoy() -> Result<()> {
    stage(all_as(Kind::Envoy, |start| start.envoy))
}

#[test]
fn in_our_host() -> Result<()> {
    stage(all_as(Kind::Bundled, |start| start.ours.map_or(start.envoy, |(verdict, _)| verdict)))
}

#[test]
fn what_is_kept_differs_for_a_reason() {
    for start in STARTS {
        if let Some((verdict, reason)) = start.ours {
            assert!(verdict != start.envoy && !reason.is_empty(), "{}", start.what);
        }
    }
}

async fn all_as(kind: Kind, wanted: fn(&Start) -> Verdict) -> Result<()> {
    let mut wrong = Vec::new();
    for start in STARTS {
        let verdict = verdict(kind, start.wat).await?;
        if verdict != wanted(start) {
            wrong.push(format!("{}: {verdict:?} in {kind:?}", start.what));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn verdict(kind: Kind, wat: &str) -> Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let module = folder.path().join("module.wasm");
    let bytes = match wat {
        "" => b"no module".to_vec(),
        wat => wat::parse_str(wat.replace("{}", REST))?,
    };
    std::fs::write(&module, bytes)?;
    let module = module.to_string_lossy();
    let setup =
        Setup { filters: vec![Filter::new("odd", &module, Vec::new())], ..Setup::default() };
    let origin = Origin::start(false).await?;
    match Home::start(kind, &setup, origin.address()).await {
        Ok(home) => Ok(Answer(client::status(&home).await?)),
        Err(_) => Ok(Refuse),
    }
}
