use super::*;
use crate::scene::{Guest, Stage, engine};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn load(text: &str) -> Result<Module, String> {
    engine().load(&wat::parse_str(text).unwrap()).map_err(|LoadError(line)| line)
}

fn fault(text: &str) -> String {
    load(text).err().unwrap()
}

const MEMORY: &str = r#"(memory (export "memory") 1)"#;
const MALLOC: &str = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
const MARKER: &str = r#"(func (export "proxy_abi_version_0_2_1"))"#;

#[test]
fn what_is_no_module_says_what_it_is() {
    let fault = |code: &[u8]| engine().load(code).err().unwrap().0;
    assert_eq!(fault(b""), "not a WebAssembly module: it is empty");
    let line = "not a WebAssembly module: it begins with \"\\x7fELF\\x02\"; wanted \"\\0asm\"";
    assert_eq!(fault(b"\x7fELF\x02"), line);
    let line = "not a WebAssembly module: it is a component; wanted a core module";
    assert_eq!(fault(b"\0asm\x0d\0\x01\0"), line);
    let line = "does not compile: failed to parse WebAssembly module: ";
    let found = fault(b"\0asm\x01\0\0\0\x01");
    assert!(found.starts_with(line) && found.lines().count() == 1, "{found}");
}

#[test]
fn a_module_says_what_it_misses() {
    let line = "exports no known ABI marker: found none; wanted proxy_abi_version_0_1_0, \
                proxy_abi_version_0_2_0 or proxy_abi_version_0_2_1";
    assert_eq!(fault(&format!("(module {MEMORY} {MALLOC})")), line);
    let other = r#"(func (export "proxy_abi_version_0_3_0"))"#;
    assert!(
        fault(&format!("(module {MEMORY} {MALLOC} {other})"))
            .contains("found proxy_abi_version_0_3_0;")
    );
    let line = "exports no memory; wanted one that is called \"memory\"";
    assert_eq!(fault(&format!("(module {MALLOC} {MARKER})")), line);
    let line = "exports no allocator; wanted malloc or proxy_on_memory_allocate";
    assert_eq!(fault(&format!("(module {MEMORY} {MARKER})")), line);
}

#[test]
fn a_signature_says_what_was_found_and_wanted() {
    let module = |export: &str| format!("(module {MEMORY} {MALLOC} {MARKER} {export})");
    let tick = r#"(func (export "proxy_on_tick") (param i32 i64) (result i32) (i32.const 0))"#;
    let line = "export proxy_on_tick: found (i32, i64) -> i32; wanted (i32)";
    assert_eq!(fault(&module(tick)), line);
    let headers = r#"(func (export "proxy_on_request_headers") (param i32))"#;
    let line = "export proxy_on_request_headers: found (i32); wanted (i32, i32) -> i32 or \
                (i32, i32, i32) -> i32";
    assert_eq!(fault(&module(headers)), line);
    let done = r#"(global (export "proxy_on_done") i32 (i32.const 0))"#;
    let line = "export proxy_on_done: found a global; wanted (i32) -> i32";
    assert_eq!(fault(&module(done)), line);
}

#[test]
fn an_import_says_what_was_found_and_wanted() {
    let module = |import: &str| format!("(module {import} {MEMORY} {MALLOC} {MARKER})");
    let log = r#"(import "env" "proxy_log" (func (param i32 i64)))"#;
    let line = "import env.proxy_log: found (i32, i64); wanted (i32, i32, i32) -> i32";
    assert_eq!(fault(&module(log)), line);
    let global = r#"(import "env" "__stack_pointer" (global i32))"#;
    let line = "imports a global, env.__stack_pointer; wanted functions only";
    assert_eq!(fault(&module(global)), line);
}

#[test]
fn an_import_that_nobody_knows_traps_when_it_is_called() {
    let text = format!(
        r#"(module (import "env" "abort" (func $abort)) {MEMORY} {MALLOC} {MARKER}
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (call $abort) (i32.const 1)))"#
    );
    let module = load(&text).unwrap();
    let stage = Stage::new();
    let config = crate::plugin::PluginConfig { name: "it".into(), ..Default::default() };
    let fault = stage.worker.start(&module, &config).err().unwrap();
    let line = "filter \"it\": proxy_on_configure trapped: called env.abort, which no host call \
                is known by (in function 3)";
    assert_eq!(fault.0, line);
}

#[test]
fn memories_and_tables_may_be_imported() {
    let text = format!(
        r#"(module (import "env" "memory" (memory $m 1)) (import "env" "t" (table 1 funcref))
        (export "memory" (memory $m)) {MALLOC} {MARKER})"#
    );
    let module = load(&text).unwrap();
    assert!(Stage::new().worker.start(&module, &Default::default()).is_ok());
}

#[test]
fn the_first_marker_counts() {
    let text = Guest::new().text().replace(
        r#"(func (export "proxy_abi_version_0_2_1"))"#,
        r#"(func (export "proxy_abi_version_0_2_1")) (func (export "proxy_abi_version_0_1_0"))"#,
    );
    assert_eq!(load(&text).unwrap().version(), Version::V0_1_0);
}

/// The names of the files in a cache.
fn kept(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_compiled_once_is_kept_and_used() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("compiled");
    let code = wat::parse_str(Guest::new().text()).unwrap();
    Engine::new(Some(folder.clone())).unwrap().load(&code).unwrap();
    let names = kept(&folder);
    assert_eq!(names.len(), 1, "{names:?}");
    let file = folder.join(&names[0]);
    let compiled_at = std::fs::metadata(&file).unwrap().modified().unwrap();

    let engine = Engine::new(Some(folder.clone())).unwrap();
    let module = engine.load(&code).unwrap();
    let stage = Stage::new();
    let worker = crate::worker::Worker::new(
        &crate::worker::Process::new(),
        stage.world.clone(),
        Arc::new(|| {}),
    );
    assert!(worker.start(&module, &Default::default()).is_ok());
    assert_eq!(kept(&folder), names);
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), compiled_at);
}

/// What a file's change makes of it the next time: compiled anew, and whole again.
fn is_replaced(change: impl FnOnce(&Path)) {
    let home = tempfile::tempdir().unwrap();
    let code = wat::parse_str(Guest::new().text()).unwrap();
    let folder = home.path().to_owned();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    Engine::new(Some(folder.clone())).unwrap().load(&code).unwrap();
    let file = folder.join(&kept(&folder)[0]);
    let whole = std::fs::read(&file).unwrap();
    change(&file);
    Engine::new(Some(folder.clone())).unwrap().load(&code).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(kept(&folder).len(), 1);
}

#[test]
fn a_file_that_is_not_what_it_was_is_not_used() {
    is_replaced(|file| {
        let mut bytes = std::fs::read(file).unwrap();
        let last = bytes.last_mut().unwrap();
        *last ^= 1;
        std::fs::write(file, bytes).unwrap();
    });
    is_replaced(|file| std::fs::write(file, b"").unwrap());
}

#[test]
fn a_file_that_others_may_write_to_is_not_used() {
    is_replaced(|file| {
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o620)).unwrap();
    });
}

#[test]
fn a_folder_that_others_may_write_to_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let code = wat::parse_str(Guest::new().text()).unwrap();
    Engine::new(Some(home.path().to_owned())).unwrap().load(&code).unwrap();
    assert_eq!(kept(home.path()), Vec::<String>::new());
}

#[test]
fn a_folder_that_cannot_be_made_is_done_without() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let code = wat::parse_str(Guest::new().text()).unwrap();
    let engine = Engine::new(Some(file.path().join("below"))).unwrap();
    assert!(engine.load(&code).is_ok());
}
