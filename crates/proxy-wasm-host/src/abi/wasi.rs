//! What compilers' standard libraries want of WASI preview 1, under both of its names.
//!
//! There is a log where standard output and error would be, clocks, randomness, and the
//! configured environment; no arguments, no files, no sockets. Numbers are Envoy's.

use super::log::say;
use super::{Answer, Calls, ENV, define, enter};
use crate::outside::Level;
use crate::vm::State;
use crate::vm::failure::Exit;
use crate::vm::guest::{Guest, Slice, Stop, read, write, write_u32};
use crate::vm::state::Mode;
use wasmtime::{Caller, FuncType, Val, ValType};

/// Modules of before 2021 know it by the second name.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// An error as WASI numbers it.
struct Errno(u32);

const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const NOENT: u32 = 44;
const NOSYS: u32 = 52;
const NOTSUP: u32 = 58;

/// The most random bytes at once, as in Envoy.
const RANDOM_BYTES_MAX: u32 = 64 << 10;

/// Parts that are written at once, at most; POSIX wants no more than 16, Linux takes 1024.
const PARTS_MAX: u32 = 1024;

/// Calls that have one answer whatever is asked: `i` for an `i32`, `I` for an `i64`.
const FIXED: [(&str, &str, u32); 36] = [
    ("args_get", "ii", 0),
    ("fd_advise", "iIIi", 0),
    ("fd_allocate", "iII", NOSYS),
    ("fd_close", "i", 0),
    ("fd_datasync", "i", NOSYS),
    ("fd_fdstat_set_flags", "ii", NOSYS),
    ("fd_fdstat_set_rights", "iII", NOSYS),
    ("fd_filestat_get", "ii", BADF),
    ("fd_filestat_set_size", "iI", NOSYS),
    ("fd_filestat_set_times", "iIIi", NOSYS),
    ("fd_pread", "iiiIi", NOSYS),
    ("fd_prestat_dir_name", "iii", NOSYS),
    ("fd_prestat_get", "ii", BADF),
    ("fd_pwrite", "iiiIi", NOSYS),
    ("fd_read", "iiii", NOSYS),
    ("fd_readdir", "iiiIi", NOSYS),
    ("fd_renumber", "ii", NOSYS),
    ("fd_seek", "iIii", 0),
    ("fd_sync", "i", NOSYS),
    ("fd_tell", "ii", NOSYS),
    ("path_create_directory", "iii", NOSYS),
    ("path_filestat_get", "iiiii", NOTSUP),
    ("path_filestat_set_times", "iiiiIIi", NOSYS),
    ("path_link", "iiiiiii", NOSYS),
    ("path_open", "iiiiiIIii", NOENT),
    ("path_readlink", "iiiiii", NOSYS),
    ("path_remove_directory", "iii", NOSYS),
    ("path_rename", "iiiiii", NOSYS),
    ("path_symlink", "iiiii", NOSYS),
    ("path_unlink_file", "iii", NOSYS),
    ("proc_raise", "i", NOSYS),
    ("sched_yield", "", 0),
    ("sock_accept", "iii", NOSYS),
    ("sock_recv", "iiiiii", NOSYS),
    ("sock_send", "iiiii", NOSYS),
    ("sock_shutdown", "ii", NOSYS),
];

pub(super) fn define(calls: &mut Calls) -> wasmtime::Result<()> {
    for module in MODULES {
        define!(calls, module, Mode::Allocating, {
            "fd_write" => fd_write, (fd: u32, parts: u32, count: u32, written: u32);
            "clock_time_get" => clock_time_get, (clock: u32, precision: u64, time: u32);
            "poll_oneoff" => poll_oneoff, (asked: u32, happened: u32, count: u32, events: u32);
        });
        define!(calls, module, Mode::Starting, {
            "args_sizes_get" => args_sizes_get, (count: u32, bytes: u32);
            "clock_res_get" => clock_res_get, (clock: u32, resolution: u32);
            "environ_get" => environ_get, (pointers: u32, text: u32);
            "environ_sizes_get" => environ_sizes_get, (count: u32, bytes: u32);
            "fd_fdstat_get" => fd_fdstat_get, (fd: u32, stat: u32);
            "random_get" => random_get, (at: u32, bytes: u32);
        });
        for (name, params, errno) in FIXED {
            define_fixed(calls, module, name, params, errno)?;
        }
        calls.linker.func_wrap(module, "proc_exit", |code: u32| -> wasmtime::Result<()> {
            Err(Exit(code).into())
        })?;
        calls.note(module, "proc_exit", [ValType::I32], &[]);
    }
    define_emscripten(calls)
}

fn define_fixed(
    calls: &mut Calls,
    module: &'static str,
    name: &'static str,
    params: &str,
    errno: u32,
) -> wasmtime::Result<()> {
    let params = params.chars().map(|kind| if kind == 'I' { ValType::I64 } else { ValType::I32 });
    let kind = FuncType::new(calls.linker.engine(), params, [ValType::I32]);
    calls.types.insert((module, name), kind.clone());
    let call = move |caller: Caller<'_, State>, _: &[Val], results: &mut [Val]| {
        enter(caller, name, Mode::Starting)?;
        if let [result] = results {
            *result = Val::I32(errno.cast_signed());
        }
        Ok(())
    };
    calls.linker.func_new(module, name, kind, call)?;
    Ok(())
}

/// What Emscripten's runtime imports beside WASI.
fn define_emscripten(calls: &mut Calls) -> wasmtime::Result<()> {
    let grown = |_memory: u32| {};
    calls.linker.func_wrap(ENV, "emscripten_notify_memory_growth", grown)?;
    calls.note(ENV, "emscripten_notify_memory_growth", [ValType::I32], &[]);
    let equal = |left: u32, right: u32| u32::from(left == right);
    calls.linker.func_wrap(ENV, "pthread_equal", equal)?;
    calls.note(ENV, "pthread_equal", [ValType::I32, ValType::I32], &[ValType::I32]);
    Ok(())
}

/// Standard output is logged as information, standard error as an error.
fn fd_write(
    guest: &mut Guest<'_>,
    fd: u32,
    parts: u32,
    count: u32,
    written: u32,
) -> Result<(), Errno> {
    let level = match fd {
        1 => Level::Info,
        2 => Level::Error,
        _ => return Err(Errno(BADF)),
    };
    if count > PARTS_MAX {
        return Err(Errno(INVAL));
    }
    let (memory, state) = guest.split()?;
    let mut total = 0_u32;
    let mut text = Vec::new();
    for part in 0..count {
        let at = parts.checked_add(part * 8).ok_or(Errno(FAULT))?;
        let pair = Slice(read_u32(memory, at)?, read_u32(memory, at.saturating_add(4))?);
        let bytes = read(memory, pair)?;
        total = total.checked_add(pair.1).ok_or(Errno(INVAL))?;
        // What is beyond is not passed on, and so need not be collected.
        let room = super::log::LINE_BYTES_MAX.saturating_sub(text.len());
        text.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
    if total > 0 {
        say(state, level, text.strip_suffix(b"\n").unwrap_or(&text));
    }
    Ok(write_u32(memory, written, total)?)
}

fn clock_time_get(
    guest: &mut Guest<'_>,
    clock: u32,
    _precision: u64,
    time: u32,
) -> Result<(), Errno> {
    let outside = &guest.state().place.outside;
    let now = match clock {
        0 => outside.wall_ns(),
        1 => outside.monotonic_ns(),
        _ => return Err(Errno(NOTSUP)),
    };
    Ok(guest.write_u64(time, now)?)
}

fn clock_res_get(guest: &mut Guest<'_>, clock: u32, resolution: u32) -> Result<(), Errno> {
    if clock > 1 {
        return Err(Errno(NOTSUP));
    }
    Ok(guest.write_u64(resolution, 1)?)
}

/// Nothing that one could wait for ever happens; Go's runtime asks all the same.
fn poll_oneoff(
    guest: &mut Guest<'_>,
    _asked: u32,
    _happened: u32,
    _count: u32,
    events: u32,
) -> Result<(), Errno> {
    Ok(guest.write_u32(events, 0)?)
}

fn args_sizes_get(guest: &mut Guest<'_>, count: u32, bytes: u32) -> Result<(), Errno> {
    guest.write_u32(count, 0)?;
    Ok(guest.write_u32(bytes, 0)?)
}

fn environ_get(guest: &mut Guest<'_>, mut pointers: u32, mut text: u32) -> Result<(), Errno> {
    let (memory, state) = guest.split()?;
    for (name, value) in &state.config.environment {
        let line = format!("{name}={value}\0");
        write_u32(memory, pointers, text)?;
        write(memory, text, line.as_bytes())?;
        // Both writes went well, so that neither sum can be beyond the memory's end.
        pointers = pointers.saturating_add(4);
        text = text.saturating_add(u32::try_from(line.len()).unwrap_or(u32::MAX));
    }
    Ok(())
}

fn environ_sizes_get(guest: &mut Guest<'_>, count: u32, bytes: u32) -> Result<(), Errno> {
    let (memory, state) = guest.split()?;
    let environment = &state.config.environment;
    let total: usize = environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    write_u32(memory, count, u32::try_from(environment.len()).unwrap_or(u32::MAX))?;
    Ok(write_u32(memory, bytes, u32::try_from(total).unwrap_or(u32::MAX))?)
}

/// The two outputs can be written to (right 64), and nothing else.
fn fd_fdstat_get(guest: &mut Guest<'_>, fd: u32, stat: u32) -> Result<(), Errno> {
    if fd != 1 && fd != 2 {
        return Err(Errno(BADF));
    }
    let mut bytes = [0; 24];
    bytes[8] = 64;
    Ok(write(guest.split()?.0, stat, &bytes)?)
}

fn random_get(guest: &mut Guest<'_>, at: u32, bytes: u32) -> Result<(), Errno> {
    if bytes > RANDOM_BYTES_MAX {
        return Err(Errno(INVAL));
    }
    let (memory, state) = guest.split()?;
    let from = at as usize;
    let to = from.checked_add(bytes as usize).and_then(|to| memory.get_mut(from..to));
    state.place.outside.fill_random(to.ok_or(Errno(FAULT))?);
    Ok(())
}

fn read_u32(memory: &[u8], at: u32) -> Result<u32, Errno> {
    let bytes = read(memory, Slice(at, 4))?;
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(Errno(FAULT))
}

impl Answer for Result<(), Errno> {
    fn number(self) -> wasmtime::Result<u32> {
        Ok(self.err().map_or(0, |Errno(number)| number))
    }
}

impl From<Stop> for Errno {
    /// None of these calls runs anything of the module, so that all that can be wrong is a
    /// pointer.
    fn from(_: Stop) -> Self {
        Self(FAULT)
    }
}
