//! Envoy's `compress` and `uncompress`: zlib's format at its usual level, both ways whole.

use super::{Caller, ForeignFunction, WORK_BYTES_MAX};
use crate::status::Status;
use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use std::io::Read;

/// Compresses its arguments.
pub(super) struct Compressor;

/// Uncompresses its arguments. What comes behind the end is overlooked, as in Envoy.
pub(super) struct Uncompressor;

impl ForeignFunction for Compressor {
    fn call(&self, _: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        if arguments.len() > WORK_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        let mut output = Vec::new();
        let mut encoder = ZlibEncoder::new(arguments, Compression::default());
        encoder.read_to_end(&mut output).map_err(|_| Status::SerializationFailure)?;
        Ok(output)
    }
}

impl ForeignFunction for Uncompressor {
    fn call(&self, _: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        let mut output = Vec::new();
        // A byte more than may be, to see whether there is one.
        let mut decoder = ZlibDecoder::new(arguments).take(WORK_BYTES_MAX as u64 + 1);
        decoder.read_to_end(&mut output).map_err(|_| Status::SerializationFailure)?;
        if output.len() > WORK_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::tests::call;
    use proptest::prelude::*;

    #[test]
    fn small_things_are_compressed_as_envoy_does() {
        for (plain, packed) in [
            (&b""[..], &b"x\x9c\x03\0\0\0\0\x01"[..]),
            (b"aaaaaaaaa", b"x\x9cKL\x84\x02\0\x11\x16\x03j"),
        ] {
            assert_eq!(call("compress", plain).unwrap(), packed);
            assert_eq!(call("uncompress", packed).unwrap(), plain);
        }
    }

    #[test]
    fn what_is_not_zlib_is_refused() {
        let packed = call("compress", b"hello").unwrap();
        let mut wrong_sum = packed.clone();
        *wrong_sum.last_mut().unwrap() ^= 1;
        // Gzip's head, and a bare stream of deflate.
        let cases = [
            &b""[..],
            &[1, 2],
            &packed[..packed.len() - 1],
            &wrong_sum,
            b"\x1f\x8b\x08",
            &packed[2..],
        ];
        for case in cases {
            assert_eq!(call("uncompress", case), Err(Status::SerializationFailure), "{case:?}");
        }
        assert_eq!(call("uncompress", &[&packed[..], b"trail"].concat()).unwrap(), b"hello");
    }

    #[test]
    fn a_bomb_is_refused_before_it_fills_memory() {
        let fits = call("compress", &vec![0; WORK_BYTES_MAX]).unwrap();
        assert_eq!(call("uncompress", &fits).unwrap().len(), WORK_BYTES_MAX);
        assert_eq!(call("compress", &vec![0; WORK_BYTES_MAX + 1]), Err(Status::InternalFailure));
        let mut bomb = Vec::new();
        let zeros = std::io::repeat(0).take(2 * WORK_BYTES_MAX as u64);
        ZlibEncoder::new(zeros, Compression::default()).read_to_end(&mut bomb).unwrap();
        assert_eq!(call("uncompress", &bomb), Err(Status::InternalFailure));
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(bytes: Vec<u8>) {
            let packed = call("compress", &bytes).unwrap();
            prop_assert_eq!(call("uncompress", &packed).unwrap(), bytes);
        }

        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            let _ = call("uncompress", &[b"x\x9c", &*bytes].concat());
        }
    }
}
