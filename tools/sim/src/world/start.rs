//! The start of a life: locks, flush, metadata, recovery of every shard, and starts that die on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use cutwater_broker::{Config, Effects, StartError};
use cutwater_journal::group::{GroupHeader, GroupKind};
use cutwater_metadata::{Controller, Identity, Image};
use cutwater_model::limits::BLOCK_BYTES;
use cutwater_model::storage::Storage;
use cutwater_model::{FileName, Incarnation, ShardId};

use super::control::Control;
use super::{Event, Seat, World, slabs};
use crate::disk::Faults;
use crate::finding::{Checked, Finding};
use crate::plan::Life;

impl World {
    /// Starts the node, after some starts that die on the way; `false` where it refuses, as it has to.
    pub(super) fn start(&mut self, life: &Life) -> Checked<bool> {
        for _ in 0..life.broken_starts {
            let calls = self.random.between(1, 80);
            self.disk.set_calls_left(Some(calls));
            let lived = self.start_once(life)?;
            self.disk.set_calls_left(None);
            self.oracle.on_crash(self.now_us);
            if self.random.percent(50) {
                self.disk.kill();
                self.bury();
            } else {
                self.cut_power();
            }
            self.say(crate::trace::WORLD, || format!("a start was broken off, lived: {lived}"));
        }
        self.disk.set_calls_left(None);
        self.start_once(life)
    }

    /// Starts the node once; `false` where it refuses or dies.
    pub(super) fn start_once(&mut self, life: &Life) -> Checked<bool> {
        self.disk.set_faults(Faults::default());
        let incarnation = Incarnation(self.random.wide());
        let fresh = Identity { cluster: self.random.wide(), node: 1 };
        let durable = self.durable_sequences();
        match self.open(life.shards, incarnation, fresh) {
            Ok(()) => {
                self.check_sequences(&durable, incarnation)?;
                Ok(true)
            }
            Err(why) if self.disk.is_dead() => {
                self.say(crate::trace::WORLD, || format!("died while starting: {why}"));
                self.bury();
                Ok(false)
            }
            Err(why) if self.oracle.rotten => {
                self.say(crate::trace::WORLD, || format!("refuses to start: {why}"));
                self.bury();
                Ok(false)
            }
            Err(why) => Err(Finding::new("a start succeeds", why)),
        }
    }

    /// For every journal, by its shard and origin, the last group that was durable when a later one was submitted.
    fn durable_sequences(&self) -> BTreeMap<(ShardId, u128), u64> {
        let mut durable = BTreeMap::new();
        for (_, header) in self.groups() {
            let last = durable.entry((header.shard, header.life.origin.0)).or_default();
            *last = header.durable.0.max(*last);
        }
        durable
    }

    /// Every journal goes on behind all that was durable in it (J3). An entry of an earlier lap is recognized by its offset
    /// (J5), so nobody else would see that one was taken for the next.
    fn check_sequences(&self, durable: &BTreeMap<(ShardId, u128), u64>, incarnation: Incarnation) -> Checked {
        let groups = self.groups();
        let begun = groups.iter().filter(|(_, header)| header.life.incarnation == incarnation);
        for (file, header) in begun.filter(|(_, header)| header.kind == GroupKind::Start) {
            let before = durable.get(&(header.shard, header.life.origin.0)).copied().unwrap_or_default();
            // A flipped bit may be in the number itself.
            if header.sequence.0 <= before && !self.oracle.rotten {
                let seen = format!("{file}: {before} was durable, a life begins with {}", header.sequence.0);
                return Err(Finding::new("the sequence of a journal never goes back", seen));
            }
        }
        Ok(())
    }

    /// Every group in every journal.
    pub(super) fn groups(&self) -> Vec<(FileName, GroupHeader)> {
        let files: Vec<_> =
            self.disk.files().filter(|(file, _)| matches!(file, FileName::Journal { .. })).collect();
        let mut groups = Vec::new();
        for (file, length) in files {
            for at in (0..length).step_by(BLOCK_BYTES) {
                let mut block = [0; BLOCK_BYTES];
                let _ = self.disk.look(file, at, &mut block);
                let is_here = |header: &GroupHeader| {
                    file == FileName::Journal { shard: header.shard, number: header.place.file }
                        && header.place.at == at
                };
                if let Ok(header) = GroupHeader::decode(&block)
                    && is_here(&header)
                {
                    groups.push((file, header));
                }
            }
        }
        groups
    }

    /// All groups, for whoever looks for what replay made of them.
    fn say_journals(&self) {
        if !self.trace.prints() {
            return;
        }
        for (file, header) in self.groups() {
            self.say(header.shard.0, || {
                let GroupHeader { kind, sequence, durable, bytes, life, place, .. } = header;
                let (sequence, durable, life, at) = (sequence.0, durable.0, life.number, place.at);
                let (before, digest) = (header.previous_digest, header.digest);
                format!(
                    "{file} at {at}: {kind:?} {sequence} of life {life}, {bytes} bytes, durable {durable}, digest \
                     {digest:016x} after {before:016x}"
                )
            });
        }
    }

    fn open(&mut self, shards: u16, incarnation: Incarnation, fresh: Identity) -> Result<(), String> {
        self.disk.flush_all().map_err(|error| error.to_string())?;
        self.say_journals();
        let (controller, _report) =
            Controller::open(&mut self.disk, None, fresh, shards).map_err(|error| error.to_string())?;
        let on_disk = cutwater_broker::shards_on_disk(&mut self.disk).map_err(|error| error.to_string())?;
        let image = controller.image().clone();
        let mut has_moved = on_disk.iter().any(|shard| shard.0 >= shards);
        if has_moved {
            self.redistribute(shards, &image, incarnation)?;
        }
        while !self.open_shards(shards, &image, incarnation)? {
            // Partitions lie with shards that don't own them: they move before anything starts (R2).
            if core::mem::replace(&mut has_moved, true) {
                return Err("partitions are misplaced after they moved".to_owned());
            }
            self.redistribute(shards, &image, incarnation)?;
        }
        self.control = Some(Control::new(controller));
        if std::env::var_os("SIM_DUMP").is_some() {
            self.say_shards();
        }
        Ok(())
    }

    fn redistribute(&mut self, shards: u16, image: &Image, incarnation: Incarnation) -> Result<(), String> {
        let accepts_loss = self.accepts_loss;
        let config = Config { shard: ShardId(0), shards, accepts_loss, ..self.plan.config };
        let slab = slabs::take(self.plan.memory_bytes);
        let (_, notes) = cutwater_broker::redistribute(&mut self.disk, &config, slab, image, incarnation)
            .map_err(|error| error.to_string())?;
        self.say(crate::trace::WORLD, || format!("redistributed: {notes:?}"));
        Ok(())
    }

    /// Starts every shard; `false`, and none has started, where one of them finds partitions of another.
    fn open_shards(
        &mut self,
        shards: u16,
        image: &Arc<Image>,
        incarnation: Incarnation,
    ) -> Result<bool, String> {
        for index in 0..shards {
            let shard = ShardId(index);
            let config = Config { shard, shards, accepts_loss: self.accepts_loss, ..self.plan.config };
            let slab = slabs::take(self.plan.memory_bytes);
            let now = self.now();
            let (started, report) =
                match cutwater_broker::start(&mut self.disk, config, slab, image.clone(), incarnation, now) {
                    Ok(started) => started,
                    Err(StartError::Misplaced { .. }) => {
                        self.seats.clear();
                        return Ok(false);
                    }
                    Err(error) => return Err(error.to_string()),
                };
            self.note(index, "started", [report.groups, report.entries, report.partitions as u64]);
            self.say(index, || format!("started: {report:?}"));
            if let Some(apart) = report.notes.iter().find(|note| note.contains("takes no appends"))
                && !self.oracle.rotten
                && !self.plan.habits.disk_fails
            {
                return Err(format!("without any rot: {apart}"));
            }
            self.seats.push(Seat {
                shard: started,
                effects: Effects::new(shards),
                will_continue: true,
                tick_us: None,
                stopped: false,
                connections: Vec::new(),
                arrives_us: vec![0; usize::from(shards)],
                image_us: self.now_us,
            });
        }
        for shard in (0..shards).map(ShardId) {
            self.agenda.plan(self.now_us, Event::Continue { shard });
            // Partitions that were made and left no trace on the disk yet begin empty.
            self.agenda.plan(self.now_us, Event::Metadata { shard, image: image.clone() });
        }
        Ok(true)
    }
}
