//! The broker's shard as the core of a pump.

use cutwater_api::{Announced, Produce, Ticket, Upcoming};
use cutwater_broker::{Effects, Input, Landing, Shard};
use cutwater_model::{Now, Slab};

use crate::meters::ShardMeters;
use crate::pump::Core;

impl Core for Shard {
    #[inline]
    fn handle(&mut self, input: Input<'_>, now: Now, effects: &mut Effects) {
        Shard::handle(self, input, now, effects);
    }

    #[inline(always)]
    fn produce(&mut self, ticket: Ticket, produce: &Produce<'_>, now: Now, effects: &mut Effects) {
        Shard::produce(self, ticket, produce, now, effects);
    }

    fn land(&mut self, announced: &Announced, first: &[u8]) -> Option<Landing> {
        Shard::land(self, announced, first)
    }

    #[inline]
    fn looks_ahead(&self) -> bool {
        Shard::looks_ahead(self)
    }

    fn look_ahead(&self, upcoming: &[Upcoming]) {
        Shard::look_ahead(self, upcoming);
    }

    fn slab(&mut self) -> &mut Slab {
        Shard::slab(self)
    }

    fn publish(&mut self, meters: &ShardMeters, all: bool) {
        meters.set_core(self.counters());
        if all {
            meters.set_stages(self.stages());
        }
    }
}
