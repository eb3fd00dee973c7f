//! The broker's shard as the core of a pump.

use cutwater_api::Announced;
use cutwater_broker::{Effects, Input, Landing, Shard};
use cutwater_model::{Now, Slab};

use crate::meters::ShardMeters;
use crate::pump::Core;

impl Core for Shard {
    #[inline]
    fn handle(&mut self, input: Input<'_>, now: Now, effects: &mut Effects) {
        Shard::handle(self, input, now, effects);
    }

    fn land(&mut self, announced: &Announced, first: &[u8]) -> Option<Landing> {
        Shard::land(self, announced, first)
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
