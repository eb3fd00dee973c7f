//! Everything a shard asks of its shell: a closed list, barriers included, so that the simulator sees them.

use alloc::{boxed::Box, string::String, vec::Vec};

use cutwater_api::{CloseReason, ConnectionId, Produced, Response, Ticket};
use cutwater_model::topic::TopicConfig;
use cutwater_model::{DirName, FileName, MemoryRange, ShardId, TopicId};

/// Names a disk operation until it is done. Never used again by the same shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// Names the memory of one answer until it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin(pub u32);

/// One thing to do. Disk operations may be done in any order and side by side; the shard orders them by waiting.
#[derive(Debug)]
pub enum Effect {
    /// Write whole blocks by O_DIRECT; with `durable`, as one RWF_DSYNC write.
    Write {
        /// Its name.
        op: OpId,
        /// Where to.
        file: FileName,
        /// At which byte of the file.
        at: u64,
        /// What.
        memory: MemoryRange,
        /// Whether it is done only once it is on stable storage.
        durable: bool,
    },
    /// Read whole blocks by O_DIRECT.
    Read {
        /// Its name.
        op: OpId,
        /// Where from.
        file: FileName,
        /// At which byte of the file.
        at: u64,
        /// Where to in memory.
        memory: MemoryRange,
    },
    /// Flush a file's bytes and length: fdatasync.
    Sync {
        /// Its name.
        op: OpId,
        /// Which file.
        file: FileName,
    },
    /// Flush everything of the data folder: syncfs.
    SyncAll {
        /// Its name.
        op: OpId,
    },
    /// Make a file, and its folders where they are missing. Names are not flushed: [`Effect::SyncAll`] or
    /// [`Effect::SyncDir`] does that.
    Create {
        /// Its name.
        op: OpId,
        /// Which file; one of that name is replaced.
        file: FileName,
        /// How long.
        bytes: u64,
        /// Whether its space is written with zeros and flushed (J1), or only reserved (fallocate).
        written: bool,
        /// Whether nobody waits for it: then it is made slowly, out of the way of the journal.
        background: bool,
    },
    /// Lengthen a file by reserved space (fallocate), flushed.
    Extend {
        /// Its name.
        op: OpId,
        /// Which file.
        file: FileName,
        /// The length it has.
        from: u64,
        /// The length it is to have.
        to: u64,
    },
    /// Give a file another name. Not flushed.
    Rename {
        /// Its name.
        op: OpId,
        /// The name it has.
        from: FileName,
        /// The name it is to have.
        to: FileName,
    },
    /// Make a folder, and those above where they are missing. Not flushed: [`Effect::SyncAll`] follows.
    CreateDir {
        /// Its name.
        op: OpId,
        /// Which folder.
        dir: DirName,
    },
    /// Flush a folder's names.
    SyncDir {
        /// Its name.
        op: OpId,
        /// Which folder.
        dir: DirName,
    },
    /// Remove a file: its name at once, its space in small paced steps (S6).
    Remove {
        /// Its name.
        op: OpId,
        /// Which file.
        file: FileName,
    },
    /// Remove an empty folder. Not flushed. A topic's folder with other partitions in it stays, which is no error.
    RemoveDir {
        /// Its name.
        op: OpId,
        /// Which folder.
        dir: DirName,
    },
    /// Answer a request, or push.
    Reply {
        /// Which.
        ticket: Ticket,
        /// The answer.
        response: Box<Response>,
        /// What its memory is held by, if it names any.
        pin: Option<Pin>,
    },
    /// Stop receiving from a connection.
    Pause(ConnectionId),
    /// Receive from it again.
    Resume(ConnectionId),
    /// End a connection, once the answers are sent that came with or before this.
    Close(ConnectionId, CloseReason),
    /// Have the control thread change the metadata; it answers by [`crate::Input::ControlDone`].
    Control {
        /// Whose request.
        ticket: Ticket,
        /// What.
        command: Box<ControlCommand>,
    },
    /// The shard takes no appends any more; why, for the operator.
    Fence(String),
    /// Stored bytes are not what was written; which, for the operator. Told once for each range.
    Damage(String),
    /// Nothing is left to do: the last checkpoint is written.
    Stopped,
}

/// A change of the metadata, owned, on its way to the control thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlCommand {
    /// Make a topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its partitions.
        partitions: u32,
        /// Its settings.
        config: TopicConfig,
    },
    /// Remove a topic.
    DeleteTopic {
        /// Which.
        topic: TopicId,
    },
    /// Give a topic more partitions.
    AddPartitions {
        /// Which.
        topic: TopicId,
        /// How many in all.
        partitions: u32,
    },
    /// Draw a producer id.
    AllocateProducerId,
    /// Every file of a deleted topic is gone from this shard, and its checkpoint is past every entry of it (M2).
    TopicGone {
        /// Which.
        topic: TopicId,
        /// From which shard.
        shard: ShardId,
    },
}

/// The answer to one produce request; apart from the other effects because there are millions a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Whose.
    pub ticket: Ticket,
    /// What.
    pub produced: Produced,
}

/// What one or more inputs came to.
#[derive(Debug, Default)]
pub struct Effects {
    /// What to do, in order.
    pub list: Vec<Effect>,
    /// Answers to produce requests; they may be sent before or after what is in the list, in their own order.
    pub acks: Vec<Ack>,
    /// Messages to other shards: for each shard bytes of whole messages, each after its length as `u32` LE.
    pub to_shards: Vec<Vec<u8>>,
    /// The shard has more to do at once: hand it [`crate::Input::Continue`] again without waiting.
    pub more: bool,
    /// Hand it [`crate::Input::Tick`] at this moment of the monotonic clock at the latest.
    pub wake_us: Option<u64>,
}

impl Effects {
    /// Effects for a node of so many shards.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self { to_shards: (0..shards).map(|_| Vec::new()).collect(), ..Self::default() }
    }

    /// Appends an effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Asks for a tick at that moment at the latest.
    pub fn wake_at(&mut self, mono_us: u64) {
        self.wake_us = Some(self.wake_us.map_or(mono_us, |earlier| earlier.min(mono_us)));
    }

    /// Writes one message to another shard.
    pub fn send_shard(&mut self, to: ShardId, parts: &[&[u8]]) {
        let bytes = &mut self.to_shards[usize::from(to.0)];
        let len: usize = parts.iter().map(|part| part.len()).sum();
        bytes.extend_from_slice(&(len as u32).to_le_bytes());
        for part in parts {
            bytes.extend_from_slice(part);
        }
    }
}
