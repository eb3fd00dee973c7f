//! Follows the chain of groups, from file to file and over gaps.

use alloc::vec::Vec;

use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::Storage;
use cutwater_model::{FileName, ShardId};

use super::evidence::{Behind, search};
use super::window::Window;
use super::{Gap, GroupInfo, ScanError, Scanned, journal_numbers};
use crate::entry::Entry;
use crate::group::{GROUP_VERSION, GroupFault, GroupHeader, GroupKind};
use crate::place::{Life, ReplayPlace};

pub(super) fn follow(
    storage: &mut dyn Storage,
    shard: ShardId,
    from: ReplayPlace,
    file_bytes: u64,
    mut visit: impl FnMut(&GroupInfo, Entry<'_>),
) -> Result<Scanned, ScanError> {
    let (files, unfinished) = files(storage, shard, file_bytes)?;
    let mut scanned = Scanned {
        shard,
        from,
        end: from,
        gaps: Vec::new(),
        used: Vec::new(),
        free: Vec::new(),
        unfinished,
        file_bytes,
        life_number_max: from.after.life.number,
        groups: 0,
        bytes: 0,
    };
    let mut window = Window::new(storage, shard);
    loop {
        let fault = follow_whole(&mut window, &files, &mut scanned, &mut visit)?;
        let behind = search(&mut window, shard, &files, file_bytes, &scanned.end)?;
        scanned.life_number_max = scanned.life_number_max.max(behind.life_number_max);
        let Some(next) = behind.next().copied() else { break };
        scanned.gaps.push(Gap { from: scanned.end, fault, next: next.sequence });
        scanned.end = resume(&scanned.end, &next);
    }
    let (used, free) = files.iter().partition(|number| scanned.used.contains(number));
    let _: &Vec<u32> = &used;
    scanned.free = free;
    if !scanned.gaps.is_empty() {
        // All files are kept: what is missing may be in any of them.
        let mut kept = core::mem::take(&mut scanned.free);
        kept.append(&mut scanned.used);
        scanned.used = kept;
    }
    Ok(scanned)
}

/// The files of the right length, and the others.
fn files(
    storage: &mut dyn Storage,
    shard: ShardId,
    file_bytes: u64,
) -> Result<(Vec<u32>, Vec<u32>), ScanError> {
    let mut files = Vec::new();
    let mut unfinished = Vec::new();
    for number in journal_numbers(storage, shard)? {
        let length = storage.length(FileName::Journal { shard, number })?;
        if length == Some(file_bytes) { files.push(number) } else { unfinished.push(number) }
    }
    Ok((files, unfinished))
}

/// Visits group after group until one doesn't go on, and says what is wrong with that one.
fn follow_whole(
    window: &mut Window<'_>,
    files: &[u32],
    scanned: &mut Scanned,
    visit: &mut impl FnMut(&GroupInfo, Entry<'_>),
) -> Result<GroupFault, ScanError> {
    loop {
        // A planted bug may lead round and round.
        #[cfg(feature = "plants")]
        if scanned.bytes > scanned.file_bytes * files.len() as u64 {
            return Ok(GroupFault::Chain);
        }
        let end = &mut scanned.end;
        let name = FileName::Journal { shard: scanned.shard, number: end.place.file };
        if !files.contains(&end.place.file) {
            return Err(ScanError::MissingFile {
                file: name,
                bytes: scanned.file_bytes,
                sequence: end.sequence(),
            });
        }
        if scanned.used.last() != Some(&end.place.file) {
            scanned.used.push(end.place.file);
        }
        let (header, bytes) = match whole_group(window, scanned.shard, end, scanned.file_bytes)? {
            Ok(group) => group,
            Err(fault) => return Ok(fault),
        };
        if header.version != GROUP_VERSION {
            return Err(ScanError::Version { file: name, at: end.place.at, version: header.version });
        }
        let info = GroupInfo { header, gaps_before: scanned.gaps.len() as u32 };
        let mut entries = header.entries(bytes);
        for entry in &mut entries {
            visit(&info, entry);
        }
        if entries.is_malformed() {
            return Err(ScanError::UnknownEntry { file: name, at: end.place.at });
        }
        *end = ReplayPlace { place: header.next_place(), after: header.chain_end() };
        scanned.life_number_max = scanned.life_number_max.max(header.life.number);
        scanned.groups += 1;
        scanned.bytes += u64::from(header.bytes);
    }
}

/// The group at the chain's end, or what is wrong with it.
#[allow(clippy::type_complexity)]
fn whole_group<'w>(
    window: &'w mut Window<'_>,
    shard: ShardId,
    end: &ReplayPlace,
    file_bytes: u64,
) -> Result<Result<(GroupHeader, &'w [u8]), GroupFault>, ScanError> {
    let block = window.get(end.place, BLOCK_BYTES, file_bytes)?;
    let header = match GroupHeader::decode(block) {
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };
    if !goes_on(&header, shard, end, file_bytes) {
        return Ok(Err(GroupFault::Chain));
    }
    let bytes = window.get(end.place, header.bytes as usize, file_bytes)?;
    if !header.digest_fits(bytes) {
        return Ok(Err(GroupFault::Digest));
    }
    Ok(Ok((header, bytes)))
}

/// Whether a group goes on from the chain's end (J3, J6).
fn goes_on(header: &GroupHeader, shard: ShardId, end: &ReplayPlace, file_bytes: u64) -> bool {
    let last = &end.after;
    let life_goes_on = match header.kind {
        GroupKind::Start => header.life.number > last.life.number,
        GroupKind::Ordinary | GroupKind::Skip => header.life == last.life,
    };
    let has_next = match header.kind {
        GroupKind::Start => header.next_file.is_some() || header.next_place().at < file_bytes,
        GroupKind::Ordinary => header.next_file.is_none() && header.next_place().at < file_bytes,
        GroupKind::Skip => header.next_file.is_some(),
    };
    #[cfg(feature = "plants")]
    if header.shard == shard && header.place == end.place && has_next && goes_on_planted(header, end) {
        return true;
    }
    header.shard == shard
        && header.place == end.place
        && header.sequence == end.sequence()
        && header.previous_digest == last.digest
        && header.life.origin == last.life.origin
        && life_goes_on
        && has_next
}

/// Whether a planted bug takes the group.
#[cfg(feature = "plants")]
fn goes_on_planted(header: &GroupHeader, end: &ReplayPlace) -> bool {
    use core::sync::atomic::Ordering::Relaxed;

    let of_any_lap = crate::plants::NO_LAP_CHECK.load(Relaxed) && header.life == end.after.life;
    let of_any_life = crate::plants::NO_LIFE_CHAIN.load(Relaxed) && header.sequence == end.sequence();
    of_any_lap || of_any_life
}

/// The chain's end as the first group behind a gap sees it.
fn resume(end: &ReplayPlace, next: &GroupHeader) -> ReplayPlace {
    let mut after = end.after;
    after.sequence.0 = next.sequence.0 - 1;
    after.digest = next.previous_digest;
    if next.kind != GroupKind::Start {
        after.life = next.life;
    }
    ReplayPlace { place: next.place, after }
}

/// Whether a group with that life may follow, at any distance, a group of the other.
pub(super) fn is_descendant(life: &Life, of: &Life) -> bool {
    life.origin == of.origin && (life.number > of.number || life == of)
}

impl Behind {
    /// The first group behind the gap, if there is one, that is: if something was lost.
    fn next(&self) -> Option<&GroupHeader> {
        self.first.as_ref().filter(|_| self.was_durable)
    }
}
