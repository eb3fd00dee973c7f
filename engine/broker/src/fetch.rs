//! Fetches and subscriptions: who asks, when enough is ready, and when it ends.

use alloc::boxed::Box;
use alloc::vec::Vec;

use cutwater_api::{ConnectionId, Fetch, FetchPart, Response, Subscribe, SubscriptionId, Ticket};
use cutwater_log::{ReadHint, ReadPlan};
use cutwater_model::{ErrorKind, Now, limits};

use crate::effect::Effects;
use crate::message::Message;
use crate::partition::{Slot, Stage};
use crate::readers::{Home, Kind, Part, Reader, ReaderId, Remote, URGENT_BYTES, Watcher};
use crate::shard::Shard;

impl Shard {
    pub(crate) fn on_fetch(&mut self, ticket: Ticket, fetch: Fetch, now: Now, effects: &mut Effects) {
        let refusal =
            check_parts(&fetch.parts).err().or((fetch.bytes_max == 0).then_some(ErrorKind::InvalidFetchSize));
        if let Some(kind) = refusal {
            self.answer(ticket, Response::Refused(kind), None, effects);
            return;
        }
        let wait_us = u64::from(fetch.wait_ms_max.min(limits::FETCH_WAIT_MS_MAX)) * 1000;
        let deadline_us = now.mono_us + wait_us;
        let bytes_max = fetch.bytes_max.min(limits::FETCH_BYTES_MAX);
        let bytes_min = u64::from(fetch.bytes_min.min(bytes_max));
        self.connections.weigh(ticket.connection, weight_of(fetch.parts.len()), effects);
        let id =
            self.add_reader(Kind::Fetch { ticket, deadline_us, bytes_min, bytes_max }, fetch.parts, effects);
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.readers.push(id);
        }
        if wait_us == 0 || bytes_min == 0 {
            self.answer_now(id, now, effects);
        } else {
            self.consider(id, now, effects);
        }
    }

    pub(crate) fn on_subscribe(
        &mut self,
        ticket: Ticket,
        subscribe: Subscribe,
        now: Now,
        effects: &mut Effects,
    ) {
        let Subscribe { subscription, credit_bytes, parts } = subscribe;
        let taken = self.connections.get_mut(ticket.connection).is_none_or(|connection| {
            let subscribed = connection.subscribed_parts + parts.len();
            connection.subscriptions.len() >= limits::SUBSCRIPTIONS_PER_CONNECTION_MAX
                || subscribed > limits::SUBSCRIBED_PARTITIONS_PER_CONNECTION_MAX
                || connection.subscriptions.iter().any(|(id, _)| *id == subscription)
        });
        let refusal = check_parts(&parts).err().or(taken.then_some(ErrorKind::InvalidRequest));
        if let Some(kind) = refusal {
            self.answer(ticket, Response::Refused(kind), None, effects);
            return;
        }
        self.answer(ticket, Response::Subscribed(subscription), None, effects);
        let kind = Kind::Subscription { ticket, id: subscription, credit_bytes: i64::from(credit_bytes) };
        let count = parts.len();
        let id = self.add_reader(kind, parts, effects);
        if let Some(connection) = self.connections.get_mut(ticket.connection) {
            connection.readers.push(id);
            connection.subscribed_parts += count;
            connection.subscriptions.push((subscription, id));
        }
        self.consider(id, now, effects);
    }

    /// More credit is given without an answer; for a subscription that has ended it means nothing.
    pub(crate) fn on_credit(
        &mut self,
        ticket: Ticket,
        subscription: SubscriptionId,
        bytes: u32,
        now: Now,
        effects: &mut Effects,
    ) {
        self.connections.request_ends(ticket.connection, effects);
        let Some(id) = self.subscription(ticket, subscription) else { return };
        let Some(reader) = self.readers.get_mut(id) else { return };
        if let Kind::Subscription { credit_bytes, .. } = &mut reader.kind {
            *credit_bytes = credit_bytes.saturating_add(i64::from(bytes)).min(i64::from(u32::MAX));
        }
        self.consider(id, now, effects);
    }

    pub(crate) fn on_unsubscribe(
        &mut self,
        ticket: Ticket,
        subscription: SubscriptionId,
        effects: &mut Effects,
    ) {
        if let Some(id) = self.subscription(ticket, subscription) {
            self.end_reader(id, effects);
        }
        self.answer(ticket, Response::Unsubscribed(subscription), None, effects);
    }

    fn subscription(&mut self, ticket: Ticket, subscription: SubscriptionId) -> Option<ReaderId> {
        let connection = self.connections.get_mut(ticket.connection)?;
        connection.subscriptions.iter().find(|(id, _)| *id == subscription).map(|&(_, reader)| reader)
    }

    /// A new reader, known to all partitions it waits for, here and elsewhere.
    pub(crate) fn add_reader(
        &mut self,
        kind: Kind,
        wanted: Vec<FetchPart>,
        effects: &mut Effects,
    ) -> ReaderId {
        let mut remotes: Vec<Remote> = Vec::new();
        let mut parts = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let home = self.home_of(wanted.partition);
            if let Home::There(shard) = home {
                match remotes.iter_mut().find(|remote| remote.shard == shard) {
                    Some(remote) => remote.parts += 1,
                    None => remotes.push(Remote { shard, parts: 1, ready_bytes: 0, is_urgent: false }),
                }
            }
            parts.push(Part { wanted, home, hint: ReadHint::default(), ready_bytes: 0, has_ended: false });
        }
        let is_remote = !remotes.is_empty();
        let homes: Vec<Home> = parts.iter().map(|part| part.home).collect();
        let id = self.readers.add(kind, parts, remotes);
        for (index, home) in homes.into_iter().enumerate() {
            if let Home::Here(slot) = home
                && let Some(owned) = self.partitions.get_mut(slot)
            {
                owned.watchers.push(Watcher { reader: id, part: index as u32 });
            }
        }
        if is_remote {
            self.watch_elsewhere(id, effects);
        }
        id
    }

    /// A partition of a reader is gone: its part has an error to report.
    pub(crate) fn lose_partition(&mut self, watcher: Watcher) {
        let Some(reader) = self.readers.get_mut(watcher.reader) else { return };
        if let Some(part) = reader.parts.get_mut(watcher.part as usize) {
            part.home = Home::Nowhere;
        }
    }

    /// Looks at every part of a reader anew and answers if enough is ready.
    pub(crate) fn consider(&mut self, id: ReaderId, now: Now, effects: &mut Effects) {
        let Some(reader) = self.readers.take(id) else { return };
        self.look_again(reader, now, effects);
    }

    /// The same for a reader that was taken.
    pub(crate) fn look_again(&mut self, mut reader: Box<Reader>, now: Now, effects: &mut Effects) {
        for part in reader.parts.iter_mut().filter(|part| !part.has_ended) {
            part.ready_bytes = match part.home {
                Home::Here(slot) => self.ready_bytes(slot, part),
                Home::There(_) => 0,
                Home::Nowhere => URGENT_BYTES,
            };
        }
        self.answer_if_ready(reader, now, effects);
    }

    /// Bytes of a part that can be read now; [`URGENT_BYTES`] where there is an error to report.
    fn ready_bytes(&mut self, slot: Slot, part: &Part) -> u64 {
        let Some(owned) = self.partitions.get_mut(slot) else { return URGENT_BYTES };
        if owned.stage == Stage::Deleting {
            return URGENT_BYTES;
        }
        let wanted = part.wanted;
        match owned.log.read(&self.slab, wanted.offset, part.hint, wanted.bytes_max, owned.high_watermark) {
            ReadPlan::AtEnd => 0,
            ReadPlan::Hot(hot) => {
                owned.log.unpin(hot.pin);
                u64::from(hot.bytes)
            }
            ReadPlan::Cold(cold) => {
                owned.log.cold_done(&cold);
                u64::from(cold.usable.max(1))
            }
            // What is not in memory is old: there is enough of it.
            ReadPlan::Needs(first) => {
                owned.log.preread_unneeded(&first);
                u64::from(wanted.bytes_max.max(1))
            }
            ReadPlan::OutOfRange | ReadPlan::Damaged { .. } => URGENT_BYTES,
        }
    }

    fn answer_if_ready(&mut self, reader: Box<Reader>, now: Now, effects: &mut Effects) {
        let id = reader.id;
        let ready_bytes = reader.ready_bytes();
        let is_urgent = reader.is_urgent();
        let bytes_max = match reader.kind {
            Kind::Fetch { bytes_min, bytes_max, .. } if ready_bytes >= bytes_min || is_urgent => bytes_max,
            Kind::Subscription { credit_bytes, .. } if ready_bytes > 0 && (credit_bytes > 0 || is_urgent) => {
                u32::try_from(credit_bytes.max(0)).unwrap_or(u32::MAX)
            }
            Kind::Shard { from, watch } => {
                let message = Message::Ready { watch, bytes: ready_bytes, urgent: is_urgent };
                self.readers.put_back(reader);
                self.send(from, &message, effects);
                return;
            }
            _ => {
                self.readers.put_back(reader);
                return;
            }
        };
        self.readers.put_back(reader);
        // Half the bound at a time keeps the socket busy. Without credit only what is urgent is said.
        self.collect(id, bytes_max.min(limits::SEND_BYTES_PINNED_MAX / 2), now, effects);
    }

    /// Collects for a reader of a connection, or has it wait in line while what the connection's peer has not taken
    /// yet is too much.
    fn collect(&mut self, id: ReaderId, bytes_max: u32, now: Now, effects: &mut Effects) {
        let is_crowded = self.room.is_crowded();
        let Some(reader) = self.readers.get_mut(id) else { return };
        if reader.gather.is_some() || reader.is_stalled {
            return;
        }
        if let Some(ticket) = reader.kind.ticket()
            && !self.connections.may_collect(ticket.connection, is_crowded)
        {
            reader.is_stalled = true;
            self.connections.stall(ticket.connection, id);
            return;
        }
        let exceed_max = if bytes_max > 0 { u32::MAX } else { 0 };
        self.begin_gather(id, bytes_max, exceed_max, now, effects);
    }

    /// Of those who wait in the line of a connection whose peer has taken something, some look again. The others, and
    /// other connections, follow in turn.
    pub(crate) fn serve_stalled(&mut self, now: Now, effects: &mut Effects) {
        for connection in self.connections.take_eased() {
            for _ in 0..limits::VISIT_INPUTS_MAX {
                let is_crowded = self.room.is_crowded();
                let Some(id) = self.connections.next_stalled(connection, is_crowded) else { break };
                self.unstall_reader(id, now, effects);
            }
            self.connections.note_eased(connection, self.room.is_crowded(), effects);
        }
    }

    fn unstall_reader(&mut self, id: ReaderId, now: Now, effects: &mut Effects) {
        let Some(reader) = self.readers.get_mut(id) else { return };
        reader.is_stalled = false;
        if reader.is_due {
            self.answer_now(id, now, effects);
        } else {
            self.consider(id, now, effects);
        }
    }

    /// Partitions whose end moved tell those who wait for them.
    pub(crate) fn wake_readers(&mut self, now: Now, effects: &mut Effects) {
        while let Some(slot) = self.woken.pop() {
            let Some(owned) = self.partitions.get_mut(slot) else { continue };
            owned.is_woken = false;
            let watchers: Vec<Watcher> = owned.watchers.clone();
            for watcher in watchers {
                self.wake_part(watcher, slot, now, effects);
            }
        }
        while let Some(id) = self.readers.woken.pop() {
            self.consider(id, now, effects);
        }
    }

    /// One part of a reader has more; the others are as they were.
    fn wake_part(&mut self, watcher: Watcher, slot: Slot, now: Now, effects: &mut Effects) {
        let Some(mut reader) = self.readers.take(watcher.reader) else { return };
        if reader.gather.is_some() || reader.is_stalled {
            self.readers.put_back(reader);
            return;
        }
        let index = watcher.part as usize;
        let ready_bytes = reader.parts.get(index).map_or(0, |part| self.ready_bytes(slot, part));
        if let Some(part) = reader.parts.get_mut(index).filter(|part| !part.has_ended) {
            part.ready_bytes = ready_bytes;
        }
        self.answer_if_ready(reader, now, effects);
    }

    /// Fetches whose deadline has come are answered with what there is.
    pub(crate) fn expire_readers(&mut self, now: Now, effects: &mut Effects) {
        while let Some(id) = self.readers.expired(now) {
            self.answer_now(id, now, effects);
        }
        for id in core::mem::take(&mut self.readers.hungry) {
            if self.readers.get_mut(id).is_some_and(|reader| reader.gather.is_none()) {
                self.consider(id, now, effects);
            }
        }
    }

    /// A peer sends no more: what it has asked for is answered, and it is not kept waiting for more to come.
    pub(crate) fn on_ended(&mut self, connection: ConnectionId, now: Now, effects: &mut Effects) {
        for id in self.connections.readers_of(connection) {
            self.answer_now(id, now, effects);
        }
        self.connections.end_input(connection, effects);
    }

    /// The node stops: nobody waits any more.
    pub(crate) fn answer_all_readers(&mut self, now: Now, effects: &mut Effects) {
        for id in self.readers.ids() {
            match self.readers.get_mut(id).map(|reader| reader.kind) {
                Some(Kind::Fetch { .. }) => self.answer_last(id, now, effects),
                Some(_) => self.end_reader(id, effects),
                None => {}
            }
        }
    }

    /// A fetch is answered with what there is, or refused where its peer takes nothing.
    fn answer_last(&mut self, id: ReaderId, now: Now, effects: &mut Effects) {
        self.answer_now(id, now, effects);
        let Some(reader) = self.readers.get_mut(id) else { return };
        if let Some(ticket) = reader.kind.ticket().filter(|_| reader.is_stalled) {
            self.end_reader(id, effects);
            self.answer(ticket, Response::Refused(ErrorKind::NotReady), None, effects);
        }
    }

    /// A fetch waits no longer for more.
    fn answer_now(&mut self, id: ReaderId, now: Now, effects: &mut Effects) {
        let Some(reader) = self.readers.get_mut(id) else { return };
        if let Kind::Fetch { bytes_max, .. } = reader.kind {
            reader.is_due = true;
            self.collect(id, bytes_max.min(limits::SEND_BYTES_PINNED_MAX), now, effects);
        }
    }

    /// Ends a reader whose connection is gone, or that is not wanted any more. One that expects something from the
    /// disk or from another shard ends when that has come: until then it keeps the room for it.
    pub(crate) fn end_reader(&mut self, id: ReaderId, effects: &mut Effects) {
        let Some(mut reader) = self.readers.take(id) else { return };
        if reader.gather.as_ref().is_some_and(|gather| gather.is_expecting()) {
            self.forget_reader(&mut reader, effects);
            self.readers.put_back(reader);
            return;
        }
        if let Some(gather) = reader.gather.take() {
            match reader.kind {
                Kind::Fetch { ticket, .. } | Kind::Subscription { ticket, .. } => {
                    self.drop_charged_gather(ticket, *gather, effects);
                }
                Kind::Shard { from, watch } => {
                    self.drop_gather(*gather);
                    self.send_nothing_collected(from, watch, effects);
                }
            }
        }
        self.drop_reader(reader, effects);
    }

    /// The reader is no more.
    pub(crate) fn drop_reader(&mut self, mut reader: Box<Reader>, effects: &mut Effects) {
        self.forget_reader(&mut reader, effects);
        self.readers.end(&reader);
    }

    /// Nobody knows the reader any more, here or elsewhere.
    fn forget_reader(&mut self, reader: &mut Reader, effects: &mut Effects) {
        if core::mem::replace(&mut reader.is_ending, true) {
            return;
        }
        self.forget_watchers(reader, effects);
        let Some(ticket) = reader.kind.ticket() else { return };
        let parts = reader.parts.len();
        if let Kind::Fetch { .. } = reader.kind {
            self.connections.unweigh(ticket.connection, weight_of(parts), effects);
        }
        let Some(connection) = self.connections.get_mut(ticket.connection) else { return };
        connection.readers.retain(|id| *id != reader.id);
        if let Kind::Subscription { .. } = reader.kind {
            connection.subscribed_parts = connection.subscribed_parts.saturating_sub(parts);
            connection.subscriptions.retain(|(_, id)| *id != reader.id);
        }
    }

    fn forget_watchers(&mut self, reader: &Reader, effects: &mut Effects) {
        for part in &reader.parts {
            if let Home::Here(slot) = part.home
                && let Some(owned) = self.partitions.get_mut(slot)
            {
                owned.watchers.retain(|watcher| watcher.reader != reader.id);
            }
        }
        for remote in &reader.remotes {
            self.send(remote.shard, &Message::Unwatch { watch: reader.id.number() }, effects);
        }
    }
}

/// What so many partitions of a waiting request are taken to cost.
pub(crate) const fn weight_of(parts: usize) -> u64 {
    parts as u64 * limits::REQUEST_PART_BYTES as u64
}

fn check_parts(parts: &[FetchPart]) -> Result<(), ErrorKind> {
    if parts.is_empty() || parts.len() > limits::FETCH_PARTITIONS_MAX as usize {
        return Err(ErrorKind::InvalidRequest);
    }
    if parts.iter().any(|part| part.bytes_max == 0) {
        return Err(ErrorKind::InvalidFetchSize);
    }
    // B65: a partition twice in one request has no one answer.
    let mut ids: Vec<_> = parts.iter().map(|part| part.partition).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) { Err(ErrorKind::InvalidRequest) } else { Ok(()) }
}
