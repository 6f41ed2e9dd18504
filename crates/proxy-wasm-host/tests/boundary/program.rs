//! Programs for the guest, out of bytes that know nothing of them.
//!
//! Numbers drawn evenly would nearly all be rejected at the first check. So most arguments
//! come from a list of those that mean something somewhere, or nearly do.

use crate::guest::{IMPORTS, MALLOC, MEMORY_BYTES, PROGRAM_BYTES_MAX, RETURN, TEXT, TEXT_AT};

const TEXT_LEN: i32 = TEXT.len() as i32;

/// Numbers that mean something, or nearly.
const NUMBERS: &[i32] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    12,
    13,
    200,
    429,
    // Places: where results go, a name, a value, a map, a path, a cluster.
    16,
    24,
    TEXT_AT,
    TEXT_AT + 6,
    TEXT_AT + 12,
    TEXT_AT + 28,
    TEXT_AT + 41,
    TEXT_AT + TEXT_LEN,
    // Lengths of those.
    TEXT_LEN,
    16,
    // Edges.
    1024,
    65_535,
    65_536,
    MEMORY_BYTES - 4,
    MEMORY_BYTES - 1,
    MEMORY_BYTES,
    MEMORY_BYTES + 1,
    i32::MAX,
    i32::MIN,
    -1,
    -4,
    -65_536,
];

/// A program of as many calls as the bytes have room for.
#[must_use]
pub(crate) fn program(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.iter().copied();
    let mut program = Vec::new();
    while let Some(first) = bytes.next() {
        if program.len() + 64 > PROGRAM_BYTES_MAX {
            break;
        }
        match first {
            // One in six ends a callback; else a program would be done in its first.
            0..40 => {
                program.push(RETURN);
                program.extend(i32::from(first % 6).to_le_bytes());
            }
            40..44 => {
                program.push(MALLOC);
                program.extend(number(&mut bytes).to_le_bytes());
            }
            _ => {
                let place = usize::from(bytes.next().unwrap_or(first)) % IMPORTS.len();
                // Ends the machine, so seldom.
                if IMPORTS[place].1 == "proc_exit" && first != 255 {
                    continue;
                }
                program.push(place as u8);
                for _ in IMPORTS[place].2.chars() {
                    program.extend(number(&mut bytes).to_le_bytes());
                }
            }
        }
    }
    program
}

fn number(bytes: &mut impl Iterator<Item = u8>) -> i32 {
    match bytes.next().unwrap_or(0) {
        pick @ 0..=229 => NUMBERS[usize::from(pick) % NUMBERS.len()],
        _ => i32::from_le_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0))),
    }
}
