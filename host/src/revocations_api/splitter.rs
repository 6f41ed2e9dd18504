//! Lines out of pieces that end anywhere.

use super::wrong::Wrong;

/// The longest line: what is written here of one thing has a few hundred bytes, and a secret, at
/// its longest, 16 KiB, each byte of which JSON may write as six.
const LINE_BYTES_MAX: usize = 128 << 10;

/// The beginning of a line whose end has not come.
#[derive(Default)]
pub(super) struct Splitter {
    begun: Vec<u8>,
    is_too_long: bool,
}

impl Splitter {
    /// Calls `with` with each line that ends in this piece.
    ///
    /// # Errors
    ///
    /// The first that `with` gives; then no more lines are looked at.
    pub(super) fn feed<E>(
        &mut self,
        piece: &[u8],
        mut with: impl FnMut(Result<&[u8], Wrong>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut lines = piece.split(|byte| *byte == b'\n');
        // What is behind the last end is the beginning of a line.
        let begun = lines.next_back().unwrap_or_default();
        for line in lines {
            if self.begun.is_empty() && !self.is_too_long && line.len() <= LINE_BYTES_MAX {
                with(Ok(line))?;
            } else {
                self.begin(line);
                self.rest(&mut with)?;
            }
        }
        self.begin(begun);
        Ok(())
    }

    /// Calls `with` with the last line, if it has no end.
    ///
    /// # Errors
    ///
    /// What `with` gives.
    pub(super) fn rest<E>(
        &mut self,
        with: impl FnOnce(Result<&[u8], Wrong>) -> Result<(), E>,
    ) -> Result<(), E> {
        let line = std::mem::take(&mut self.begun);
        match std::mem::take(&mut self.is_too_long) {
            true => with(Err(Wrong::new(format!("a line of more than {LINE_BYTES_MAX} bytes")))),
            false if line.is_empty() => Ok(()),
            false => with(Ok(&line)),
        }
    }

    fn begin(&mut self, more: &[u8]) {
        self.is_too_long |= self.begun.len() + more.len() > LINE_BYTES_MAX;
        match self.is_too_long {
            true => self.begun = Vec::new(),
            false => self.begun.extend_from_slice(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        let mut with = |line: Result<&[u8], Wrong>| {
            lines.push(line.ok().map(<[u8]>::to_vec));
            Ok::<_, ()>(())
        };
        for piece in pieces {
            splitter.feed(piece, &mut with).unwrap();
        }
        splitter.rest(&mut with).unwrap();
        lines
    }

    #[test]
    fn lines_are_whole_wherever_pieces_end() {
        let text = b"one\n\ntwo\r\nthree";
        let whole = lines(&[text]);
        assert_eq!(whole, [&b"one"[..], b"", b"two\r", b"three"].map(|it| Some(it.to_vec())));
        for cut in 0..text.len() {
            let (left, right) = text.split_at(cut);
            // A piece that begins with an end ends a line that was begun, empty or not.
            assert_eq!(lines(&[left, right]), whole, "{cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines(&bytes), whole);
    }

    #[test]
    fn a_line_that_is_too_long_is_one_error_and_takes_no_memory() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(lines(&[&long, b"\nok\n"]), [None, Some(b"ok".to_vec())]);
        assert_eq!(
            lines(&[b"a\n", &long, &long, b"x\nb"]),
            [Some(b"a".to_vec()), None, Some(b"b".to_vec())]
        );
    }
}
