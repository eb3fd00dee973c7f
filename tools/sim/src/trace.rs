//! What happened in a run, in order: one seed, one trace.
//!
//! Every event goes into a digest, so two runs of a seed can be compared without keeping them; where asked, the
//! events are kept, printed, or saved as an rkyv image that names the format it was written in.

use cutwater_model::checksum::digest64;
use rkyv::{Archive, Deserialize, Serialize};

/// The layout of a saved trace, in words; its digest stands at the front of every saved one.
const FORMAT: &str =
    "trace 1: format u64, seed u64, events [at_us u64, shard u16, kind string, numbers [u64;3]]";

/// One thing that happened.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, on the simulated clock.
    pub at_us: u64,
    /// On which shard; 65535 for the world around them.
    pub shard: u16,
    /// What.
    pub kind: String,
    /// What tells it apart.
    pub numbers: [u64; 3],
}

/// A trace as it is saved.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The digest of the format's description.
    pub format: u64,
    /// The seed it belongs to.
    pub seed: u64,
    /// Everything that happened, in order.
    pub events: Vec<Event>,
}

/// The trace of a run under way.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    digest: u64,
    count: u64,
    /// Whether events are printed as they happen.
    prints: bool,
    kept: Option<Vec<Event>>,
}

/// Stands for "no shard" in an event.
pub const WORLD: u16 = u16::MAX;

/// The digest that saved traces of this build carry.
#[must_use]
pub fn format_digest() -> u64 {
    digest64(0, FORMAT.as_bytes())
}

impl Trace {
    /// A trace that prints or keeps its events, or neither.
    #[must_use]
    pub fn new(prints: bool, keeps: bool) -> Self {
        Self { prints, kept: keeps.then(Vec::new), ..Self::default() }
    }

    /// Something happened.
    pub fn note(&mut self, at_us: u64, shard: u16, kind: &'static str, numbers: [u64; 3]) {
        let mut bytes = [0; 34];
        bytes[..8].copy_from_slice(&at_us.to_le_bytes());
        bytes[8..10].copy_from_slice(&shard.to_le_bytes());
        for (index, number) in numbers.into_iter().enumerate() {
            bytes[10 + 8 * index..18 + 8 * index].copy_from_slice(&number.to_le_bytes());
        }
        self.digest = digest64(digest64(self.digest, kind.as_bytes()), &bytes);
        self.count += 1;
        if let Some(kept) = &mut self.kept {
            kept.push(Event { at_us, shard, kind: kind.to_owned(), numbers });
        }
    }

    /// Says more about what happens, where anybody listens.
    pub fn say(&self, at_us: u64, shard: u16, text: impl FnOnce() -> String) {
        if self.prints {
            let shard = if shard == WORLD { "-".to_owned() } else { shard.to_string() };
            println!("{:>10}.{:03} {shard:>2} {}", at_us / 1000, at_us % 1000, text());
        }
    }

    /// Whether events are printed.
    #[must_use]
    pub const fn prints(&self) -> bool {
        self.prints
    }

    /// The digest of all that happened.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// How much happened.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The bytes of the saved form, if events were kept.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn save(self, seed: u64) -> anyhow::Result<Vec<u8>> {
        let saved = Saved { format: format_digest(), seed, events: self.kept.unwrap_or_default() };
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&saved)?;
        Ok(bytes.to_vec())
    }
}

/// Reads a saved trace.
///
/// # Errors
/// If the bytes are no trace, or one of another format.
pub fn load(bytes: &[u8]) -> anyhow::Result<Saved> {
    let mut aligned = rkyv::util::AlignedVec::<16>::new();
    aligned.extend_from_slice(bytes);
    let saved = rkyv::from_bytes::<Saved, rkyv::rancor::Error>(&aligned)?;
    anyhow::ensure!(saved.format == format_digest(), "the trace was saved by a build with another format");
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_trace_is_read_back_and_another_format_is_refused() {
        let mut trace = Trace::new(false, true);
        trace.note(7, 1, "tick", [1, 2, 3]);
        let bytes = trace.clone().save(9).unwrap();
        let saved = load(&bytes).unwrap();
        assert_eq!((saved.seed, saved.events.len(), saved.events[0].numbers), (9, 1, [1, 2, 3]));
        let other = Saved { format: 1, ..saved };
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&other).unwrap();
        assert!(load(&bytes).is_err());
        assert!(load(&bytes[..5]).is_err());
    }

    #[test]
    fn every_number_of_an_event_counts() {
        let digest = |at_us, shard, kind, numbers| {
            let mut trace = Trace::default();
            trace.note(at_us, shard, kind, numbers);
            trace.digest()
        };
        let one = digest(1, 2, "a", [3, 4, 5]);
        assert_eq!(one, digest(1, 2, "a", [3, 4, 5]));
        for other in
            [digest(2, 2, "a", [3, 4, 5]), digest(1, 3, "a", [3, 4, 5]), digest(1, 2, "b", [3, 4, 5])]
        {
            assert_ne!(one, other);
        }
        assert_ne!(one, digest(1, 2, "a", [3, 4, 6]));
    }
}
