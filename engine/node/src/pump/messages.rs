//! What other threads send: messages of other shards, answers and images of the control thread, finished file jobs.

use cutwater_api::Session;
use cutwater_broker::Input;

use super::{Core, Pump, Purpose, Stopping};
use crate::ports::{FromShard, ToShard};

impl<C: Core, S: Session> Pump<C, S> {
    /// Listens for the bell.
    pub(super) fn arm_doorbell(&mut self) {
        self.ports.door.bell().listen(&mut self.ring, Purpose::Doorbell.token(0));
    }

    /// The bell rang: what it rang for is found by looking.
    pub(super) fn on_doorbell(&mut self) {
        self.arm_doorbell();
    }

    /// Takes what has come from other threads. Returns whether there was anything.
    pub(super) fn take_messages(&mut self) -> bool {
        let Self { core, ports, disk, ring, effects, ended, now, .. } = self;
        let mut any = ports.receive_messages(|input| core.handle(input, *now, effects));
        disk.take_finished(ring, ended);
        for (op, result) in ended.drain(..) {
            any = true;
            core.handle(Input::DiskDone { op, result }, *now, effects);
        }
        for item in self.ports.take_inbox() {
            any = true;
            self.take_item(item);
        }
        any
    }

    fn take_item(&mut self, item: ToShard<S>) {
        match item {
            ToShard::Metadata(image) => {
                let version = image.version();
                self.core.handle(Input::Metadata(image), self.now, &mut self.effects);
                self.ports.tell_control(FromShard::Applied { shard: self.facts.shard, version });
            }
            ToShard::ControlDone { ticket, response } => {
                self.core.handle(Input::ControlDone { ticket, response }, self.now, &mut self.effects);
            }
            ToShard::HandOver(passed) => self.take_over(passed),
            ToShard::Stop if self.stopping == Stopping::No => {
                self.stopping = Stopping::Draining;
                self.stop_accepting();
                self.core.handle(Input::Stop, self.now, &mut self.effects);
            }
            ToShard::Stop => {}
        }
    }
}
