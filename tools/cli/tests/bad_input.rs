//! Bad input hurts nobody: each row of a table is something wrong, and what must come of it. After each row a peer that
//! behaves well appends and reads as before; at the end nothing it was acknowledged is lost, and the node's memory has
//! stayed within bounds. The numbers of the rows are those of the project's list of bad input.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "bad_input/batches.rs"]
mod batches;
#[path = "bad_input/disk.rs"]
mod disk;
#[path = "bad_input/environment.rs"]
mod environment;
#[path = "bad_input/frames.rs"]
mod frames;
#[path = "bad_input/machine.rs"]
mod machine;
#[path = "bad_input/names.rs"]
mod names;
#[path = "bad_input/reads.rs"]
mod reads;
#[path = "bad_input/rot.rs"]
mod rot;
mod support;

use cutwater_model::ErrorKind;

use support::Folder;
use support::node::{Node, Start};
use support::probe::Probe;
use support::raw::Raw;

/// What the node's memory may grow by over a whole table: payload memory is only taken when it is first used.
const GROWTH_BYTES_MAX: u64 = 384 << 20;

/// What must come of some bytes.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// The connection is closed without a word.
    Close,
    /// One answer with this error, and the connection is closed.
    CodeThenClose(ErrorKind),
    /// One answer with this error, and the connection goes on.
    Code(ErrorKind),
}

/// Sends bytes over a connection and sees what comes of them.
fn check(name: &str, raw: &mut Raw, bytes: &[u8], expect: Expect) {
    let _ = raw.send(bytes);
    let goes_on = match expect {
        Expect::Close => false,
        Expect::CodeThenClose(kind) => {
            let answer = raw.read().unwrap_or_else(|| panic!("{name}: closed, not answered"));
            assert_eq!(answer.code, kind.code(), "{name}: {answer:?}");
            false
        }
        Expect::Code(kind) => {
            let answer = raw.read().unwrap_or_else(|| panic!("{name}: closed, not answered"));
            assert_eq!(answer.code, kind.code(), "{name}: {answer:?}");
            true
        }
    };
    if goes_on {
        raw.ping();
    } else {
        let answer = raw.read();
        assert!(answer.is_none(), "{name}: not closed but answered: {answer:?}");
    }
}

/// A node with a well-behaved peer.
struct Scene {
    node: Node,
    probe: Probe,
    resident_bytes: u64,
    folder: Folder,
}

impl Scene {
    /// Two shards: half of what a connection asks for goes to the other one.
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let data = folder.path().join("data");
        let node = Node::start(&Start { data, log: folder.path().join("node.log"), port: 0, shards: 2 });
        let probe = Probe::new(node.address());
        let resident_bytes = node.resident_bytes();
        Self { node, probe, resident_bytes, folder }
    }

    fn connect(&self) -> Raw {
        Raw::connect(self.node.address())
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn end(mut self) {
        self.probe.check_all();
        let grown = self.node.resident_bytes().saturating_sub(self.resident_bytes);
        assert!(grown < GROWTH_BYTES_MAX, "the node has grown by {grown} bytes");
        self.node.stop();
    }
}
