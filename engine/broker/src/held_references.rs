//! References to large batches whose writes may have been under way when the node died (B1).
//!
//! A reference is journaled beside its batch. Later entries of the partition say which batches were whole; recovery holds
//! the others back until it knows. Of the last ones only the file can tell.

use alloc::vec::Vec;

use cutwater_log::{BulkRef, ReplayEntry, Replayed, Run};
use cutwater_model::Offset;
use cutwater_model::storage::Storage;

use crate::recovery::{Recovered, Recovering};
use crate::start::StartError;

impl Recovering<'_> {
    /// A reference waits for what later entries say about its batch.
    pub(crate) fn hold(&mut self, index: usize, payload: &[u8]) {
        self.partitions[index].held.push_back(payload.to_vec());
    }

    /// Applies the references held that lie before the offset: their batches are whole.
    pub(crate) fn replay_held(
        &mut self,
        storage: &mut dyn Storage,
        index: usize,
        whole_before: Offset,
    ) -> Result<(), StartError> {
        let is_whole = |payload: &mut Vec<u8>| {
            let reference = BulkRef::decode(payload);
            reference.is_none_or(|(_, header, _)| header.is_ok_and(|it| it.base_offset < whole_before))
        };
        while let Some(payload) = self.partitions[index].held.pop_front_if(is_whole) {
            self.replay(storage, index, ReplayEntry::BulkRef { payload: &payload, run: Run::Whole })?;
        }
        Ok(())
    }

    /// The journal is at its end. Of the last large batches of each partition only the files can tell whether they became
    /// whole: their writes may have been under way. One that isn't, and what follows it, was never acknowledged; nothing
    /// of it is kept, and the checkpoint that ends this start says so for good.
    pub(crate) fn judge_held(&mut self, storage: &mut dyn Storage) -> Result<(), StartError> {
        let mut run = Vec::new();
        for index in 0..self.partitions.len() {
            let mut held = core::mem::take(&mut self.partitions[index].held);
            while let Some(payload) = held.pop_front() {
                match self.judge(storage, index, &payload, &mut run)? {
                    Replayed::Torn => {
                        let Recovered { log, .. } = &self.partitions[index];
                        self.notes.push(alloc::format!(
                            "partition {}: {} large batches from offset {} on were on their way to the disk, and not \
                             acknowledged; they are not kept",
                            log.id(),
                            held.len() + 1,
                            log.next_offset().0
                        ));
                        break;
                    }
                    Replayed::Applied | Replayed::Already | Replayed::Drain => {}
                }
            }
        }
        Ok(())
    }

    /// Applies a reference if its batch is whole in the file.
    fn judge(
        &mut self,
        storage: &mut dyn Storage,
        index: usize,
        payload: &[u8],
        run: &mut Vec<u8>,
    ) -> Result<Replayed, StartError> {
        // The file may not be its own, which is found out here.
        self.write_partition(storage, index)?;
        let recovered = &mut self.partitions[index];
        if recovered.quarantine.is_some() && !recovered.log.is_fenced() {
            recovered.log.mark_incomplete();
            return Ok(Replayed::Already);
        }
        let whole = ReplayEntry::BulkRef { payload, run: Run::Whole };
        let read = match recovered.log.run_to_read(payload) {
            Ok(Some(read)) if !recovered.log.is_fenced() => read,
            // It is not needed, or can't be applied, which is told there.
            _ => return self.replay(storage, index, whole),
        };
        let end = read.at + u64::from(read.len);
        if storage.length(read.file)?.is_none_or(|bytes| bytes < end) {
            return Ok(Replayed::Torn);
        }
        // What is seen now stays: everything was flushed before the start (R1).
        run.resize(read.len as usize, 0);
        // Where it can't be read nobody can tell, and it may have been acknowledged: then the start is refused.
        if storage.read(read.file, read.at, run)? < run.len() {
            return Ok(Replayed::Torn);
        }
        self.replay(storage, index, ReplayEntry::BulkRef { payload, run: Run::Read(run) })
    }
}
