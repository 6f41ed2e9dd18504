//! What the tests of machines share: guests from a few host calls, and a world that stands
//! still.

use crate::engine::{Engine, LoadError, Module};
use crate::exchange::Exchange;
use crate::maps::HeaderMap;
use crate::outside::{CallToken, GrpcOpen, HttpCall, Level, Outside, UnknownCluster};
use crate::plugin::PluginConfig;
use crate::vm::{Buffers, ContextId, Effect, Failed, Owner, StreamContext, StreamKind, Vm};
use crate::worker::{Entrance, Filter, Process, StartError, Worker};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::{Rc, Weak};
use std::sync::{Arc, OnceLock};

/// A callback's name, its parameters, and what it returns if it returns something.
const CALLBACKS: [(&str, usize, Option<u32>); 20] = [
    ("_initialize", 0, None),
    ("proxy_on_vm_start", 2, Some(1)),
    ("proxy_on_configure", 2, Some(1)),
    ("proxy_on_context_create", 2, None),
    ("proxy_on_tick", 1, None),
    ("proxy_on_request_headers", 3, Some(0)),
    ("proxy_on_request_body", 3, Some(0)),
    ("proxy_on_response_headers", 3, Some(0)),
    ("proxy_on_response_body", 3, Some(0)),
    ("proxy_on_downstream_data", 3, Some(0)),
    ("proxy_on_http_call_response", 5, None),
    ("proxy_on_grpc_receive", 3, None),
    ("proxy_on_grpc_receive_initial_metadata", 3, None),
    ("proxy_on_grpc_receive_trailing_metadata", 3, None),
    ("proxy_on_grpc_close", 3, None),
    ("proxy_on_queue_ready", 2, None),
    ("proxy_on_done", 1, Some(1)),
    ("proxy_on_log", 1, None),
    ("proxy_on_delete", 1, None),
    ("proxy_on_new_connection", 1, Some(0)),
];

/// A module whose callbacks make host calls and log the status of each; see [`World::said`].
/// What it says of the ABI is that it is 0.2.1.
#[derive(Clone)]
pub(crate) struct Guest {
    imports: Vec<(String, String, usize)>,
    callbacks: String,
    rest: String,
    version: &'static str,
}

/// Where a guest has text for its calls: "x-key" is 5 bytes from 64 on, and so on.
pub(crate) const TEXT: &str = "x-keyx-nonenewvalueknown";
pub(crate) const X_KEY: [i64; 2] = [64, 5];
pub(crate) const X_NONE: [i64; 2] = [69, 6];
pub(crate) const NEW: [i64; 2] = [75, 3];
pub(crate) const VALUE: [i64; 2] = [78, 5];
pub(crate) const KNOWN: [i64; 2] = [83, 5];

/// Where calls may write what they hand out.
pub(crate) const OUT: [i64; 2] = [16, 20];

/// Beyond the memory of a guest.
pub(crate) const FAR: i64 = 0x7fff_0000;

impl Guest {
    pub(crate) fn new() -> Self {
        Self {
            imports: Vec::new(),
            callbacks: String::new(),
            rest: String::new(),
            version: "0_2_1",
        }
    }

    pub(crate) fn version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// A callback that makes these calls: module and name, and the arguments, all `i32`.
    pub(crate) fn on(self, callback: &str, calls: &[(&str, &[i64])]) -> Self {
        let (_, _, result) = CALLBACKS.iter().find(|(name, ..)| *name == callback).unwrap();
        self.on_and(
            callback,
            calls,
            &result.map_or(String::new(), |it| format!("(i32.const {it})")),
        )
    }

    /// As [`Guest::on`]; then it does what `last` says, the callback's result included.
    pub(crate) fn on_and(mut self, callback: &str, calls: &[(&str, &[i64])], last: &str) -> Self {
        let (_, params, result) = CALLBACKS.iter().find(|(name, ..)| *name == callback).unwrap();
        let params = "i32 ".repeat(*params);
        let result = result.map_or("", |_| "(result i32)");
        let mut body = String::new();
        for (name, arguments) in calls {
            let function = self.import(name, arguments.len());
            let constant = |it: &i64| format!("(i32.const {it})");
            let arguments: String = arguments.iter().map(constant).collect();
            writeln!(body, "(call $say (call {function} {arguments}))").unwrap();
        }
        writeln!(
            self.callbacks,
            r#"(func (export "{callback}") (param {params}) {result} {body} {last})"#
        )
        .unwrap();
        self
    }

    /// Anything else that the module has.
    pub(crate) fn with(mut self, text: &str) -> Self {
        self.rest.push_str(text);
        self
    }

    fn import(&mut self, name: &str, params: usize) -> String {
        let module = if name.starts_with("proxy_") { "env" } else { "wasi_snapshot_preview1" };
        let known = (module.to_owned(), name.to_owned(), params);
        if !self.imports.contains(&known) {
            self.imports.push(known);
        }
        format!("${name}")
    }

    pub(crate) fn text(&self) -> String {
        let Self { imports, callbacks, rest, version } = self;
        let import = |(module, name, params): &(String, String, usize)| {
            let params = "i32 ".repeat(*params);
            format!("(import \"{module}\" \"{name}\" (func ${name} (param {params}) (result i32)))")
        };
        let imports: String = imports.iter().map(import).collect();
        format!(
            r#"(module {imports}
            (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) "{TEXT}")
            (global $free (mut i32) (i32.const 1024))
            (func (export "proxy_abi_version_{version}"))
            (func $malloc (export "malloc") (param $bytes i32) (result i32)
              (local $at i32)
              (local.set $at (global.get $free))
              (global.set $free (i32.add (global.get $free) (local.get $bytes)))
              (local.get $at))
            (func $say (param $status i32)
              (i32.store8 (i32.const 8) (i32.add (i32.const 65) (local.get $status)))
              (drop (call $log (i32.const 2) (i32.const 8) (i32.const 1))))
            {callbacks} {rest})"#
        )
    }

    pub(crate) fn load(&self) -> Result<Module, LoadError> {
        engine().load(&wat::parse_str(self.text()).unwrap())
    }
}

pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(None).unwrap())
}

/// What filters see, and what they said and wanted.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) now_ns: Cell<u64>,
    lines: RefCell<Vec<String>>,
    pub(crate) http: RefCell<Vec<(CallToken, HttpCall)>>,
    pub(crate) grpc: RefCell<Vec<(CallToken, String)>>,
}

impl World {
    /// All lines since the last time. A status is a letter: `A` is 0, `B` is 1, and so on.
    pub(crate) fn said(&self) -> String {
        self.lines.take().join(" ")
    }

    pub(crate) fn pass_ms(&self, ms: u64) {
        self.now_ns.set(self.now_ns.get() + ms * 1_000_000);
    }

    fn note(&self, token: CallToken, what: impl Into<String>) {
        self.grpc.borrow_mut().push((token, what.into()));
    }
}

impl Outside for World {
    fn wall_ns(&self) -> u64 {
        1_000_000_000_000 + self.now_ns.get()
    }

    fn monotonic_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn fill_random(&self, to: &mut [u8]) {
        to.fill(7);
    }

    fn log_level(&self) -> Level {
        Level::Info
    }

    fn log(&self, _: &str, _: Level, message: &str) {
        self.lines.borrow_mut().push(message.into());
    }

    fn http_call(&self, token: CallToken, call: HttpCall) -> Result<(), UnknownCluster> {
        if call.cluster != "known" {
            return Err(UnknownCluster);
        }
        self.http.borrow_mut().push((token, call));
        Ok(())
    }

    fn grpc_open(&self, token: CallToken, call: GrpcOpen) -> Result<(), UnknownCluster> {
        if call.cluster != "known" {
            return Err(UnknownCluster);
        }
        self.note(token, "open");
        Ok(())
    }

    fn grpc_send(&self, token: CallToken, _: Bytes, is_last: bool) {
        self.note(token, if is_last { "send last" } else { "send" });
    }

    fn grpc_close(&self, token: CallToken) {
        self.note(token, "close");
    }

    fn grpc_cancel(&self, token: CallToken) {
        self.note(token, "cancel");
    }
}

/// A worker, its world, and what wakes it.
pub(crate) struct Stage {
    pub(crate) world: Rc<World>,
    pub(crate) worker: Rc<Worker>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::of(&Process::new())
    }

    pub(crate) fn of(process: &Arc<Process>) -> Self {
        let world = Rc::new(World::default());
        let worker = Worker::new(process, world.clone(), Arc::new(|| {}));
        Self { world, worker }
    }

    pub(crate) fn start(&self, guest: &Guest) -> Result<Filter, StartError> {
        self.start_with(guest, &PluginConfig { name: "it".into(), ..PluginConfig::default() })
    }

    pub(crate) fn start_with(
        &self,
        guest: &Guest,
        config: &PluginConfig,
    ) -> Result<Filter, StartError> {
        self.worker.start(&guest.load().unwrap(), config)
    }
}

/// A chain that only notes what it is told.
#[derive(Default)]
pub(crate) struct Noted {
    pub(crate) effects: RefCell<Vec<Effect>>,
    pub(crate) pumps: Cell<usize>,
}

impl Owner for Noted {
    fn on_effect(&self, _: usize, effect: Effect) {
        self.effects.borrow_mut().push(effect);
    }

    fn pump(&self) {
        self.pumps.set(self.pumps.get() + 1);
    }
}

/// A stream in a machine.
pub(crate) struct Open {
    pub(crate) vm: Rc<Vm>,
    pub(crate) root: ContextId,
    pub(crate) id: ContextId,
    pub(crate) owner: Rc<Noted>,
    pub(crate) exchange: Rc<RefCell<Exchange>>,
    pub(crate) buffers: Rc<RefCell<Buffers>>,
}

/// Opens a stream whose request has the header `x-key: value`.
pub(crate) fn open(filter: &Filter, kind: StreamKind) -> Result<Open, Failed> {
    let Entrance::Machine(vm, root) = filter.entrance() else { return Err(Failed) };
    let owner = Rc::new(Noted::default());
    let told: Rc<dyn Owner> = owner.clone();
    let headers: HeaderMap = [(":method", "GET"), ("x-key", "value")].into_iter().collect();
    let exchange = Exchange { request_headers: Some(headers), ..Exchange::default() };
    let exchange = Rc::new(RefCell::new(exchange));
    let buffers: Rc<RefCell<Buffers>> = Rc::default();
    let id = vm.open(
        root,
        StreamContext {
            kind,
            exchange: exchange.clone(),
            buffers: buffers.clone(),
            owner: Rc::downgrade(&told) as Weak<dyn Owner>,
            place: 0,
        },
    )?;
    Ok(Open { vm, root, id, owner, exchange, buffers })
}
