//! Which of a cluster's slots a key is in.

use tidegate_core::key::Key;

/// Slots of a cluster.
pub(crate) const SLOTS: usize = 16_384;

/// CRC-16/XMODEM, as Redis uses it: polynomial 0x1021, from zero, nothing reflected.
const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut sum = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

/// The slot of everything that is kept about a key: names have it, as 32 hex digits, between
/// braces, and a slot is made of nothing else.
pub(crate) fn slot_of(key: Key) -> u16 {
    slot_of_tag(&format!("{:032x}", u128::from_be_bytes(key.0)))
}

/// The slot of all names that have this between braces.
pub(crate) fn slot_of_tag(tag: &str) -> u16 {
    // 16,384 slots: the lower 14 bits.
    crc16(tag.as_bytes()) & 0x3fff
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) ^ TABLE[usize::from((sum >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_specification() {
        // The check value of CRC-16/XMODEM, which the cluster's specification quotes.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert!(usize::from(slot_of(Key([0xff; 16]))) < SLOTS);
    }
}
