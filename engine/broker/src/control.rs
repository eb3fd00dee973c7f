//! Questions about topics, answered from the image; changes of topics, sent on to the control thread.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use cutwater_api::{CreateTopic, Response, Ticket, TopicsView};
use cutwater_model::{ErrorKind, TopicId};

use crate::effect::{ControlCommand, Effect, Effects};
use crate::shard::Shard;

impl Shard {
    pub(crate) fn on_describe(&mut self, ticket: Ticket, names: &[&str], effects: &mut Effects) {
        let topics = if names.is_empty() {
            self.image.topics().map(crate::topics::view_of).collect()
        } else {
            let mut found: Vec<_> = names.iter().filter_map(|name| self.image.topic_by_name(name)).collect();
            found.sort_by(|left, right| left.name.cmp(&right.name));
            found.dedup_by(|left, right| left.id == right.id);
            found.into_iter().map(crate::topics::view_of).collect()
        };
        let shards = cutwater_api::ShardMap { shards: self.config.shards, version: self.image.version() };
        self.answer(ticket, Response::Topics(TopicsView { topics, shards }), None, effects);
    }

    pub(crate) fn on_create_topic(
        &mut self,
        ticket: Ticket,
        create: &CreateTopic<'_>,
        effects: &mut Effects,
    ) {
        let &CreateTopic { name, partitions, config } = create;
        let command = ControlCommand::CreateTopic { name: name.to_string(), partitions, config };
        self.ask_control(ticket, command, effects);
    }

    pub(crate) fn on_delete_topic(&mut self, ticket: Ticket, topic: TopicId, effects: &mut Effects) {
        self.ask_control(ticket, ControlCommand::DeleteTopic { topic }, effects);
    }

    pub(crate) fn on_add_partitions(
        &mut self,
        ticket: Ticket,
        topic: TopicId,
        partitions: u32,
        effects: &mut Effects,
    ) {
        self.ask_control(ticket, ControlCommand::AddPartitions { topic, partitions }, effects);
    }

    pub(crate) fn on_allocate_producer_id(&mut self, ticket: Ticket, effects: &mut Effects) {
        self.ask_control(ticket, ControlCommand::AllocateProducerId, effects);
    }

    fn ask_control(&mut self, ticket: Ticket, command: ControlCommand, effects: &mut Effects) {
        if self.is_stopping {
            self.answer(ticket, Response::Refused(ErrorKind::NotReady), None, effects);
        } else {
            effects.push(Effect::Control { ticket, command: Box::new(command) });
        }
    }
}
