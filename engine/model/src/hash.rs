//! A hash for tables whose keys a peer can't choose freely: fast, the same in every run.
//!
//! Topic ids are drawn by the node and partition counts are bounded, so a peer can't crowd a bucket; a fixed hash
//! also lets the simulator replay a seed exactly.

use core::hash::{BuildHasherDefault, Hasher};

/// Builds [`FixedHasher`]s for a hash table.
pub type BuildFixedHasher = BuildHasherDefault<FixedHasher>;

/// Multiplies and folds each word into the state (the construction of wyhash: a 64 x 64 to 128 bit product, folded).
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedHasher(u64);

impl FixedHasher {
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db_u128;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for FixedHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word) ^ chunk.len() as u64);
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.word(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    fn write_u128(&mut self, word: u128) {
        self.word(word as u64);
        self.word((word >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }
}
