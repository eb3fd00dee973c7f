//! Collecting from other shards: nothing is asked for that there is no room for.
//!
//! A shard asks another for so many bytes at most and keeps room for them from then on until they are sent to the
//! peer. So neither what it holds nor what waits on the other side grows with the number of fetches (B24, B84). Who
//! finds no room waits in line, one line for each shard.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cutwater_api::FetchedPart;
use cutwater_model::{Now, ShardId, limits};

use crate::effect::Effects;
use crate::message::Message;
use crate::readers::{Reader, ReaderId};
use crate::shard::Shard;

/// Room for what comes from other shards.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Bytes asked for, or held until they are sent.
    used: u64,
    /// By shard.
    lanes: Vec<Lane>,
    /// The lane that is looked at first, so that none always comes last.
    first: usize,
    /// Some was given back since those who wait were looked at.
    has_freed: bool,
}

/// One other shard.
#[derive(Debug, Default)]
struct Lane {
    /// Bytes asked for and not answered.
    asked: u64,
    /// Who waits for room for so many.
    waiting: VecDeque<(ReaderId, u64)>,
}

impl Room {
    pub(crate) fn new(shards: u16) -> Self {
        Self { lanes: (0..shards).map(|_| Lane::default()).collect(), ..Self::default() }
    }

    /// Whether half is taken: then nobody has more than one answer on the way.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.used > limits::COLLECTED_BYTES_MAX as u64 / 2
    }

    /// Bytes asked for or held.
    #[cfg(test)]
    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    fn fits(&self, lane: &Lane, bytes: u64) -> bool {
        let fits_lane =
            lane.asked == 0 || lane.asked + bytes <= u64::from(limits::COLLECT_BYTES_IN_FLIGHT_MAX);
        fits_lane && (self.used == 0 || self.used + bytes <= u64::from(limits::COLLECTED_BYTES_MAX))
    }

    /// Takes room for a question, or puts the reader in line.
    fn take_or_wait(&mut self, shard: ShardId, reader: ReaderId, bytes: u64) -> bool {
        let Some(lane) = self.lanes.get(usize::from(shard.0)) else { return false };
        let has_room = lane.waiting.is_empty() && self.fits(lane, bytes);
        if has_room {
            self.take(shard, bytes);
        } else if let Some(lane) = self.lanes.get_mut(usize::from(shard.0)) {
            lane.waiting.push_back((reader, bytes));
        }
        has_room
    }

    /// Takes room for a question.
    fn take(&mut self, shard: ShardId, bytes: u64) {
        if let Some(lane) = self.lanes.get_mut(usize::from(shard.0)) {
            lane.asked += bytes;
            self.used += bytes;
        }
    }

    /// The question for so many bytes was answered with so many, which are held now.
    fn answered(&mut self, shard: ShardId, asked: u64, came: u64) {
        if let Some(lane) = self.lanes.get_mut(usize::from(shard.0)) {
            lane.asked = lane.asked.saturating_sub(asked);
        }
        self.used = self.used.saturating_sub(asked) + came;
        self.has_freed = true;
    }

    /// Bytes that were held were sent, or nobody wants them any more.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        self.has_freed |= bytes > 0;
    }

    /// The next in line for whom there is room.
    fn next_in_line(&mut self) -> Option<(ShardId, ReaderId, u64)> {
        let lanes = self.lanes.len();
        for step in 0..lanes {
            let index = (self.first + step) % lanes;
            let lane = &self.lanes[index];
            let Some(&(reader, bytes)) = lane.waiting.front() else { continue };
            if self.fits(lane, bytes) {
                self.lanes[index].waiting.pop_front();
                self.first = (index + 1) % lanes;
                return Some((ShardId(index as u16), reader, bytes));
            }
        }
        None
    }
}

impl Shard {
    /// Other shards are asked one after the other, each for what is left of the budget: only so do all of them together
    /// keep to it.
    pub(crate) fn ask_next_shard(&mut self, reader: &mut Reader, effects: &mut Effects) {
        let Some((shard, bytes)) = next_question(reader) else { return };
        if self.room.take_or_wait(shard, reader.id, bytes) {
            self.ask(reader, shard, bytes, effects);
        } else if let Some(gather) = &mut reader.gather {
            gather.waits_for_room = true;
        }
    }

    /// Asks a shard for something for which there is room.
    fn ask(&mut self, reader: &mut Reader, shard: ShardId, bytes: u64, effects: &mut Effects) {
        let watch = reader.id.number();
        let Some(gather) = &mut reader.gather else { return };
        let (bytes_max, exceed_max) = gather.question();
        gather.to_ask.pop();
        gather.waits_for_room = false;
        gather.asked = Some(bytes);
        gather.waiting += 1;
        self.send(shard, &Message::Collect { watch, bytes_max, exceed_max }, effects);
    }

    /// Room was given back: those in line are asked for.
    pub(crate) fn serve_line(&mut self, effects: &mut Effects) {
        if !core::mem::take(&mut self.room.has_freed) {
            return;
        }
        while let Some((shard, id, bytes)) = self.room.next_in_line() {
            let Some(mut reader) = self.readers.take(id) else { continue };
            if reader.gather.as_ref().is_some_and(|gather| gather.waits_for_room) {
                self.room.take(shard, bytes);
                self.ask(&mut reader, shard, bytes, effects);
            }
            self.readers.put_back(reader);
        }
    }

    /// Another shard has answered. With `wanted` it has nothing but a batch of that length, larger than was asked for.
    pub(crate) fn on_collected(
        &mut self,
        from: ShardId,
        watch: u64,
        parts: Vec<FetchedPart>,
        wanted: u32,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(mut reader) = self.readers.take(ReaderId::from_number(watch)) else { return };
        for remote in reader.remotes.iter_mut().filter(|remote| remote.shard == from) {
            remote.ready_bytes = 0;
            remote.is_urgent = false;
        }
        let Some(gather) = &mut reader.gather else {
            self.readers.put_back(reader);
            return;
        };
        let came: u64 = parts.iter().map(|fetched| fetched.len() as u64).sum();
        // Nobody may want it any more; then the reader ends below and gives all of it back.
        self.room.answered(from, gather.asked.take().unwrap_or(0), came);
        gather.waiting -= 1;
        effects.more = true;
        if wanted > gather.remote_exceed_max && wanted <= limits::BATCH_BYTES_MAX {
            gather.remote_exceed_max = wanted;
            gather.to_ask.push(from);
        } else {
            gather.take_remote(came);
            for fetched in parts {
                let index = reader.parts.iter().position(|part| part.wanted.partition == fetched.partition);
                gather.found.extend(index.map(|index| (index as u32, fetched)));
            }
        }
        self.finish_gather_if_whole(reader, now, effects);
    }
}

/// The shard to ask next, and the room its answer may take; `None` while something else is to come first.
fn next_question(reader: &Reader) -> Option<(ShardId, u64)> {
    let gather = reader.gather.as_ref().filter(|gather| gather.waiting == 0 && !gather.waits_for_room)?;
    let &shard = gather.to_ask.last()?;
    let (bytes_max, exceed_max) = gather.question();
    let parts = reader.remotes.iter().find(|remote| remote.shard == shard).map_or(0, |remote| remote.parts);
    let said = u64::from(parts) * u64::from(limits::COLLECTED_PART_BYTES);
    Some((shard, u64::from(bytes_max.max(exceed_max)) + said))
}

#[cfg(test)]
mod tests;
