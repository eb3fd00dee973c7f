//! What the machine's loopback, memory and page cache can do, with two pinned threads and nothing else: the limits
//! that no engine on this machine passes.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A one-record batch of 100 B with its frame, and an acknowledgement.
const REQUEST_BYTES: usize = 170;
const ANSWER_BYTES: usize = 40;
const CHUNK_BYTES: usize = 256 * 1024;
const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// The cores of the two sides, as in every run of the gate.
pub(crate) const SERVER_CORE: usize = 0;
/// See [`SERVER_CORE`].
pub(crate) const CLIENT_CORE: usize = 1;

/// Median time in microseconds from sending a small request to having its answer.
pub(crate) fn round_trip_p50_us(duration: Duration) -> Result<f64> {
    let (mut client, mut server) = connected()?;
    let echo = thread::spawn(move || -> io::Result<()> {
        pin(SERVER_CORE);
        let mut request = [0_u8; REQUEST_BYTES];
        while server.read_exact(&mut request).is_ok() {
            server.write_all(&request[..ANSWER_BYTES])?;
        }
        Ok(())
    });
    let client = thread::spawn(move || -> io::Result<Vec<u64>> {
        pin(CLIENT_CORE);
        let request = [7_u8; REQUEST_BYTES];
        let mut answer = [0_u8; ANSWER_BYTES];
        let mut times_ns = Vec::new();
        let started = Instant::now();
        while started.elapsed() < duration {
            let sent = Instant::now();
            client.write_all(&request)?;
            client.read_exact(&mut answer)?;
            times_ns.push(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(times_ns)
    });
    let mut times_ns = join(client)?;
    join(echo)?;
    times_ns.sort_unstable();
    let Some(middle) = times_ns.get(times_ns.len() / 2) else { bail!("no round trip in {duration:?}") };
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of one round trip")]
    Ok(*middle as f64 / 1_000.0)
}

/// Bytes per second from one thread's memory to another's, one connection.
pub(crate) fn one_way_bytes_per_s(duration: Duration) -> Result<f64> {
    let (client, mut server) = connected()?;
    let sender = thread::spawn(move || -> io::Result<()> {
        pin(SERVER_CORE);
        let chunk = vec![7_u8; CHUNK_BYTES];
        let started = Instant::now();
        while started.elapsed() < duration {
            server.write_all(&chunk)?;
        }
        Ok(())
    });
    let rate = drain(client)?;
    join(sender)?;
    Ok(rate)
}

/// Bytes per second from a file in the page cache to a socket by sendfile(2), which `io::copy` uses for that pair.
pub(crate) fn sendfile_bytes_per_s(folder: &Path, duration: Duration) -> Result<f64> {
    let path = folder.join("sendfile");
    let mut file = File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let chunk = vec![7_u8; CHUNK_BYTES];
    for _ in 0..MEMORY_BYTES / CHUNK_BYTES {
        file.write_all(&chunk)?;
    }
    drop(file);
    let mut file = File::open(&path)?;
    let (client, mut server) = connected()?;
    let sender = thread::spawn(move || -> io::Result<()> {
        pin(SERVER_CORE);
        let started = Instant::now();
        while started.elapsed() < duration {
            file.rewind()?;
            io::copy(&mut file, &mut server)?;
        }
        Ok(())
    });
    let rate = drain(client)?;
    join(sender)?;
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(rate)
}

/// Bytes per second copied between two buffers that no cache holds.
pub(crate) fn memcpy_bytes_per_s(duration: Duration) -> Result<f64> {
    let copier = thread::spawn(move || -> io::Result<f64> {
        pin(SERVER_CORE);
        let source = vec![7_u8; MEMORY_BYTES];
        let mut target = vec![1_u8; MEMORY_BYTES];
        let started = Instant::now();
        let mut bytes = 0;
        while started.elapsed() < duration {
            target.copy_from_slice(black_box(&source));
            black_box(&mut target);
            bytes += MEMORY_BYTES;
        }
        Ok(rate(bytes, started.elapsed()))
    });
    join(copier)
}

/// Reads until the other side closes; bytes per second.
fn drain(mut stream: TcpStream) -> Result<f64> {
    let reader = thread::spawn(move || -> io::Result<f64> {
        pin(CLIENT_CORE);
        let mut buffer = vec![0_u8; CHUNK_BYTES];
        // The clock starts with the first bytes, which don't count.
        stream.read_exact(&mut buffer[..1])?;
        let started = Instant::now();
        let mut bytes = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(rate(bytes, started.elapsed())),
                read => bytes += read,
            }
        }
    });
    join(reader)
}

fn connected() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    let client = TcpStream::connect(listener.local_addr()?).context("cannot connect over loopback")?;
    let (server, _) = listener.accept().context("cannot accept over loopback")?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// Binds this thread to a core; a machine without that core measures where the kernel puts it.
fn pin(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

fn join<T>(thread: thread::JoinHandle<io::Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result.context("a loopback thread failed"),
        Err(_) => bail!("a loopback thread panicked"),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate has three digits that matter")]
fn rate(bytes: usize, elapsed: Duration) -> f64 {
    bytes as f64 / elapsed.as_secs_f64()
}
