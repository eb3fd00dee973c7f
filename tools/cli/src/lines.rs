//! Lines of a file or of stdin, read on a thread of their own, so that sending goes on while a pipe is silent.
//!
//! A record's value is its line without the newline. The one line that may lack it, the last of the input, is marked
//! by a header of its record, so that `consume` writes back exactly what was read.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result, bail};

/// On a record whose line did not end with a newline.
pub(crate) const UNTERMINATED_HEADER: &[u8] = b"cutwater.unterminated";
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNKS: usize = 4;

/// What the thread hands over.
pub(crate) enum Chunk {
    /// Whole lines, each with its newline; only the last chunk may end without one.
    Lines(Vec<u8>),
    /// Nothing follows.
    End(Result<()>),
}

/// Starts reading. Chunks that were used up can be given back by the second channel.
pub(crate) fn read(
    input: impl Read + Send + 'static,
    line_bytes_max: usize,
) -> Result<(Receiver<Chunk>, SyncSender<Vec<u8>>)> {
    let (chunks, received) = sync_channel(CHUNKS);
    let (give_back, spares) = sync_channel(CHUNKS + 2);
    thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            let outcome = read_all(input, line_bytes_max, &chunks, &spares);
            // Nobody listens any more when sending has failed: that error is the one told.
            let _ = chunks.send(Chunk::End(outcome));
        })
        .context("cannot start a thread to read the input")?;
    Ok((received, give_back))
}

fn read_all(
    mut input: impl Read,
    line_bytes_max: usize,
    chunks: &SyncSender<Chunk>,
    spares: &Receiver<Vec<u8>>,
) -> Result<()> {
    // The beginning of a line whose end was not read yet.
    let mut begun: Vec<u8> = Vec::new();
    loop {
        let mut chunk = spares.try_recv().unwrap_or_default();
        chunk.clear();
        chunk.append(&mut begun);
        let filled = chunk.len();
        chunk.resize(filled + CHUNK_BYTES, 0);
        let got = loop {
            match input.read(&mut chunk[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.context("cannot read the input")?,
            }
        };
        chunk.truncate(filled + got);
        if got == 0 {
            if !chunk.is_empty() {
                let _ = chunks.send(Chunk::Lines(chunk));
            }
            return Ok(());
        }
        let whole = chunk.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        begun.extend_from_slice(&chunk[whole..]);
        if begun.len() > line_bytes_max {
            bail!(
                "a line is longer than {line_bytes_max} bytes; raise --batch-bytes (and the topic's \
                 --batch-bytes-max) or split it"
            );
        }
        chunk.truncate(whole);
        if !chunk.is_empty() && chunks.send(Chunk::Lines(chunk)).is_err() {
            return Ok(());
        }
    }
}

/// The lines of a chunk, without their newline, and whether they had one.
pub(crate) fn split(chunk: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    chunk.split_inclusive(|&byte| byte == b'\n').map(|line| match line.strip_suffix(b"\n") {
        Some(line) => (line, true),
        None => (line, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of a few.
    struct Drip(Vec<u8>, usize);

    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = 3.min(self.0.len() - self.1).min(into.len());
            into[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
            self.1 += count;
            Ok(count)
        }
    }

    fn back(text: &str) -> String {
        let (chunks, _spares) = read(Drip(text.as_bytes().to_vec(), 0), 1000).unwrap();
        let mut back = Vec::new();
        loop {
            match chunks.recv().unwrap() {
                Chunk::Lines(chunk) => {
                    for (line, is_terminated) in split(&chunk) {
                        assert!(!line.contains(&b'\n'));
                        back.extend_from_slice(line);
                        back.extend_from_slice(if is_terminated { b"\n" } else { b"" });
                    }
                }
                Chunk::End(outcome) => {
                    outcome.unwrap();
                    return String::from_utf8(back).unwrap();
                }
            }
        }
    }

    #[test]
    fn lines_put_together_again_are_what_was_read() {
        for text in
            ["", "\n", "a", "a\n", "a\nb", "\n\n\na", "one\r\ntwo\n\nthree", "long line without an end"]
        {
            assert_eq!(back(text), text);
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let (chunks, _spares) = read(io::repeat(b'x'), 1_000_000).unwrap();
        let Chunk::End(outcome) = chunks.recv().unwrap() else { panic!("no line is whole") };
        assert!(outcome.unwrap_err().to_string().contains("--batch-bytes"));
    }
}
