//! A producer that numbers nothing: it sends and forgets, several at once, and never sends again.

use std::collections::BTreeMap;

use cutwater_api::{Produced, RequiredAcks, Response};

use super::payload::{AttemptId, Filling, build};
use super::{Client, Hands, Refused, misfit};
use crate::finding::Checked;
use crate::oracle::{Attempt, Oracle, StreamId};
use crate::request::Sent;
use cutwater_model::builder::Sequence;

/// See the module.
#[derive(Debug, Default)]
pub struct Plain {
    stream: Option<StreamId>,
    place: u64,
    asked: BTreeMap<u32, AttemptId>,
}

impl Plain {
    fn send(&mut self, hands: &mut Hands<'_>) {
        let Some(partition) = hands.pick_partition() else { return };
        let stream = *self.stream.get_or_insert_with(|| hands.oracle.new_stream());
        let id = hands.oracle.next_attempt();
        let bytes = hands.pick_bytes();
        let filling = match hands.pick_filling() {
            _ if hands.random.one_in(3) => Filling::Copied(hands.sample),
            other => other,
        };
        let (batch, records) = build(id, bytes, filling, Sequence::NONE, hands.now.wall, hands.random);
        self.place += 1;
        hands.oracle.sent(Attempt {
            partition,
            stream,
            place: self.place,
            numbered: false,
            records,
            batch: batch.clone(),
            acked_us: None,
            bound: None,
            refused: false,
        });
        let acks = match hands.random.below(5) {
            0 => RequiredAcks::None,
            1 => RequiredAcks::Leader,
            _ => RequiredAcks::All,
        };
        let correlation = hands.ask(Sent::Produce { partition, acks, batch });
        if acks != RequiredAcks::None {
            self.asked.insert(correlation, id);
        }
    }
}

impl Client for Plain {
    fn kind(&self) -> &'static str {
        "plain producer"
    }

    fn wake(&mut self, hands: &mut Hands<'_>) -> Checked {
        if hands.winding_down {
            return Ok(());
        }
        if self.asked.len() < 8 {
            for _ in 0..hands.random.between(1, 4) {
                self.send(hands);
            }
        }
        hands.leaves = hands.random.one_in(40);
        hands.rest();
        Ok(())
    }

    fn answer(&mut self, correlation: u32, response: Response, hands: &mut Hands<'_>) -> Checked {
        let Some(id) = self.asked.remove(&correlation) else { return Err(misfit("nothing", &response)) };
        let partition = hands.oracle.attempt(id).map(|attempt| attempt.partition).unwrap_or_default();
        let kind = match response {
            Response::Produced(Produced { error: None, base_offset, .. }) => {
                return hands.oracle.on_acked(id, base_offset, hands.now.mono_us);
            }
            Response::Produced(Produced { error: Some(kind), .. }) | Response::Refused(kind) => kind,
            other => return Err(misfit("produce", &other)),
        };
        let refused = hands.judge_refusal(kind, partition)?;
        hands.oracle.on_refused(id, refused == Refused::Retry)
    }

    fn gone(&mut self, _oracle: &mut Oracle) {
        self.asked.clear();
        self.stream = None;
    }

    fn is_done(&self) -> bool {
        self.asked.is_empty()
    }
}
