//! The control thread: the real metadata, one command at a time, each waiting for the disk.

use cutwater_api::{Response, Ticket};
use cutwater_broker::ControlCommand;
use cutwater_metadata::{Command, Controller, Outcome};
use cutwater_model::{ErrorKind, ProducerEpoch, ShardId, TopicId};

use super::{Event, World};
use crate::disk::Disk;

/// The control thread of one life.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) controller: Controller,
    /// It is busy until then.
    free_us: u64,
}

impl Control {
    pub(super) const fn new(controller: Controller) -> Self {
        Self { controller, free_us: 0 }
    }

    fn apply(&mut self, disk: &mut Disk, command: &ControlCommand, fresh: TopicId) -> Response {
        let command = match command {
            ControlCommand::CreateTopic { name, partitions, config } => {
                Command::CreateTopic { name, partitions: *partitions, config: *config }
            }
            ControlCommand::DeleteTopic { topic } => Command::DeleteTopic { topic: *topic },
            ControlCommand::AddPartitions { topic, partitions } => {
                Command::AddPartitions { topic: *topic, partitions: *partitions }
            }
            ControlCommand::AllocateProducerId => Command::AllocateProducerId,
            ControlCommand::TopicGone { topic, shard } => Command::TopicGone { topic: *topic, shard: *shard },
        };
        match self.controller.apply(disk, &command, fresh) {
            Ok(Outcome::TopicCreated(topic)) => Response::TopicCreated(topic),
            Ok(Outcome::TopicDeleted(topic)) => Response::TopicDeleted(topic),
            Ok(Outcome::PartitionsAdded(topic)) => Response::PartitionsAdded(topic),
            Ok(Outcome::ProducerIdAllocated(id)) => Response::ProducerIdAllocated(id, ProducerEpoch(0)),
            Ok(Outcome::TopicGone) => Response::Refused(ErrorKind::InvalidRequest),
            Err(error) => Response::Refused(error.kind()),
        }
    }
}

impl World {
    /// A command reaches the control thread some time later, after those before it.
    pub(super) fn send_command(&mut self, shard: ShardId, ticket: Ticket, command: Box<ControlCommand>) {
        let takes_us = self.random.between(20, 3_000);
        let Some(control) = &mut self.control else { return };
        control.free_us = control.free_us.max(self.now_us) + takes_us;
        self.agenda.plan(control.free_us, Event::Command { shard, ticket, command });
    }

    /// The control thread carries out a command and tells everybody.
    pub(super) fn on_command(&mut self, shard: ShardId, ticket: Ticket, command: &ControlCommand) {
        let Some(control) = &mut self.control else { return };
        // The metadata itself refuses an id whose tombstone it still has.
        let image = control.controller.image();
        let is_free = |id: &mut TopicId| self.reuses_topic_ids && !image.is_tombstone(*id);
        let is_creation = matches!(command, ControlCommand::CreateTopic { .. });
        let fresh = self.reusable_id.take_if(|id| is_creation && is_free(id));
        let fresh = fresh.unwrap_or_else(|| TopicId(self.random.wide()));
        let before = control.controller.image().version();
        let response = control.apply(&mut self.disk, command, fresh);
        let image = control.controller.image().clone();
        self.note(shard.0, "command", [image.version(), 0, 0]);
        self.say(shard.0, || format!("control: {command:?} -> {response:?}"));
        if image.version() != before {
            for index in 0..self.seats.len() {
                let at_us = self.now_us + self.random.between(1, 2_000);
                let at_us = at_us.max(self.seats[index].image_us + 1);
                self.seats[index].image_us = at_us;
                let shard = ShardId(index as u16);
                self.agenda.plan(at_us, Event::Metadata { shard, image: image.clone() });
            }
        }
        if let (ControlCommand::DeleteTopic { topic }, Response::TopicDeleted(_)) = (command, &response) {
            self.reusable_id = Some(*topic);
        }
        if !matches!(command, ControlCommand::TopicGone { .. }) {
            let at_us = self.now_us + self.random.between(1, 2_500);
            self.agenda.plan(at_us, Event::ControlDone { shard, ticket, response });
        }
    }
}
