//! Which topics there are, were, and may be.

use std::collections::BTreeSet;

use cutwater_api::TopicsView;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{PartitionId, PartitionIndex, TopicId};

use super::Oracle;
use crate::finding::{Checked, Finding};

/// How far a topic's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// It is there.
    Live,
    /// Somebody asked for its deletion and has no answer yet.
    Dying,
    /// Its deletion was answered: it never comes back.
    Dead,
}

/// What is known of a topic.
#[derive(Clone, Debug)]
pub struct TopicKnown {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
    /// The partitions it certainly has.
    pub partitions: u32,
    /// The partitions it may have.
    pub partitions_max: u32,
    /// Whether it lives.
    pub state: TopicState,
}

/// Requests for a topic of one name that have no answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Creation {
    open: u32,
}

impl Oracle {
    /// The topics that certainly live.
    pub fn live_topics(&self) -> impl Iterator<Item = (TopicId, &TopicKnown)> {
        self.topics
            .iter()
            .filter(|(_, topic)| topic.state == TopicState::Live)
            .map(|(id, topic)| (*id, topic))
    }

    /// A topic, whatever its state.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&TopicKnown> {
        self.topics.get(&id)
    }

    /// Every partition of every topic that certainly lives.
    #[must_use]
    pub fn live_partitions(&self) -> Vec<PartitionId> {
        let of = |(topic, known): (TopicId, &TopicKnown)| {
            (0..known.partitions).map(move |index| PartitionId { topic, index: PartitionIndex(index) })
        };
        self.live_topics().flat_map(of).collect()
    }

    /// Whether somebody waits for a topic of that name.
    #[must_use]
    pub fn is_creating(&self, name: &str) -> bool {
        self.creations.get(name).is_some_and(|creation| creation.open > 0)
    }

    /// Whether a topic of that name lives, may live, or may be on its way.
    #[must_use]
    pub fn is_taken(&self, name: &str) -> bool {
        self.creations.get(name).is_some_and(|creation| creation.open > 1)
            || self.topics.values().any(|topic| topic.name == name && topic.state != TopicState::Dead)
    }

    /// A topic is about to be asked for.
    pub fn on_create_asked(&mut self, name: &str) {
        self.creations.entry(name.to_owned()).or_default().open += 1;
    }

    /// The request for a topic was refused: it was not made.
    pub fn on_create_refused(&mut self, name: &str) {
        if let Some(creation) = self.creations.get_mut(name) {
            creation.open = creation.open.saturating_sub(1);
        }
    }

    /// A topic was made.
    ///
    /// # Errors
    /// If its id was used before, or a topic of its name lives.
    pub fn on_created(&mut self, id: TopicId, name: &str, partitions: u32, config: TopicConfig) -> Checked {
        self.on_create_refused(name);
        if let Some(known) = self.topics.get(&id) {
            if known.name == name && known.state != TopicState::Dead {
                return Ok(());
            }
            let seen = format!("{id} was {:?} ({:?}) and is {name:?} now", known.name, known.state);
            return Err(Finding::new("a topic id is never used again", seen));
        }
        self.adopt(id, name, partitions, config)
    }

    /// A topic's deletion is about to be asked for.
    pub fn on_delete_asked(&mut self, id: TopicId) {
        if let Some(topic) = self.topics.get_mut(&id).filter(|topic| topic.state == TopicState::Live) {
            topic.state = TopicState::Dying;
        }
    }

    /// A topic's deletion was answered.
    pub fn on_deleted(&mut self, id: TopicId) {
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.state = TopicState::Dead;
        }
    }

    /// More partitions are about to be asked for.
    pub fn on_partitions_asked(&mut self, id: TopicId, partitions: u32) {
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.partitions_max = topic.partitions_max.max(partitions);
        }
    }

    /// The partitions were added.
    pub fn on_partitions_added(&mut self, id: TopicId, partitions: u32) {
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.partitions = topic.partitions.max(partitions);
        }
    }

    /// The node said which topics there are. `settled` says that no change was under way: right after a start, or
    /// when all is quiet. What nobody knows the outcome of is decided by it.
    ///
    /// # Errors
    /// If a topic is missing, is back, or was never asked for.
    pub fn on_described(&mut self, view: &TopicsView, settled: bool) -> Checked {
        let mut names = BTreeSet::new();
        for topic in &view.topics {
            if !names.insert(topic.name.clone()) {
                return Err(Finding::new("names are given once", format!("two topics {:?}", topic.name)));
            }
            let partitions = topic.partitions.len() as u32;
            let is_creating = self.is_creating(&topic.name);
            match self.topics.get_mut(&topic.id) {
                Some(known) if known.state == TopicState::Dead && settled => {
                    let seen = format!("{} {:?} was deleted", topic.id, topic.name);
                    return Err(Finding::new("what was deleted stays deleted", seen));
                }
                Some(known) => {
                    let wrong = known.name != topic.name
                        || known.config != topic.config
                        || partitions > known.partitions_max
                        || (settled && partitions < known.partitions);
                    if wrong {
                        let seen = format!("{known:?}, described as {topic:?}");
                        return Err(Finding::new("topics are what was asked for", seen));
                    }
                    if settled {
                        known.partitions = partitions;
                        if known.state == TopicState::Dying {
                            known.state = TopicState::Live;
                        }
                    }
                }
                None if is_creating => {
                    self.adopt(topic.id, &topic.name, partitions, topic.config)?;
                }
                None => {
                    let seen = format!("{} {:?}", topic.id, topic.name);
                    return Err(Finding::new("nobody made this topic", seen));
                }
            }
        }
        if settled {
            self.settle_missing(view)?;
        }
        Ok(())
    }

    fn settle_missing(&mut self, view: &TopicsView) -> Checked {
        self.creations.clear();
        for (id, known) in &mut self.topics {
            if known.state == TopicState::Dead || view.topics.iter().any(|topic| topic.id == *id) {
                continue;
            }
            if known.state == TopicState::Live {
                let seen = format!("{id} {:?}", known.name);
                return Err(Finding::new("a topic that was made is there", seen));
            }
            known.state = TopicState::Dead;
        }
        Ok(())
    }

    fn adopt(&mut self, id: TopicId, name: &str, partitions: u32, config: TopicConfig) -> Checked {
        if let Some((other, _)) = self.live_topics().find(|(_, topic)| topic.name == name) {
            return Err(Finding::new("names are given once", format!("{name:?} is {other} and {id}")));
        }
        let known = TopicKnown {
            name: name.to_owned(),
            config,
            partitions,
            partitions_max: partitions,
            state: TopicState::Live,
        };
        self.topics.insert(id, known);
        Ok(())
    }
}
