//! Components of our worlds from text that a person can check: a core module, made one by `wit/`.

use crate::{Result, parts};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

/// What every module here has: memory, whose first 8 KiB are its own, and an allocator of the rest.
/// `$forget` frees all.
const ALLOCATOR: &str = r#"
  (memory (export "memory") 4)
  (global $top (mut i32) (i32.const 8192))
  (func $forget (global.set $top (i32.const 8192)))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))"#;

/// A component of this world: a module of these fields, and of an allocator.
///
/// # Errors
///
/// If `wit/` cannot be read or does not have the world, or the module is not one for it.
pub fn component(world: &str, fields: &str) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(parts::root().join("wit"))?;
    let world = resolve.select_world(&[package], Some(world))?;
    encoded(&resolve, world, ("", fields))
}

/// The same of a world of other packages, of which the last has it; a module's imports come first.
///
/// # Errors
///
/// As of [`component`], and if one of them is no package.
pub fn component_of(packages: &[&str], world: &str, module: (&str, &str)) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (mut last, _) = resolve.push_path(parts::root().join("wit"))?;
    for package in packages {
        last = resolve.push_str("package.wit", package)?;
    }
    let world = resolve.select_world(&[last], Some(world))?;
    encoded(&resolve, world, module)
}

fn encoded(resolve: &Resolve, world: WorldId, (imports, fields): (&str, &str)) -> Result<Vec<u8>> {
    let mut module = wat::parse_str(format!("(module {imports}{ALLOCATOR}\n{fields})"))?;
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8, false)?;
    ComponentEncoder::default().module(&module)?.validate(true).encode()
}
