//! The ring against the real kernel, over loopback and in a temporary folder.

use core::time::Duration;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;

use cutwater_model::MemoryRange;

use crate::completion::{Attachment, Completion, Errno, Token};
use crate::test_folder::TestFolder;
use crate::{Arena, Piece, Ring, RingConfig, Wait};

const SECOND: Duration = Duration::from_secs(1);

fn ring() -> Ring {
    Ring::new(&RingConfig { submissions: 8, completions: 64, receive_buffers: 8, receive_buffer_bytes: 4096 })
        .expect("the machine that runs these tests allows io_uring")
}

/// Enters until `count` completions came, for at most ten seconds.
fn completions(ring: &mut Ring, count: usize) -> Vec<Completion> {
    let mut all = Vec::new();
    for _ in 0..10 {
        if all.len() >= count {
            break;
        }
        ring.enter(Wait::AtMost(SECOND), &mut all).unwrap();
    }
    assert!(all.len() >= count, "{} of {count} completions", all.len());
    all
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

#[test]
fn a_connection_is_accepted_received_from_answered_and_ended() {
    let mut ring = ring();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = crate::socket::listen(any, 16).unwrap();
    ring.accept(Token(1), &listener);
    let client = crate::socket::stream(any).unwrap();
    ring.connect(Token(2), &client, crate::socket::local_address(&listener).unwrap());
    let mut server = None;
    for completion in completions(&mut ring, 2) {
        match (completion.token, completion.attachment) {
            (Token(1), Attachment::Descriptor(socket)) => {
                assert!(completion.more, "accepting goes on");
                server = Some(socket);
            }
            (Token(2), _) => assert_eq!(completion.result, Ok(0)),
            other => panic!("{other:?}"),
        }
    }
    let server = server.unwrap();
    ring.receive(Token(3), &server);
    ring.send(Token(4), &client, b"xxhello".to_vec(), 2);
    let mut heard = None;
    for completion in completions(&mut ring, 2) {
        match completion.attachment {
            Attachment::Received(buffer) => {
                assert_eq!(&*buffer, b"hello");
                assert!(completion.more);
                heard = Some(buffer);
            }
            Attachment::Returned(buffer) => assert_eq!(buffer, b"xxhello"),
            other => panic!("{other:?}"),
        }
    }
    ring.recycle(heard.unwrap());
    ring.close(client);
    let last = completions(&mut ring, 1).pop().unwrap();
    assert_eq!((last.token, last.result, last.more), (Token(3), Ok(0), false));
    assert_eq!(ring.stats().received_bytes, 5);
    assert_eq!(ring.stats().sent_bytes, 5);
}

#[test]
fn every_received_byte_comes_once_though_buffers_are_few() {
    let mut ring = ring();
    let (mut client, server) = pair();
    let sender = std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        client.write_all(&bytes).unwrap();
        bytes
    });
    ring.receive(Token(1), &server);
    let (mut got, mut ended) = (Vec::new(), false);
    while !ended {
        for completion in completions(&mut ring, 1) {
            let mut is_empty = true;
            if let Attachment::Received(buffer) = completion.attachment {
                is_empty = buffer.is_empty();
                got.extend_from_slice(&buffer);
                ring.recycle(buffer);
            }
            if completion.more {
                continue;
            }
            match completion.result {
                Ok(0) if is_empty => ended = true,
                Ok(_) | Err(Errno::NO_BUFFERS) => ring.receive(Token(1), &server),
                Err(errno) => panic!("{errno:?}"),
            }
        }
    }
    assert_eq!(got, sender.join().unwrap());
}

#[test]
fn blocks_written_durably_are_read_back() {
    let folder = TestFolder::new();
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(folder.join("blocks"))
        .unwrap();
    let mut slab = Arena::leak(4 * 4096, false).unwrap();
    let (from, to) = (MemoryRange { at: 0, len: 8192 }, MemoryRange { at: 8192, len: 8192 });
    slab.get_mut(from).fill(7);
    let mut ring = ring();
    ring.attach(&mut slab);
    ring.reserve(Token(0), &file, 0, 65536);
    completions(&mut ring, 1);
    ring.write(Token(1), &file, 4096, from, true);
    assert_eq!(completions(&mut ring, 1)[0].result, Ok(8192));
    ring.flush_data(Token(2), &file);
    ring.read(Token(3), &file, 4096, to);
    assert!(completions(&mut ring, 2).iter().all(|completion| completion.result.is_ok()));
    assert!(slab.get(to).iter().all(|&byte| byte == 7));
    assert_eq!((ring.stats().written_bytes, ring.stats().read_bytes), (8192, 8192));
}

#[test]
fn memory_outside_the_slab_is_refused() {
    let mut ring = ring();
    let file = std::fs::File::open("/dev/null").unwrap();
    ring.read(Token(1), &file, 0, MemoryRange { at: 0, len: 1 });
    assert_eq!(completions(&mut ring, 1)[0].result, Err(Errno::FAULT), "without any slab");
    let mut slab = Arena::leak(4096, false).unwrap();
    ring.attach(&mut slab);
    for range in [MemoryRange { at: 4095, len: 2 }, MemoryRange { at: u32::MAX, len: u32::MAX }] {
        ring.write(Token(2), &file, 0, range, false);
        ring.send_slab(Token(2), &file, range);
        ring.send_pieces(Token(2), &file, vec![1], &[Piece::Slab(range)]);
        ring.send_pieces(Token(2), &file, vec![1], &[Piece::Owned { at: 1, len: 1 }]);
        ring.receive_slab(Token(2), &file, range, true);
        let all = completions(&mut ring, 5);
        assert!(all.iter().all(|completion| completion.result == Err(Errno::FAULT)), "{all:?}");
    }
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn more_operations_than_the_queue_holds_all_complete_in_order() {
    let mut ring = ring();
    let (client, mut server) = pair();
    for number in 0..1000u32 {
        ring.send(Token(u64::from(number)), &client, number.to_le_bytes().to_vec(), 0);
    }
    let tokens: Vec<u64> = completions(&mut ring, 1000).iter().map(|completion| completion.token.0).collect();
    assert_eq!(tokens, (0..1000).collect::<Vec<_>>());
    let mut bytes = vec![0; 4000];
    server.read_exact(&mut bytes).unwrap();
    assert!(bytes.chunks(4).zip(0u32..).all(|(chunk, number)| chunk == number.to_le_bytes()));
}

#[test]
fn pieces_of_a_message_arrive_in_order() {
    let mut ring = ring();
    let mut slab = Arena::leak(4096, false).unwrap();
    slab.get_mut(MemoryRange { at: 100, len: 4 }).copy_from_slice(b"slab");
    ring.attach(&mut slab);
    let (client, mut server) = pair();
    let pieces = [
        Piece::Owned { at: 0, len: 4 },
        Piece::Slab(MemoryRange { at: 100, len: 4 }),
        Piece::Owned { at: 4, len: 4 },
    ];
    ring.send_pieces(Token(1), &client, b"headtail".to_vec(), &pieces);
    assert_eq!(completions(&mut ring, 1)[0].result, Ok(12));
    ring.send_pieces_zero_copy(Token(2), &client, b"headtail".to_vec(), &pieces);
    let all = completions(&mut ring, 2);
    assert_eq!((all[0].result, all[0].more), (Ok(12), true));
    assert!(matches!(&all[1].attachment, Attachment::Returned(buffer) if buffer == b"headtail"));
    let mut bytes = [0; 24];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"headslabtailheadslabtail");
}

#[test]
fn receives_into_the_slab_and_into_owned_memory_wait_for_the_whole() {
    let mut ring = ring();
    let mut slab = Arena::leak(4096, false).unwrap();
    ring.attach(&mut slab);
    let (mut client, server) = pair();
    let range = MemoryRange { at: 0, len: 6 };
    ring.receive_slab(Token(1), &server, range, true);
    ring.enter(Wait::Never, &mut Vec::new()).unwrap();
    client.write_all(b"abc").unwrap();
    client.write_all(b"defgh").unwrap();
    assert_eq!(completions(&mut ring, 1)[0].result, Ok(6));
    assert_eq!(slab.get(range), b"abcdef");
    ring.receive_owned(Token(2), &server, b"??..".to_vec(), 2..4, true);
    let got = completions(&mut ring, 1).pop().unwrap();
    assert!(matches!(got.attachment, Attachment::Returned(buffer) if buffer == b"??gh"));
}

#[test]
fn timeouts_end_and_cancelled_operations_say_so() {
    let mut ring = ring();
    let (_client, server) = pair();
    ring.timeout(Token(1), Duration::from_millis(1));
    assert_eq!(completions(&mut ring, 1)[0].result, Err(Errno::TIME));
    ring.receive(Token(2), &server);
    ring.timeout(Token(3), Duration::from_secs(3600));
    ring.enter(Wait::Never, &mut Vec::new()).unwrap();
    ring.cancel(Token(3));
    ring.cancel_descriptor(&server);
    let all = completions(&mut ring, 2);
    assert!(all.iter().all(|completion| completion.result == Err(Errno::CANCELED)), "{all:?}");
}

#[test]
fn a_message_wakes_the_ring_of_another_thread() {
    let (tell, told) = std::sync::mpsc::channel();
    let peer = std::thread::spawn(move || {
        let mut ring = ring();
        tell.send(ring.address()).unwrap();
        let got = completions(&mut ring, 1).pop().unwrap();
        (got.token, got.result)
    });
    let mut ring = ring();
    ring.message(Token(1), &told.recv().unwrap(), Token(42), 17);
    assert_eq!(completions(&mut ring, 1)[0].result, Ok(0));
    assert_eq!(peer.join().unwrap(), (Token(42), Ok(17)));
}

#[test]
fn a_ring_may_be_dropped_while_operations_are_in_flight() {
    let (mut client, server) = pair();
    {
        let mut ring = ring();
        ring.receive(Token(1), &server);
        ring.receive_owned(Token(2), &server, vec![0; 100], 0..100, true);
        ring.timeout(Token(3), Duration::from_secs(3600));
        ring.enter(Wait::Never, &mut Vec::new()).unwrap();
    }
    client.write_all(b"nobody listens any more").unwrap();
}

#[test]
fn a_turn_without_work_does_not_enter_the_kernel() {
    let mut ring = ring();
    let mut none = Vec::new();
    ring.enter(Wait::Never, &mut none).unwrap();
    assert_eq!((ring.stats().enters, none.len()), (0, 0));
    ring.enter(Wait::AtMost(Duration::from_millis(1)), &mut none).unwrap();
    assert_eq!((ring.stats().enters, none.len()), (1, 0));
}

#[test]
fn names_are_made_changed_and_removed() {
    let folder = TestFolder::new();
    let dir = std::fs::File::open(&*folder).unwrap();
    let mut ring = ring();
    ring.make_folder(Token(0), &dir, c"sub".into());
    assert_eq!(completions(&mut ring, 1)[0].result, Ok(0));
    ring.open(Token(1), &dir, c"sub/a".into(), libc::O_CREAT | libc::O_RDWR, 0o640);
    let opened = completions(&mut ring, 1).pop().unwrap();
    assert!(matches!(opened.attachment, Attachment::Descriptor(_)), "{opened:?}");
    ring.rename(Token(2), &dir, c"sub/a".into(), c"sub/b".into());
    assert_eq!(completions(&mut ring, 1)[0].result, Ok(0));
    assert!(folder.join("sub/b").exists() && !folder.join("sub/a").exists());
    ring.unlink(Token(3), &dir, c"sub/b".into(), false);
    assert_eq!(completions(&mut ring, 1)[0].result, Ok(0));
    ring.unlink(Token(4), &dir, c"sub".into(), true);
    assert_eq!(completions(&mut ring, 1)[0].result, Ok(0));
    assert!(!folder.join("sub").exists());
}

#[test]
fn workers_can_be_placed_and_bounded() {
    let ring = ring();
    ring.place_workers(&[crate::cores::cores()[0]], 4).unwrap();
    ring.place_workers(&[], 2).unwrap();
}
