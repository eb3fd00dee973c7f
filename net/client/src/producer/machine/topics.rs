//! The topics of a producer: opened by name, learnt from the node, looked up again when the shard map is stale.

use cutwater_api::TopicsView;
use cutwater_model::PartitionId;
use cutwater_model::partitioner::Sticky;

use super::{Machine, Topic};
use crate::backoff::Backoff;
use crate::producer::TopicHandle;
use crate::producer::lane::Lane;

impl Machine {
    pub(in crate::producer) fn register(&mut self, name: &str) -> TopicHandle {
        let known = self.topics.iter().position(|topic| topic.name == name);
        let index = known.unwrap_or_else(|| {
            let sticky = Sticky::new(self.topics.len() as u64);
            let topic = Topic { name: name.to_owned(), exists: None, lanes: Vec::new(), sticky };
            self.topics.push(topic);
            self.topics.len() - 1
        });
        if self.topics[index].exists != Some(true) {
            self.topics[index].exists = None;
            self.ask_topics.is_wanted = true;
            // Where no connection stands yet, any will do.
            self.links.place_of(None);
        }
        TopicHandle(index as u32)
    }

    pub(in crate::producer) fn exists(&self, topic: TopicHandle) -> Option<bool> {
        self.topics.get(topic.0 as usize)?.exists
    }

    pub(in crate::producer) fn partitions(&self, topic: TopicHandle) -> u32 {
        self.topics.get(topic.0 as usize).map_or(0, |topic| topic.lanes.len() as u32)
    }

    pub(super) fn on_topics(&mut self, view: &TopicsView) {
        for topic in self.topics.iter_mut().take(self.topics_asked) {
            let Ok(found) = view.topics.binary_search_by(|it| it.name.as_str().cmp(&topic.name)) else {
                topic.exists = Some(false);
                continue;
            };
            let found = &view.topics[found];
            topic.exists = Some(true);
            for partition in &found.partitions {
                let link = self.links.place_of(Some(partition.shard));
                let id = PartitionId { topic: found.id, index: partition.index };
                match topic.lanes.get(partition.index.0 as usize) {
                    Some(&lane) => {
                        let lane = &mut self.lanes[lane as usize];
                        lane.move_to(id);
                        // What is in flight on the old connection would be reported there.
                        if lane.in_flight == 0 {
                            lane.link = link;
                        }
                    }
                    None => {
                        let number = self.lanes.len() as u32;
                        let bytes_max = self.config.batch_bytes_max.min(found.config.batch_bytes_max);
                        let (least, most) = self.config.retry_backoff;
                        let backoff = Backoff::new(
                            least.as_micros() as u64,
                            most.as_micros() as u64,
                            u64::from(number) + 1,
                        );
                        self.lanes.push(Lane::new(id, link, bytes_max, backoff));
                        topic.lanes.push(number);
                    }
                }
            }
        }
        for number in 0..self.lanes.len() {
            if self.lanes[number].has_waiting() {
                self.list(number as u32);
            }
        }
    }
}
