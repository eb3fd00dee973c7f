//! A consumer that is pushed to as long as it gives credit.

use std::collections::BTreeMap;

use cutwater_api::{FetchPart, Fetched, Response, Subscribe, SubscriptionId};
use cutwater_model::{Offset, PartitionId};

use super::reader::judge_read_error;
use super::{Client, Hands, misfit};
use crate::finding::{Checked, Finding};
use crate::oracle::{Oracle, Shown};
use crate::request::Sent;

/// How far a subscription has come.
#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    Asked(u32),
    Open,
    Ending(u32),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Subscriber {
    number: u32,
    stage: Stage,
    positions: BTreeMap<PartitionId, Offset>,
    credit: i64,
}

impl Subscriber {
    fn subscribe(&mut self, hands: &mut Hands<'_>) {
        self.positions.clear();
        self.number += 1;
        for _ in 0..hands.random.between(1, 3) {
            if let Some(partition) = hands.pick_partition() {
                self.positions.insert(partition, Offset(0));
            }
        }
        if self.positions.is_empty() {
            return;
        }
        let parts = self
            .positions
            .iter()
            .map(|(&partition, &offset)| FetchPart { partition, offset, bytes_max: 200_000 })
            .collect();
        let credit_bytes = hands.random.between(1, 60_000) as u32;
        self.credit = i64::from(credit_bytes);
        let subscribe = Subscribe { subscription: SubscriptionId(self.number), credit_bytes, parts };
        self.stage = Stage::Asked(hands.ask(Sent::Subscribe(subscribe)));
    }

    fn on_pushed(&mut self, fetched: &Fetched, hands: &mut Hands<'_>) -> Checked {
        let bytes: usize = fetched.parts.iter().map(cutwater_api::FetchedPart::len).sum();
        if bytes > 0 && self.credit <= 0 {
            let seen = format!("{bytes} bytes were pushed with {} of credit", self.credit);
            return Err(Finding::new("pushes need credit", seen));
        }
        self.credit -= bytes as i64;
        for part in &fetched.parts {
            let Some(position) = self.positions.get_mut(&part.partition) else {
                let seen = format!("{} was not subscribed to, or had ended", part.partition);
                return Err(Finding::new("answers fit their questions", seen));
            };
            if let Some(kind) = part.error {
                let is_legal = judge_read_error(kind, part.partition, *position, hands);
                self.positions.remove(&part.partition);
                is_legal?;
                continue;
            }
            let shown = Shown { from: *position, bytes: &part.bytes, high_watermark: part.high_watermark };
            *position = hands.oracle.on_read(part.partition, shown)?;
        }
        Ok(())
    }
}

impl Client for Subscriber {
    fn kind(&self) -> &'static str {
        "subscriber"
    }

    fn wake(&mut self, hands: &mut Hands<'_>) -> Checked {
        match self.stage {
            Stage::None if !hands.winding_down => self.subscribe(hands),
            Stage::Open if hands.winding_down || self.positions.is_empty() || hands.random.one_in(20) => {
                let ends = hands.ask(Sent::Unsubscribe(SubscriptionId(self.number)));
                self.stage = Stage::Ending(ends);
            }
            Stage::Open if self.credit < 100_000 => {
                let bytes = hands.random.between(1, 60_000) as u32;
                self.credit += i64::from(bytes);
                hands.ask(Sent::AddCredit(SubscriptionId(self.number), bytes));
            }
            _ => {}
        }
        hands.leaves = !hands.winding_down && hands.random.one_in(60);
        hands.rest();
        Ok(())
    }

    fn answer(&mut self, correlation: u32, response: Response, hands: &mut Hands<'_>) -> Checked {
        match (&self.stage, response) {
            (_, Response::Pushed { subscription, fetched }) => {
                if subscription.0 != self.number || self.stage == Stage::None {
                    return Err(Finding::new("no push after the end", format!("{subscription:?}")));
                }
                self.on_pushed(&fetched, hands)
            }
            (Stage::Asked(asked), Response::Subscribed(_)) if *asked == correlation => {
                self.stage = Stage::Open;
                Ok(())
            }
            (Stage::Ending(asked), Response::Unsubscribed(_)) if *asked == correlation => {
                self.stage = Stage::None;
                Ok(())
            }
            (Stage::Asked(asked), Response::Refused(kind)) if *asked == correlation => {
                self.stage = Stage::None;
                judge_read_error(kind, PartitionId::default(), Offset(0), hands)
            }
            (Stage::Ending(asked), Response::Refused(_)) if *asked == correlation => {
                self.stage = Stage::None;
                Ok(())
            }
            (_, other) => Err(misfit("a subscription", &other)),
        }
    }

    fn gone(&mut self, _oracle: &mut Oracle) {
        self.stage = Stage::None;
        self.positions.clear();
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::None
    }
}
