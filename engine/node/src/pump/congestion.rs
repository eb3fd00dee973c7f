//! A shard that takes nothing for a while: whose requests need it waits, and nobody else.
//!
//! What a request asks of other shards is known only when the core has handled it. So while too much waits for a shard,
//! connections have their turn with one request each, and one whose request added to what waits is held until the shard
//! has taken it.

use cutwater_api::Session;
use cutwater_model::limits;

use super::input::Budget;
use super::{Core, Pump};

impl<C: Core, S: Session> Pump<C, S> {
    /// Takes a turn's input while too much waits for some shard.
    #[cold]
    pub(super) fn take_input_beside_congestion(&mut self, budget: &mut Budget) {
        while budget.inputs > 0 && budget.bytes > 0 && !self.is_full() {
            let Some(slot) = self.ready.pop_front() else { break };
            let before: Vec<usize> = self.effects.to_shards.iter().map(Vec::len).collect();
            let mut one = Budget { inputs: 1, bytes: budget.bytes };
            self.visit(slot, &mut one);
            budget.inputs -= 1 - one.inputs;
            budget.bytes = one.bytes;
            let mut lanes = before.into_iter().zip(&self.effects.to_shards).enumerate();
            let is_added_to = |shard, before, after| before < after && self.ports.congestion(shard).is_some();
            if let Some((shard, _)) =
                lanes.find(|(shard, (before, after))| is_added_to(*shard, *before, after.len()))
            {
                self.hold(slot, shard);
            }
        }
    }

    /// Whether so much waits for one shard that nobody's input may be taken: any of it might add to that.
    pub(super) fn is_full(&self) -> bool {
        self.effects.to_shards.iter().enumerate().any(|(shard, added)| {
            let waiting = self.ports.congestion(shard).unwrap_or(0);
            waiting + added.len() > limits::SHARD_BACKLOG_BYTES_FULL as usize
        })
    }

    /// Takes nothing more from a connection while so much waits for the shard.
    fn hold(&mut self, slot: u32, shard: usize) {
        let Some(connection) = self.connections.at(slot) else { return };
        connection.is_held = true;
        self.held.push((slot, shard));
        self.set_received_aside(slot);
    }

    /// Goes on with the connections that were held for a shard that has taken what waited for it.
    pub(super) fn let_go(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let Self { held, ports, .. } = self;
        let let_go: Vec<_> = held.extract_if(.., |(_, shard)| ports.congestion(*shard).is_none()).collect();
        for (slot, _) in let_go {
            if let Some(connection) = self.connections.at(slot)
                && core::mem::take(&mut connection.is_held)
            {
                self.go_on(slot);
            }
        }
    }
}
