//! What clients do: each is a small machine that asks, checks its answers against the oracle, and asks again.
//!
//! A client sees requests and answers only, as a door's peer would. It is woken when it is connected and whenever
//! it asked to be; when its connection is lost, every request without an answer is in doubt.

pub mod admin;
pub mod auditor;
pub mod numbered;
pub mod payload;
pub mod plain;
pub mod reader;
pub mod subscriber;

use cutwater_api::Response;
use cutwater_model::topic::{Durability, TimestampType, TopicConfig};
use cutwater_model::{ErrorKind, Now, PartitionId};

use crate::finding::{Checked, Finding};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::request::Sent;
use payload::Filling;

/// What all clients of a seed have in common.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The largest batch sent, in bytes.
    pub batch_bytes_max: u64,
    /// How long a client rests between two things, on average, microseconds.
    pub rest_us: u64,
    /// How many partitions a new topic may have.
    pub partitions_max: u64,
    /// The length of a new topic's segments, in bytes.
    pub segment_bytes: u32,
    /// How many topics of a hundred are of durability `memory`.
    pub memory_percent: u64,
    /// Errors of the disk are on, so storage errors are legal answers.
    pub disk_fails: bool,
    /// The disk may be full, so appends may be refused for that.
    pub disk_fills: bool,
}

/// What a client may use while it is at work.
pub struct Hands<'a> {
    /// The time.
    pub now: Now,
    /// Its own chance.
    pub random: &'a mut Random,
    /// What must be true.
    pub oracle: &'a mut Oracle,
    /// What all have in common.
    pub habits: &'a Habits,
    /// Nothing new is to be begun.
    pub winding_down: bool,
    /// Bytes found on the disk, for payloads that imitate them.
    pub sample: &'a [u8],
    /// The next number of a request.
    pub correlation: &'a mut u32,
    /// What is asked.
    pub asked: Vec<(u32, Sent)>,
    /// When to wake the client again.
    pub wake_us: Option<u64>,
    /// The client leaves: its connection ends.
    pub leaves: bool,
}

/// One client.
pub trait Client {
    /// What it is, in a word.
    fn kind(&self) -> &'static str;

    /// It is connected, or has asked to be woken.
    ///
    /// # Errors
    /// If it finds something wrong.
    fn wake(&mut self, hands: &mut Hands<'_>) -> Checked;

    /// An answer has come.
    ///
    /// # Errors
    /// If it finds something wrong.
    fn answer(&mut self, correlation: u32, response: Response, hands: &mut Hands<'_>) -> Checked;

    /// The connection is gone, with all answers that were on their way.
    fn gone(&mut self, oracle: &mut Oracle);

    /// Whether it has nothing left to do, when nothing new is to be begun.
    fn is_done(&self) -> bool;
}

impl Hands<'_> {
    /// Asks something and tells its number.
    pub fn ask(&mut self, sent: Sent) -> u32 {
        *self.correlation += 1;
        self.asked.push((*self.correlation, sent));
        *self.correlation
    }

    /// Wants to be woken after about one rest.
    pub fn rest(&mut self) {
        let rest_us = self.habits.rest_us;
        let wait_us = if self.random.one_in(10) {
            self.random.below(rest_us * 20)
        } else {
            self.random.below(rest_us * 2)
        };
        self.wake_after(wait_us);
    }

    /// Wants to be woken after so long.
    pub fn wake_after(&mut self, us: u64) {
        let at_us = self.now.mono_us + us + 1;
        self.wake_us = Some(self.wake_us.map_or(at_us, |earlier| earlier.min(at_us)));
    }

    /// A partition that lives, if there is one; a few partitions get most of what is sent.
    pub fn pick_partition(&mut self) -> Option<PartitionId> {
        let partitions = self.oracle.live_partitions();
        let among = if self.random.percent(60) { partitions.len().min(3) } else { partitions.len() };
        self.random.pick(&partitions[..among]).copied()
    }

    /// How large the next batch is: mostly small, sometimes as large as it may be.
    pub fn pick_bytes(&mut self) -> usize {
        let max = self.habits.batch_bytes_max;
        let bytes = match self.random.below(20) {
            0..8 => self.random.between(100, 400),
            8..14 => self.random.between(100, 5_000),
            14..18 => self.random.between(100, (max / 4).max(101)),
            _ => self.random.between(100, max),
        };
        bytes as usize
    }

    /// What the next batch is filled with.
    pub fn pick_filling(&mut self) -> Filling<'static> {
        if self.random.one_in(4) { Filling::Zeros } else { Filling::Noise }
    }

    /// Settings for a new topic.
    pub fn pick_config(&mut self) -> TopicConfig {
        let is_memory = self.random.percent(self.habits.memory_percent);
        let is_stamped = self.random.one_in(4);
        TopicConfig {
            durability: if is_memory { Durability::Memory } else { Durability::Disk },
            timestamp_type: if is_stamped { TimestampType::LogAppend } else { TimestampType::Create },
            segment_bytes: self.habits.segment_bytes,
            ..TopicConfig::default()
        }
    }

    /// What a refused append means: whether it may be sent again, and whether it may have been appended.
    ///
    /// # Errors
    /// If there is no reason for such an answer.
    pub fn judge_refusal(&mut self, kind: ErrorKind, partition: PartitionId) -> Checked<Refused> {
        match kind {
            ErrorKind::ThrottlingQuotaExceeded | ErrorKind::NotReady => Ok(Refused::Retry),
            ErrorKind::DiskFull if self.habits.disk_fills || self.habits.disk_fails => Ok(Refused::Retry),
            ErrorKind::StorageError | ErrorKind::DamagedRange
                if self.habits.disk_fails || self.oracle.rotten =>
            {
                Ok(Refused::InDoubt)
            }
            ErrorKind::UnknownTopicId
            | ErrorKind::UnknownTopicOrPartition
            | ErrorKind::NotLeaderOrFollower => {
                // News of a topic reaches each shard in its own time, so a refusal of a living one is legal for a
                // while; one that never ends fails the audit.
                Ok(Refused::Retry)
            }
            _ => Err(Finding::new("errors have a reason", format!("{kind:?} for a batch to {partition}"))),
        }
    }
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was not appended; the same again may succeed.
    Retry,
    /// It may have been appended all the same.
    InDoubt,
}

/// The finding about an answer that doesn't fit its question.
#[must_use]
pub fn misfit(question: &str, response: &Response) -> Finding {
    let mut seen = format!("{question} is answered by {response:?}");
    seen.truncate(400);
    Finding::new("answers fit their questions", seen)
}
