//! All that a module may call: the host calls of ABI 0.1.0, 0.2.0 and 0.2.1, and WASI.
//!
//! Each module gets all of them, whatever its marker says; what it does not import costs
//! nothing. Each call does what Envoy's does, down to the number of its status.

mod buffers;
mod data;
mod foreign;
mod grpc;
mod headers;
mod http_call;
mod log;
mod metrics;
mod properties;
mod queues;
mod stream;
mod timers;
mod wasi;

use crate::vm::State;
use crate::vm::guest::{Guest, Outcome, Stop};
use crate::vm::state::Mode;
use std::collections::HashMap;
use wasmtime::{Caller, Engine, FuncType, Linker, ValType};

/// The host calls, ready to be linked, and their types.
pub(crate) struct Calls {
    pub(crate) linker: Linker<State>,
    types: HashMap<(&'static str, &'static str), FuncType>,
}

impl Calls {
    /// All of them.
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut calls = Self { linker: Linker::new(engine), types: HashMap::new() };
        buffers::define(&mut calls)?;
        data::define(&mut calls)?;
        foreign::define(&mut calls)?;
        grpc::define(&mut calls)?;
        headers::define(&mut calls)?;
        http_call::define(&mut calls)?;
        log::define(&mut calls)?;
        metrics::define(&mut calls)?;
        properties::define(&mut calls)?;
        queues::define(&mut calls)?;
        stream::define(&mut calls)?;
        timers::define(&mut calls)?;
        wasi::define(&mut calls)?;
        Ok(calls)
    }

    /// The type of a call, if there is one by that name.
    pub(crate) fn signature(&self, module: &str, name: &str) -> Option<&FuncType> {
        // The keys live as long as the program; what is looked for does not.
        let mut known = self.types.iter();
        known.find(|((of, known), _)| *of == module && *known == name).map(|(_, kind)| kind)
    }

    fn note<const N: usize>(
        &mut self,
        module: &'static str,
        name: &'static str,
        params: [ValType; N],
        results: &[ValType],
    ) {
        let kind = FuncType::new(self.linker.engine(), params, results.iter().cloned());
        self.types.insert((module, name), kind);
    }
}

/// The module that the ABI's own calls are imported from.
const ENV: &str = "env";

/// A number as a module hands it over.
trait Wire {
    const TYPE: ValType;
}

impl Wire for u32 {
    const TYPE: ValType = ValType::I32;
}

impl Wire for u64 {
    const TYPE: ValType = ValType::I64;
}

impl Wire for i64 {
    const TYPE: ValType = ValType::I64;
}

/// What a call returns to the module.
trait Answer {
    fn number(self) -> wasmtime::Result<u32>;
}

impl Answer for Outcome {
    fn number(self) -> wasmtime::Result<u32> {
        match self {
            Ok(()) => Ok(0),
            Err(Stop::Status(status)) => Ok(status as u32),
            Err(Stop::Trap(error)) => Err(error),
        }
    }
}

/// Defines calls: `name => function(argument: type, …)`, all from one module, that may be
/// made until the machine is in the given mode.
macro_rules! define {
    ($calls:expr, $module:expr, $until:expr, {
        $($name:literal => $function:path, ($($argument:ident: $kind:ty),*);)*
    }) => {$(
        $calls.linker.func_wrap(
            $module,
            $name,
            |caller: wasmtime::Caller<'_, $crate::vm::State>, $($argument: $kind),*| {
                let mut guest = $crate::abi::enter(caller, $name, $until)?;
                $crate::abi::Answer::number($function(&mut guest, $($argument),*))
            },
        )?;
        let params = [$(<$kind as $crate::abi::Wire>::TYPE),*];
        $calls.note($module, $name, params, &[wasmtime::ValType::I32]);
    )*};
}
use define;

/// Lets a module in that may make this call now.
fn enter<'a>(caller: Caller<'a, State>, name: &str, until: Mode) -> wasmtime::Result<Guest<'a>> {
    let mode = caller.data().mode;
    if mode > until {
        let when = if mode == Mode::Starting { "it starts" } else { "it allocates" };
        let line = format!("restricted_callback: called {name} while {when}");
        return Err(wasmtime::Error::msg(line));
    }
    Ok(Guest::new(caller))
}
