//! One file's bytes: what reads see, what the platter holds, and what lies between in a volatile cache.

use cutwater_model::limits::BLOCK_BYTES;

use super::fate::{Fate, Fates, PendingId};
use super::page::{PageRef, SECTORS, mixed, page_of, zeros};

/// A file without its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    blocks: Vec<Block>,
    length: u64,
    durable_length: u64,
    lengths: Vec<Length>,
    /// Whether anything of it waits for a flush.
    dirty: bool,
}

/// One block. `None` in its places is space that was reserved and never written: it reads as zeros.
#[derive(Clone, Debug, Default)]
struct Block {
    current: Option<PageRef>,
    durable: Option<PageRef>,
    versions: Vec<Version>,
}

/// A write of one block that no flush has covered.
#[derive(Clone, Debug)]
struct Version {
    id: PendingId,
    moment: u64,
    page: PageRef,
    first_sector: u32,
    sectors: u32,
    /// A flush of it failed: no later flush covers it.
    given_up: bool,
}

/// A length that no flush has covered.
#[derive(Clone, Copy, Debug)]
struct Length {
    id: PendingId,
    moment: u64,
    length: u64,
}

/// How a write or a length gets to the platter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It is there at once.
    Platter,
    /// It waits for a flush.
    Cache {
        /// Its name.
        id: PendingId,
        /// When it was done.
        moment: u64,
    },
}

impl Inode {
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether all blocks of a range have been written, so that their space needs no conversion.
    pub(super) fn is_written(&self, at: u64, len: u64) -> bool {
        let range = at as usize / BLOCK_BYTES..((at + len) as usize).div_ceil(BLOCK_BYTES);
        self.blocks.get(range).is_some_and(|blocks| blocks.iter().all(|block| block.durable.is_some()))
    }

    /// How many blocks of space it takes.
    pub(super) const fn space_blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> usize {
        let count = self.length.saturating_sub(at).min(into.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let place = at as usize + done;
            let within = place % BLOCK_BYTES;
            let step = (BLOCK_BYTES - within).min(count - done);
            let target = &mut into[done..done + step];
            match self.blocks.get(place / BLOCK_BYTES).and_then(|block| block.current.as_ref()) {
                Some(page) => target.copy_from_slice(&page[within..within + step]),
                None => target.fill(0),
            }
            done += step;
        }
        count
    }

    /// Writes bytes, lengthening the file where they lie beyond its end.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8], reach: Reach) {
        let end = at + bytes.len() as u64;
        if end > self.length {
            self.set_length(end, reach);
        }
        let sectors = (bytes.len().div_ceil(BLOCK_BYTES) * SECTORS) as u32;
        let mut done = 0;
        let mut first_sector = 0;
        while done < bytes.len() {
            let place = at as usize + done;
            let within = place % BLOCK_BYTES;
            let step = (BLOCK_BYTES - within).min(bytes.len() - done);
            let page = if step == BLOCK_BYTES {
                page_of(&bytes[done..done + step])
            } else {
                let mut whole = [0; BLOCK_BYTES];
                if let Some(page) = &self.blocks[place / BLOCK_BYTES].current {
                    whole = **page;
                }
                whole[within..within + step].copy_from_slice(&bytes[done..done + step]);
                page_of(&whole)
            };
            self.write_page(place / BLOCK_BYTES, page, first_sector, sectors, reach);
            first_sector += SECTORS as u32;
            done += step;
        }
    }

    fn write_page(&mut self, index: usize, page: PageRef, first_sector: u32, sectors: u32, reach: Reach) {
        let block = &mut self.blocks[index];
        block.current = Some(PageRef::clone(&page));
        match reach {
            Reach::Platter => {
                block.durable = Some(page);
                block.versions.clear();
            }
            Reach::Cache { id, moment } => {
                let version = Version { id, moment, page, first_sector, sectors, given_up: false };
                block.versions.push(version);
                self.dirty = true;
            }
        }
    }

    /// Writes only some sectors, as a device does that fails or loses power in the middle.
    pub(super) fn write_torn(&mut self, at: u64, bytes: &[u8], seed: u64, id: PendingId, moment: u64) {
        let before = self.clone();
        self.write(at, bytes, Reach::Cache { id, moment });
        let fate = Fate::Torn(seed);
        for block in &mut self.blocks {
            for version in block.versions.iter_mut().filter(|version| version.id == id) {
                version.given_up = true;
            }
        }
        let first = at as usize / BLOCK_BYTES;
        for (index, block) in self.blocks.iter_mut().enumerate().skip(first) {
            let Some(version) = block.versions.last_mut().filter(|version| version.id == id) else { break };
            let under = before.blocks.get(index).and_then(|block| block.current.as_ref());
            let page = mixed(under, &version.page, fate.mask(version.first_sector, version.sectors));
            version.page = PageRef::clone(&page);
            block.current = Some(page);
        }
    }

    /// Reserves space up to a length, or gives it up beyond it.
    pub(super) fn set_length(&mut self, length: u64, reach: Reach) {
        self.blocks.resize(length.div_ceil(BLOCK_BYTES as u64) as usize, Block::default());
        self.length = length;
        match reach {
            Reach::Platter => {
                self.durable_length = length;
                self.lengths.clear();
            }
            Reach::Cache { id, moment } => {
                self.lengths.push(Length { id, moment, length });
                self.dirty = true;
            }
        }
    }

    /// Writes zeros over everything, so that all its space is written space.
    pub(super) fn fill_with_zeros(&mut self) {
        for block in &mut self.blocks {
            block.current = Some(zeros());
            block.durable = Some(zeros());
            block.versions.clear();
        }
    }

    /// A flush of this file that covers what was done by that moment.
    pub(super) fn flush(&mut self, moment: u64) {
        if !self.dirty {
            return;
        }
        let covered = self.lengths.iter().take_while(|length| length.moment <= moment).count();
        if let Some(last) = self.lengths.drain(..covered).next_back() {
            self.durable_length = last.length;
        }
        self.flush_bytes(moment, true);
    }

    /// A flush of the device's cache: bytes in space that the platter knows as written, but no lengths and no
    /// changes of extents, which the file system has not sent to the device yet.
    pub(super) fn flush_cache(&mut self, moment: u64) {
        if self.dirty {
            self.flush_bytes(moment, false);
        }
    }

    fn flush_bytes(&mut self, moment: u64, converts: bool) {
        let mut left = !self.lengths.is_empty();
        for block in self.blocks.iter_mut().filter(|block| !block.versions.is_empty()) {
            if converts || block.durable.is_some() {
                let covered = block.versions.iter().take_while(|it| it.moment <= moment).count();
                let durable = block.versions[..covered].iter().rev().find(|version| !version.given_up);
                if let Some(version) = durable {
                    let moment = version.moment;
                    block.durable = Some(PageRef::clone(&version.page));
                    block.versions.retain(|version| version.moment > moment);
                }
            }
            left |= !block.versions.is_empty();
        }
        self.dirty = left;
    }

    /// A flush of this file failed: what it would have covered is in doubt for ever.
    pub(super) fn give_up(&mut self, moment: u64) {
        for version in self.blocks.iter_mut().flat_map(|block| &mut block.versions) {
            version.given_up |= version.moment <= moment;
        }
    }

    /// The names of all that waits for a flush.
    pub(super) fn pending(&self, into: &mut Vec<PendingId>) {
        if self.dirty {
            into.extend(self.lengths.iter().map(|length| length.id));
            into.extend(self.blocks.iter().flat_map(|block| &block.versions).map(|version| version.id));
        }
    }

    /// The power went: only the platter and what fate kept are left.
    pub(super) fn settle(&mut self, fates: &Fates) {
        if self.dirty {
            for block in self.blocks.iter_mut().filter(|block| !block.versions.is_empty()) {
                for version in block.versions.drain(..) {
                    match fates.of(version.id).mask(version.first_sector, version.sectors) {
                        0 => {}
                        u8::MAX => block.durable = Some(version.page),
                        // A block is converted from reserved to written as a whole.
                        mask => block.durable = Some(mixed(block.durable.as_ref(), &version.page, mask)),
                    }
                }
                block.current.clone_from(&block.durable);
            }
            for length in self.lengths.drain(..) {
                if fates.of(length.id).keeps_whole() {
                    self.durable_length = length.length;
                }
            }
        }
        self.length = self.durable_length;
        self.blocks.resize(self.length.div_ceil(BLOCK_BYTES as u64) as usize, Block::default());
        self.dirty = false;
    }

    /// Flips one bit of what is at rest.
    pub(super) fn rot(&mut self, at: u64, bit: u8) {
        let place = at as usize;
        if let Some(block) = self.blocks.get_mut(place / BLOCK_BYTES) {
            for page in [&mut block.current, &mut block.durable].into_iter().flatten() {
                PageRef::make_mut(page)[place % BLOCK_BYTES] ^= 1 << (bit % 8);
            }
        }
    }
}
