//! Searches behind the chain's end for groups which say that more was durable (R3).

use cutwater_model::ShardId;
use cutwater_model::limits::{BLOCK_BYTES, GROUP_BYTES_MAX, GROUPS_IN_FLIGHT_MAX};

use super::ScanError;
use super::chain::is_descendant;
use super::window::Window;
use crate::group::{GROUP_HEADER_BYTES, GroupHeader};
use crate::place::{Place, ReplayPlace};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// How much of the beginning of each other file is searched: behind the groups that can be in flight at once there is
/// one that was submitted after the missing one completed.
const HEAD_BYTES: u64 = (GROUPS_IN_FLIGHT_MAX as u64 + 2) * GROUP_BYTES_MAX as u64;

/// What was found behind the chain's end.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// The group of the lowest sequence behind the missing one.
    pub(super) first: Option<GroupHeader>,
    /// Whether one of them says that the missing one was durable.
    pub(super) was_durable: bool,
    /// The highest number of a life among them.
    pub(super) life_number_max: u32,
}

/// Searches the rest of the file where the chain ends, and the beginnings of all other files.
pub(super) fn search(
    window: &mut Window<'_>,
    shard: ShardId,
    files: &[u32],
    file_bytes: u64,
    end: &ReplayPlace,
) -> Result<Behind, ScanError> {
    let mut behind = Behind::default();
    behind.search_range(window, shard, end, end.place, file_bytes)?;
    for &file in files.iter().filter(|&&file| file != end.place.file) {
        let head = Place { file, at: 0 };
        if !is_all_older(window, shard, end, head, file_bytes)? {
            behind.search_range(window, shard, end, head, file_bytes.min(HEAD_BYTES))?;
        }
    }
    Ok(behind)
}

/// Whether the file begins with a group so old that none in the file can come after the chain's end.
fn is_all_older(
    window: &mut Window<'_>,
    shard: ShardId,
    end: &ReplayPlace,
    head: Place,
    file_bytes: u64,
) -> Result<bool, ScanError> {
    let Some(header) = header_at(window, shard, end, head, BLOCK)? else { return Ok(false) };
    if header.sequence.0.saturating_add(file_bytes / BLOCK) >= end.after.sequence.0 {
        return Ok(false);
    }
    let bytes = window.get(head, header.bytes as usize, u64::from(header.bytes))?;
    Ok(header.digest_fits(bytes))
}

impl Behind {
    fn search_range(
        &mut self,
        window: &mut Window<'_>,
        shard: ShardId,
        end: &ReplayPlace,
        mut place: Place,
        until: u64,
    ) -> Result<(), ScanError> {
        while place.at + BLOCK <= until {
            place.at += match header_at(window, shard, end, place, until)? {
                Some(header) => self.note(window, end, &header)?,
                None => BLOCK,
            };
        }
        Ok(())
    }

    /// Takes note of a group if it is whole and later than the chain's end; returns how far to go on.
    fn note(
        &mut self,
        window: &mut Window<'_>,
        end: &ReplayPlace,
        header: &GroupHeader,
    ) -> Result<u64, ScanError> {
        let group_end = header.place.at + u64::from(header.bytes);
        let bytes = window.get(header.place, header.bytes as usize, group_end)?;
        if !header.digest_fits(bytes) {
            return Ok(BLOCK);
        }
        let missing = end.sequence();
        if header.sequence > missing && is_descendant(&header.life, &end.after.life) {
            self.was_durable |= header.durable >= missing;
            self.life_number_max = self.life_number_max.max(header.life.number);
            if self.first.is_none_or(|first| header.sequence < first.sequence) {
                self.first = Some(*header);
            }
        }
        Ok(u64::from(header.bytes))
    }
}

/// The header at a place if it was written there by this journal; its digest is not checked yet.
fn header_at(
    window: &mut Window<'_>,
    shard: ShardId,
    end: &ReplayPlace,
    place: Place,
    until: u64,
) -> Result<Option<GroupHeader>, ScanError> {
    let block = window.get(place, BLOCK_BYTES, until)?;
    if block.len() < GROUP_HEADER_BYTES {
        return Ok(None);
    }
    let header = GroupHeader::decode(block).ok();
    Ok(header.filter(|header| {
        header.shard == shard && header.place == place && header.life.origin == end.after.life.origin
    }))
}
