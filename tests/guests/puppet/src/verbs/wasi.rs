//! The calls of WASI that filters make, mostly without knowing: their languages do.

use crate::abi;
use crate::actor::Part;
use crate::show;
use crate::words::{In, Words};

/// Room for what a call writes.
const ROOM_BYTES: usize = 4096;

/// `fd_write FD TEXT`, `environ`, `args`, `clock ID`, `random LENGTH`, and `fd_…` by number.
pub(crate) fn play(_: &mut Part<'_>, verb: &str, words: &Words<'_>) -> Option<String> {
    let mut room = vec![0u8; ROOM_BYTES];
    let to = room.as_mut_ptr() as usize;
    let number = words.num(0);
    // SAFETY: what is written fits into the room; wrong addresses are what is tested.
    Some(unsafe {
        match verb {
            "fd_write" => write(number, &words.bytes(1)),
            "fd_read" => format!("{}", abi::fd_read(number, to, 0, to)),
            "fd_seek" => format!("{}", abi::fd_seek(number, 0, 0, to)),
            "fd_close" => format!("{}", abi::fd_close(number)),
            "fd_fdstat_get" => {
                let errno = abi::fd_fdstat_get(number, to);
                format!("{errno} {}", show::bytes(room.get(..24).unwrap_or_default()))
            }
            "environ" => environ(),
            "args" => {
                let (mut count, mut bytes) = (9u32, 9u32);
                let errno =
                    abi::args_sizes_get((&raw mut count) as usize, (&raw mut bytes) as usize);
                format!("{errno} {count} {bytes}, {}", abi::args_get(to, to))
            }
            "clock" => {
                let mut now = 0u64;
                let errno = abi::clock_time_get(number, 1, (&raw mut now) as usize);
                format!("{errno} {}", if now > 0 { "some time" } else { "no time" })
            }
            "random" if number as usize <= ROOM_BYTES => {
                let errno = abi::random_get(to, number as usize);
                let differ = room.iter().any(|byte| *byte != 0);
                format!("{errno} {}", if differ { "random" } else { "zeroes" })
            }
            "random" => {
                let mut room = vec![0u8; number as usize];
                format!("{}", abi::random_get(room.as_mut_ptr() as usize, room.len()))
            }
            "random_at" => format!("{}", abi::random_get(number as usize, 8)),
            "proc_exit" => {
                abi::proc_exit(number);
                "came back".to_owned()
            }
            _ => return None,
        }
    })
}

unsafe fn write(fd: u32, text: &In) -> String {
    let (slice, mut written) = ([text.at, text.len], 0u32);
    // SAFETY: the caller's.
    let errno =
        unsafe { abi::fd_write(fd, slice.as_ptr() as usize, 1, (&raw mut written) as usize) };
    format!("{errno} {written}")
}

unsafe fn environ() -> String {
    let (mut count, mut bytes) = (0u32, 0u32);
    // SAFETY: the host says how much room it wants, and gets it.
    let (first, second, values) = unsafe {
        let first = abi::environ_sizes_get((&raw mut count) as usize, (&raw mut bytes) as usize);
        let (mut places, mut values) = (vec![0u32; count as usize], vec![0u8; bytes as usize]);
        let to = values.as_mut_ptr() as usize;
        (first, abi::environ_get(places.as_mut_ptr() as usize, to), values)
    };
    format!("{first} {count}, {second} {}", show::bytes(&values))
}
