//! Somebody who makes topics, deletes them, makes them again under the same name, and gives them partitions.

use cutwater_api::Response;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, TopicId};

use super::{Client, Hands, misfit};
use crate::finding::{Checked, Finding};
use crate::oracle::Oracle;
use crate::request::Sent;

/// Few names, so that they come again.
const NAMES: [&str; 5] = ["alder", "birch", "cedar", "elm", "fir"];

#[derive(Debug)]
enum Question {
    Create { name: &'static str, partitions: u32, config: TopicConfig },
    Delete(TopicId),
    Grow(TopicId, u32),
    Describe,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Admin {
    question: Option<(u32, Question)>,
}

impl Admin {
    fn ask(&mut self, hands: &mut Hands<'_>) {
        let topics: Vec<(TopicId, u32)> =
            hands.oracle.live_topics().map(|(id, topic)| (id, topic.partitions_max)).collect();
        let chosen = hands.random.pick(&topics).copied();
        let name = NAMES[hands.random.below(NAMES.len() as u64) as usize];
        let (question, sent) = match (chosen, hands.random.below(10)) {
            (Some((topic, _)), 0) if topics.len() > 1 => {
                hands.oracle.on_delete_asked(topic);
                (Question::Delete(topic), Sent::DeleteTopic(topic))
            }
            (Some((topic, partitions)), 1) if u64::from(partitions) < hands.habits.partitions_max => {
                let partitions = partitions + 1;
                hands.oracle.on_partitions_asked(topic, partitions);
                (Question::Grow(topic, partitions), Sent::AddPartitions(topic, partitions))
            }
            (Some(_), 2..6) => (Question::Describe, Sent::Describe),
            (Some(_), 6..) if topics.len() >= 3 && !hands.random.one_in(4) => {
                (Question::Describe, Sent::Describe)
            }
            _ => {
                let partitions = hands.random.between(1, hands.habits.partitions_max) as u32;
                let config = hands.pick_config();
                hands.oracle.on_create_asked(name);
                let sent = Sent::CreateTopic { name: name.to_owned(), partitions, config };
                (Question::Create { name, partitions, config }, sent)
            }
        };
        self.question = Some((hands.ask(sent), question));
    }
}

impl Client for Admin {
    fn kind(&self) -> &'static str {
        "admin"
    }

    fn wake(&mut self, hands: &mut Hands<'_>) -> Checked {
        if !hands.winding_down {
            if self.question.is_none() {
                self.ask(hands);
            }
            hands.rest();
        }
        Ok(())
    }

    fn answer(&mut self, correlation: u32, response: Response, hands: &mut Hands<'_>) -> Checked {
        let Some((_, question)) = self.question.take_if(|question| question.0 == correlation) else {
            return Err(misfit("nothing", &response));
        };
        match (question, response) {
            (Question::Create { name, partitions, config }, Response::TopicCreated(id)) => {
                hands.oracle.on_created(id, name, partitions, config)
            }
            (Question::Create { name, .. }, Response::Refused(kind)) => {
                let is_taken = hands.oracle.is_taken(name);
                hands.oracle.on_create_refused(name);
                match kind {
                    ErrorKind::TopicAlreadyExists if is_taken => Ok(()),
                    ErrorKind::NotReady | ErrorKind::ThrottlingQuotaExceeded | ErrorKind::DiskFull => Ok(()),
                    ErrorKind::StorageError if hands.habits.disk_fails => Ok(()),
                    _ => Err(Finding::new(
                        "errors have a reason",
                        format!("{kind:?} for a new topic {name:?}"),
                    )),
                }
            }
            (Question::Delete(id), Response::TopicDeleted(_)) => {
                hands.oracle.on_deleted(id);
                Ok(())
            }
            (Question::Grow(id, partitions), Response::PartitionsAdded(_)) => {
                hands.oracle.on_partitions_added(id, partitions);
                Ok(())
            }
            (Question::Describe, Response::Topics(view)) => hands.oracle.on_described(&view, false),
            (_, Response::Refused(_)) => Ok(()),
            (question, other) => Err(misfit(&format!("{question:?}"), &other)),
        }
    }

    fn gone(&mut self, _oracle: &mut Oracle) {
        self.question = None;
    }

    fn is_done(&self) -> bool {
        self.question.is_none()
    }
}
