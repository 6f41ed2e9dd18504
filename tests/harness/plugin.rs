//! A plugin of policies that does as a request's header `x-do` says, good or bad, from text that a
//! person can check.

use crate::{Result, wit};
use anyhow::Context;
use std::path::Path;

/// Its `defaults` and `wants` in a policy: without an answer the tier is `default`.
pub fn section() -> serde_json::Value {
    serde_json::json!({
        "tiers": {
            "wants": [{ "header": "x-do" }], "defaults": { "tier": "default", "cost": 1 },
        },
    })
}

/// Its component.
///
/// It gives what `x-do` holds as `tier` and 1 as `cost`. If that begins with a capital, it does
/// something else: `L`oop, take all `M`emory, `T`rap, give a `N`umber of outputs too many, or one
/// that e`X`ceeds the bound; a `C`ost that is none, or of `3` units; say that it has no answer
/// (`E`rror); or give its own version as the tier (`V`).
///
/// # Errors
///
/// If `wit/` cannot be read, or does not have the world.
pub fn component(version: &str) -> Result<Vec<u8>> {
    wit::component("policy-plugin", &fields(version))
}

/// A component that looks around in the system by WASI, and gives as `tier` what it found: "nothing"
/// if it has no environment, no arguments and no folders, or else "much".
///
/// # Errors
///
/// As of [`component`].
pub fn nosy() -> Result<Vec<u8>> {
    const CLI: &str = "package wasi:cli@0.2.0;
        interface environment {
          get-environment: func() -> list<tuple<string, string>>;
          get-arguments: func() -> list<string>;
        }";
    const FILESYSTEM: &str = "package wasi:filesystem@0.2.0;
        interface types { resource descriptor; }
        interface preopens {
          use types.{descriptor};
          get-directories: func() -> list<tuple<descriptor, string>>;
        }";
    const WORLD: &str = "package test:nosy;
        world nosy {
          import wasi:cli/environment@0.2.0;
          import wasi:filesystem/preopens@0.2.0;
          include tidegate:edge/policy-plugin@0.1.0;
        }";
    let fields = format!("{}{LOOKS}", described("1.0"));
    wit::component_of(&[CLI, FILESYSTEM, WORLD], "nosy", (IMPORTS, &fields))
}

/// A component that takes handles of WASI without end.
///
/// # Errors
///
/// As of [`component`].
pub fn greedy() -> Result<Vec<u8>> {
    on_the_clock("(loop $on (drop (call $subscribe (i64.const 1))) (br $on))")
}

/// A component that waits for a moment that never comes.
///
/// # Errors
///
/// As of [`component`].
pub fn patient() -> Result<Vec<u8>> {
    on_the_clock("(call $block (call $subscribe (i64.const -1)))")
}

/// One that does this with WASI's clock.
fn on_the_clock(does: &str) -> Result<Vec<u8>> {
    const POLL: &str =
        "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }";
    const CLOCKS: &str = "package wasi:clocks@0.2.0;
        interface monotonic-clock {
          use wasi:io/poll@0.2.0.{pollable};
          subscribe-duration: func(when: u64) -> pollable;
        }";
    const WORLD: &str = "package test:clocked;
        world clocked {
          import wasi:clocks/monotonic-clock@0.2.0;
          include tidegate:edge/policy-plugin@0.1.0;
        }";
    const IMPORTS: &str = r#"
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
    (func $subscribe (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#;
    let fields = format!("{}{}", described("1.0"), gives_nothing(does));
    wit::component_of(&[POLL, CLOCKS, WORLD], "clocked", (IMPORTS, &fields))
}

/// A component that has its host work for it by WASI, so many units as `x-do` has bytes: 64 KiB of
/// randomness each if they are `R`, or 4 KiB of print.
///
/// # Errors
///
/// As of [`component`].
pub fn toilsome() -> Result<Vec<u8>> {
    const RANDOM: &str = "package wasi:random@0.2.0;
        interface random { get-random-bytes: func(len: u64) -> list<u8>; }";
    const STREAMS: &str = "package wasi:io@0.2.0;
        interface error { resource error; }
        interface streams {
          use error.{error};
          variant stream-error { last-operation-failed(error), closed }
          resource output-stream {
            write: func(contents: list<u8>) -> result<_, stream-error>;
          }
        }";
    const CLI: &str = "package wasi:cli@0.2.0;
        interface stdout {
          use wasi:io/streams@0.2.0.{output-stream};
          get-stdout: func() -> output-stream;
        }";
    const WORLD: &str = "package test:toilsome;
        world toilsome {
          import wasi:random/random@0.2.0;
          import wasi:cli/stdout@0.2.0;
          include tidegate:edge/policy-plugin@0.1.0;
        }";
    const IMPORTS: &str = r#"
  (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.write"
    (func $print (param i32 i32 i32 i32)))"#;
    const TOILS: &str = r#"
    (if (i32.eq (i32.load8_u (i32.load offset=4 (local.get $facts))) (i32.const 82)) ;; R
      (then (call $random
        (i64.extend_i32_u (i32.mul (i32.load offset=8 (local.get $facts)) (i32.const 65536)))
        (i32.const 400)))
      (else (call $print (call $stdout) (i32.const 0)
        (i32.mul (i32.load offset=8 (local.get $facts)) (i32.const 4096)) (i32.const 400))))"#;
    let fields = format!("{}{}", described("1.0"), gives_nothing(TOILS));
    wit::component_of(&[RANDOM, STREAMS, CLI, WORLD], "toilsome", (IMPORTS, &fields))
}

/// A component with so many memories more, none of which may grow beyond 1 MiB. In the last it asks
/// for 96 MiB, and makes no fuss when there is none.
///
/// # Errors
///
/// As of [`component`].
pub fn forgetful(memories: usize) -> Result<Vec<u8>> {
    let grow = format!("(drop (memory.grow {memories} (i32.const 512)))").repeat(3);
    let memories = "(memory 0 16)".repeat(memories);
    let fields = format!("{}{memories}{}", described("1.0"), gives_nothing(&grow));
    wit::component("policy-plugin", &fields)
}

/// A component that traps for each request, and cannot say what it is any more once the system's
/// clock is past this second: it loops.
///
/// # Errors
///
/// As of [`component`].
pub fn fading(until: u64) -> Result<Vec<u8>> {
    const CLOCKS: &str = "package wasi:clocks@0.2.0;
        interface wall-clock {
          record datetime { seconds: u64, nanoseconds: u32 }
          now: func() -> datetime;
        }";
    const WORLD: &str = "package test:fading;
        world fading {
          import wasi:clocks/wall-clock@0.2.0;
          include tidegate:edge/policy-plugin@0.1.0;
        }";
    let import = r#"(import "wasi:clocks/wall-clock@0.2.0" "now" (func $now (param i32)))"#;
    let says = format!(
        "(call $now (i32.const 400))
        (if (i64.ge_u (i64.load (i32.const 400)) (i64.const {until})) (then (loop $on (br $on))))"
    );
    let fields = format!("{}{}", described_when("1.0", &says), gives_nothing("(unreachable)"));
    wit::component_of(&[CLOCKS, WORLD], "fading", (import, &fields))
}

const IMPORTS: &str = r#"
  (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
  (import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
  (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $folders (param i32)))"#;

const LOOKS: &str = r#"
  (data (i32.const 336) "nothingmuch")
  (func (export "tidegate:edge/policy@0.1.0#resolve") (param $facts i32) (param $count i32) (result i32)
    (call $environment (i32.const 400)) (call $arguments (i32.const 408))
    (call $folders (i32.const 416))
    ;; ok, of two outputs at 272: a cost of "1", and what there is
    (i32.store8 (i32.const 256) (i32.const 0))
    (i32.store (i32.const 260) (i32.const 272)) (i32.store (i32.const 264) (i32.const 2))
    (i32.store8 (i32.const 272) (i32.const 1))
    (i32.store (i32.const 276) (i32.const 320)) (i32.store (i32.const 280) (i32.const 1))
    (i32.store8 (i32.const 284) (i32.const 1))
    (i32.store (i32.const 288) (i32.const 336)) (i32.store (i32.const 292) (i32.const 7))
    (if (i32.or (i32.load (i32.const 404))
                (i32.or (i32.load (i32.const 412)) (i32.load (i32.const 420))))
      (then (i32.store (i32.const 288) (i32.const 343)) (i32.store (i32.const 292) (i32.const 4))))
    (i32.const 256))"#;

/// Writes its component where a host or a proxy looks for it, all at once.
///
/// # Errors
///
/// If it cannot be made or written.
pub fn write(path: &Path, version: &str) -> Result<()> {
    write_bytes(path, &component(version)?)
}

/// The same of anything.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path).with_context(|| format!("cannot write {}", path.display()))
}

/// A `resolve` that does this, and has nothing to give.
fn gives_nothing(does: &str) -> String {
    format!(
        r#"
  (func (export "tidegate:edge/policy@0.1.0#resolve") (param $facts i32) (param $count i32) (result i32)
    {does}
    ;; ok, of two outputs at 272: nothing, which is what there is
    (i32.store8 (i32.const 256) (i32.const 0))
    (i32.store (i32.const 260) (i32.const 272)) (i32.store (i32.const 264) (i32.const 2))
    (i32.const 256))"#
    )
}

/// What every plugin here says of itself, and texts that it gives.
fn described(version: &str) -> String {
    described_when(version, "")
}

/// The same once it has done this.
fn described_when(version: &str, done: &str) -> String {
    let bytes = |words: &[u32]| -> String {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes.map(|byte| format!("\\{byte:02x}")).collect()
    };
    let wants = bytes(&[0, 64, 4]);
    let gives = bytes(&[80, 4, 84, 4]);
    let description = bytes(&[16, 5, 32, version.len() as u32, 128, 1, 160, 2]);
    format!(
        r#"
  (data (i32.const 16) "tiers") (data (i32.const 32) "{version}") (data (i32.const 64) "x-do")
  (data (i32.const 80) "costtier") (data (i32.const 128) "{wants}") (data (i32.const 160) "{gives}")
  (data (i32.const 192) "{description}") (data (i32.const 320) "1many3sorry")
  (func (export "tidegate:edge/policy@0.1.0#describe") (result i32) {done} (i32.const 192))
  (func (export "cabi_post_tidegate:edge/policy@0.1.0#resolve") (param i32)
    (call $forget))"#
    )
}

fn fields(version: &str) -> String {
    let (described, version_len) = (described(version), version.len());
    format!(
        r#"{described}
  (func $is (param $do i32) (param $what i32) (result i32)
    (i32.eq (local.get $do) (local.get $what)))
  (func (export "tidegate:edge/policy@0.1.0#resolve") (param $facts i32) (param $count i32) (result i32)
    (local $do i32)
    ;; ok, of two outputs at 272: a cost of "1", and the fact as tier
    (i32.store8 (i32.const 256) (i32.const 0))
    (i32.store (i32.const 260) (i32.const 272)) (i32.store (i32.const 264) (i32.const 2))
    (i32.store8 (i32.const 272) (i32.const 1))
    (i32.store (i32.const 276) (i32.const 320)) (i32.store (i32.const 280) (i32.const 1))
    (i32.store8 (i32.const 284) (i32.load8_u (local.get $facts)))
    (i32.store (i32.const 288) (i32.load offset=4 (local.get $facts)))
    (i32.store (i32.const 292) (i32.load offset=8 (local.get $facts)))
    (if (i32.load8_u (local.get $facts))
      (then (local.set $do (i32.load8_u (i32.load offset=4 (local.get $facts))))))
    (if (call $is (local.get $do) (i32.const 76)) (then (loop $on (br $on)))) ;; L
    (if (call $is (local.get $do) (i32.const 77)) ;; M
      (then (loop $on (br_if $on (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))))
    (if (call $is (local.get $do) (i32.const 84)) (then (unreachable))) ;; T
    (if (call $is (local.get $do) (i32.const 78)) ;; N
      (then (i32.store (i32.const 264) (i32.const 3))))
    (if (call $is (local.get $do) (i32.const 88)) ;; X
      (then (i32.store (i32.const 288) (i32.const 1024)) (i32.store (i32.const 292) (i32.const 300))))
    (if (call $is (local.get $do) (i32.const 67)) ;; C
      (then (i32.store (i32.const 276) (i32.const 321)) (i32.store (i32.const 280) (i32.const 4))))
    (if (call $is (local.get $do) (i32.const 51)) ;; 3
      (then (i32.store (i32.const 276) (i32.const 325))))
    (if (call $is (local.get $do) (i32.const 86)) ;; V
      (then (i32.store (i32.const 288) (i32.const 32)) (i32.store (i32.const 292) (i32.const {version_len}))))
    (if (call $is (local.get $do) (i32.const 69)) ;; E
      (then (i32.store8 (i32.const 256) (i32.const 1))
        (i32.store (i32.const 260) (i32.const 326)) (i32.store (i32.const 264) (i32.const 5))))
    (i32.const 256))"#
    )
}
