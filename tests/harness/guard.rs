//! A component of the world `edge-guard` that does as a request's header `x-do` says, good or bad, from
//! text that a person can check.

use crate::{Result, wit};

/// It lets requests through, unless `x-do` begins with a capital: `L`oop, take all `M`emory that
/// there is, `T`rap, `H`old the request for ever, or answer `N`onsense; `P`rint a thousand lines; put
/// more `Q`uestions than it may, and trap if all are taken; `S`poil what all instances share, so that
/// none can take a policy any more, but loops, and trap.
///
/// # Errors
///
/// If it cannot be made.
pub fn component() -> Result<Vec<u8>> {
    made(FIELDS)
}

/// One that loops when it gets a policy.
///
/// # Errors
///
/// If it cannot be made.
pub fn stubborn() -> Result<Vec<u8>> {
    made(&FIELDS.replace("(call $shared", "(loop $on (br $on)) (call $shared"))
}

/// One that has a memory more, of so many pages.
///
/// # Errors
///
/// If it cannot be made.
pub fn roomy(pages: u32) -> Result<Vec<u8>> {
    made(&format!("(memory {pages}) {FIELDS}"))
}

fn made(fields: &str) -> Result<Vec<u8>> {
    wit::component_of(&[], "edge-guard", (IMPORTS, fields))
}

const IMPORTS: &str = r#"
  (import "tidegate:edge/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (import "tidegate:edge/shared@0.1.0" "get" (func $shared (param i32 i32 i32)))
  (import "tidegate:edge/shared@0.1.0" "put"
    (func $share (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "tidegate:edge/store@0.1.0" "send"
    (func $send (param i64 i32 i32 i32 i32 i32 i32 i32 i64) (result i32)))"#;

/// Zeros, which there are 256 of at 512, are "go on" as a step, none as a list, and nothing as
/// tallies.
const FIELDS: &str = r#"
  (data (i32.const 64) "x-dotidegate_host")
  (data (i32.const 128) "\00\00\00\00\40\00\00\00\04\00\00\00") ;; the want: this header
  (data (i32.const 168) "\80\00\00\00\01\00\00\00\00\2d\31\01") ;; terms: 1 want, a tick of 20 ms
  (global $ticket (mut i64) (i64.const 0))
  (func (export "tidegate:edge/guard@0.1.0#configure")
    (param i32 i32 i64 i64 i64 i32 i32) (result i32)
    (call $shared (i32.const 64) (i32.const 4) (i32.const 3072))
    (if (i32.load8_u (i32.const 3072)) (then (loop $on (br $on))))
    (call $forget) (i32.const 160))
  (func (export "tidegate:edge/guard@0.1.0#set-instances") (param i32))
  (func (export "tidegate:edge/guard@0.1.0#on-request") (param $facts i32) (param i32) (result i32)
    (local $do i32) (local $count i32)
    (if (i32.load8_u (local.get $facts))
      (then (local.set $do (i32.load8_u (i32.load offset=4 (local.get $facts))))))
    (call $forget)
    (if (i32.eq (local.get $do) (i32.const 76)) (then (loop $on (br $on)))) ;; L
    (if (i32.eq (local.get $do) (i32.const 77)) ;; M
      (then (loop $on (br_if $on (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))))
    (if (i32.eq (local.get $do) (i32.const 84)) (then (unreachable))) ;; T
    (if (i32.eq (local.get $do) (i32.const 72)) ;; H
      (then
        (global.set $ticket (i64.add (global.get $ticket) (i64.const 1)))
        (i32.store8 (i32.const 1024) (i32.const 1))
        (i64.store (i32.const 1032) (global.get $ticket))
        (return (i32.const 1024))))
    (if (i32.eq (local.get $do) (i32.const 80)) ;; P
      (then
        (loop $on
          (call $log (i32.const 2) (i32.const 64) (i32.const 4))
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (br_if $on (i32.lt_u (local.get $count) (i32.const 1000))))))
    (if (i32.eq (local.get $do) (i32.const 81)) ;; Q
      (then
        (loop $on
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (if (i32.gt_u (local.get $count) (i32.const 10000)) (then (unreachable)))
          (br_if $on (call $send (i64.extend_i32_u (local.get $count))
            (i32.const 68) (i32.const 13) (i32.const 68) (i32.const 13)
            (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 1000000000))))))
    (if (i32.eq (local.get $do) (i32.const 83)) ;; S
      (then
        (drop (call $share (i32.const 64) (i32.const 4) (i32.const 64) (i32.const 4)
          (i32.const 0) (i32.const 0)))
        (unreachable)))
    (if (i32.eq (local.get $do) (i32.const 78)) ;; N
      (then (i32.store8 (i32.const 2048) (i32.const 9)) (return (i32.const 2048))))
    (i32.const 512))
  (func (export "tidegate:edge/guard@0.1.0#on-reply") (param i64 i32 i32 i64) (result i32)
    (i32.const 512))
  (func (export "tidegate:edge/guard@0.1.0#on-gone") (param i64))
  (func (export "tidegate:edge/guard@0.1.0#on-tick") (result i32) (i32.const 512))
  (func (export "tidegate:edge/guard@0.1.0#take-tallies") (result i32) (i32.const 512))"#;
