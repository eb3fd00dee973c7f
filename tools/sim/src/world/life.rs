//! The row of lives: start, work, end, and what must be true in between.

use cutwater_broker::Input;
use cutwater_journal::group::GroupHeader;
use cutwater_model::ShardId;

use super::{Event, World};
use crate::disk::{Fates, Faults};
use crate::finding::{Checked, Finding};
use crate::plan::{End, Life, ROOMY_BYTES};
use crate::trace::WORLD;
use crate::workload::{
    Client, admin::Admin, auditor::Auditor, numbered::Numbered, plain::Plain, reader::Reader,
    subscriber::Subscriber,
};

/// Everything that was asked is answered after so long, when the disk is well.
const PATIENCE_US: u64 = 60_000_000;

impl World {
    /// Runs all lives.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn run(&mut self) -> Checked {
        let found = self.run_lives();
        if found.is_err() {
            self.say_shards();
        }
        found
    }

    fn run_lives(&mut self) -> Checked {
        self.add_clients();
        let lives = self.plan.lives.clone();
        for (index, life) in lives.iter().enumerate() {
            let is_last = index + 1 == lives.len();
            self.live(life, is_last)?;
        }
        // What a clean stop left behind is everything.
        let last = Life { audited: true, lasts_us: 0, ..lives[lives.len() - 1].clone() };
        self.live(&last, true)
    }

    fn add_clients(&mut self) {
        let [plain, numbered, reader, subscriber, admin] = self.plan.clients;
        let clients = |count: u64, client: fn() -> Box<dyn Client>| (0..count).map(move |_| client());
        let all: Vec<Box<dyn Client>> = clients(admin, || Box::<Admin>::default())
            .chain(clients(plain, || Box::<Plain>::default()))
            .chain(clients(numbered, || Box::<Numbered>::default()))
            .chain(clients(reader, || Box::<Reader>::default()))
            .chain(clients(subscriber, || Box::<Subscriber>::default()))
            .collect();
        for client in all {
            self.add_client(client);
        }
    }

    /// One life.
    fn live(&mut self, life: &Life, is_last: bool) -> Checked {
        self.life += 1;
        self.winding_down = false;
        self.is_stopping = false;
        self.say(WORLD, || format!("life {}: {life:?}", self.life));
        self.note(WORLD, "life", [u64::from(self.life), u64::from(life.shards), life.lasts_us]);
        if life.rots {
            self.rot();
        }
        if !self.start(life)? {
            self.tally.refused_starts += 1;
            self.accept_loss(life)?;
        }
        if life.audited {
            self.audit()?;
        }
        self.disk.set_faults(life.faults);
        self.disk.set_capacity(life.capacity_bytes.max(self.disk.used_bytes()));
        self.agenda.plan(self.now_us, Event::Clients);
        self.agenda.plan(self.now_us + life.lasts_us / 2, Event::Space);
        let end_us = self.now_us + life.lasts_us;
        while self.agenda.next_us().is_some_and(|next_us| next_us < end_us) {
            self.step()?;
        }
        self.now_us = self.now_us.max(end_us);
        if is_last {
            self.wind_down()?;
            self.audit()?;
            self.oracle.check_streams()?;
        }
        self.end(life.end)?;
        self.tally.lives += 1;
        self.tally.acked = self.oracle.acked() as u64;
        Ok(())
    }

    /// The node refused to start, as it had to; an operator gives up what can't be read, for this start only.
    fn accept_loss(&mut self, life: &Life) -> Checked {
        self.oracle.on_loss_accepted();
        self.accepts_loss = true;
        let has_started = self.start(life);
        self.accepts_loss = false;
        if has_started? {
            return Ok(());
        }
        Err(Finding::new("a start succeeds", "it is refused though the loss is accepted"))
    }

    /// Everything that is under way comes to its end.
    fn wind_down(&mut self) -> Checked {
        self.disk.set_faults(Faults::default());
        self.disk.set_capacity(ROOMY_BYTES);
        self.winding_down = true;
        let end_us = self.now_us + PATIENCE_US;
        let is_done =
            |world: &Self| world.peers.iter().all(|peer| peer.client.is_done() && peer.waiting.is_empty());
        while !is_done(self) && self.now_us < end_us && self.step()? {}
        if is_done(self) {
            // The last changes of topics are made, those too whose askers are gone, and every shard hears of them.
            let is_news = |event: &Event| matches!(event, Event::Command { .. } | Event::Metadata { .. });
            while self.agenda.any(is_news) && self.step()? {}
            return Ok(());
        }
        let stuck: Vec<String> = self
            .peers
            .iter()
            .filter(|peer| !peer.client.is_done() || !peer.waiting.is_empty())
            .map(|peer| format!("{} waits for {:?}", peer.client.kind(), peer.waiting))
            .collect();
        Err(Finding::new("every request is answered", stuck.join("; ")))
    }

    /// Everything there is, is read and compared, with nothing else under way.
    pub(super) fn audit(&mut self) -> Checked {
        let auditor = self.add_client(Box::new(Auditor::alone()));
        self.connect(auditor)?;
        // It has to be sure of the end of each partition that a crash may have shortened.
        let end_us = self.now_us + 10 * PATIENCE_US;
        while !self.peers[auditor].client.is_done() && self.now_us < end_us && self.step()? {}
        if !self.peers[auditor].client.is_done() {
            let seen = format!("{:?}", self.peers[auditor].waiting);
            return Err(Finding::new("what is committed can be read", seen));
        }
        self.forget_client(auditor)
    }

    fn end(&mut self, end: End) -> Checked {
        self.say(WORLD, || format!("ends: {end:?}"));
        match end {
            End::Stop => self.stop(),
            End::Kill => {
                self.crash();
                Ok(())
            }
            End::PowerCut => {
                if std::env::var_os("SIM_DUMP").is_some() {
                    self.say_shards();
                }
                self.cut_power();
                Ok(())
            }
            End::KillThenPowerCut => {
                self.crash();
                let calls = self.random.between(1, 60);
                self.disk.set_calls_left(Some(calls));
                let life = Life { broken_starts: 0, ..self.plan.lives[0].clone() };
                let _ = self.start_once(&life);
                self.cut_power();
                Ok(())
            }
        }
    }

    /// Everything the shards hold, for whoever looks for what is stuck.
    pub(super) fn say_shards(&self) {
        for (index, seat) in self.seats.iter().enumerate() {
            self.say(index as u16, || format!("{:#?}", seat.shard));
        }
    }

    /// Starts on an image and reads everything.
    ///
    /// # Errors
    /// If recovery fails, or what it recovered is not what must be there.
    pub fn check_image(&mut self) -> Checked {
        let life = self.plan.lives[0].clone();
        if self.start_once(&life)? {
            self.audit()?;
            return self.oracle.check_streams();
        }
        Err(Finding::new("a start succeeds", "an image is refused"))
    }

    /// Told to stop: it checkpoints, says when it has, and leaves nothing under way.
    fn stop(&mut self) -> Checked {
        self.disk.set_faults(Faults::default());
        self.disk.set_capacity(ROOMY_BYTES);
        self.is_stopping = true;
        for peer in 0..self.peers.len() {
            self.lose_peer(peer)?;
        }
        for shard in 0..self.seats.len() {
            self.hand(ShardId(shard as u16), Input::Stop)?;
        }
        let end_us = self.now_us + PATIENCE_US;
        let stopped = |world: &Self| world.seats.iter().all(|seat| seat.stopped);
        while !stopped(self) && self.now_us < end_us && self.step()? {}
        if !stopped(self) {
            let seen = format!("{} operations under way", self.disk.in_flight());
            return Err(Finding::new("a node that is told to stop stops", seen));
        }
        self.crash();
        Ok(())
    }

    /// The process ends in this moment; what is under way may still land.
    fn crash(&mut self) {
        self.note(WORLD, "kill", [0; 3]);
        self.oracle.on_crash(self.now_us);
        self.disk.kill();
        self.bury();
    }

    pub(super) fn cut_power(&mut self) {
        self.oracle.on_crash(self.now_us);
        self.disk.drop_into_cache();
        let pending = self.disk.pending();
        let fates = match self.random.below(6) {
            0 => Fates::all(crate::disk::Fate::Drop),
            1 => Fates::all(crate::disk::Fate::Keep),
            _ => Fates::random(&pending, &mut self.random),
        };
        self.note(WORLD, "power cut", [pending.len() as u64, 0, 0]);
        self.disk.cut_power(&fates);
        self.bury();
    }

    /// Flips a bit of a journal, in a group that a later one says was durable. Rot in the very last groups can't be
    /// told from a torn tail (R3), so nothing could be asked of a node that meets it.
    fn rot(&mut self) {
        let groups = self.groups();
        let durable = |shard| {
            let of_shard = groups.iter().filter(|(_, header)| header.shard == shard);
            of_shard.map(|(_, header)| header.durable.0).max().unwrap_or(0)
        };
        let lately = |header: &GroupHeader| {
            let durable = durable(header.shard);
            (durable.saturating_sub(10)..=durable).contains(&header.sequence.0)
        };
        let witnessed: Vec<_> = groups.iter().filter(|(_, header)| lately(header)).collect();
        if let Some(&&(file, header)) = self.random.pick(&witnessed) {
            let at = header.place.at + self.random.below(u64::from(header.bytes));
            let bit = self.random.below(8) as u8;
            self.note(WORLD, "rot", [at, u64::from(bit), header.sequence.0]);
            self.say(WORLD, || format!("{file} at {at}, bit {bit}, group {}", header.sequence.0));
            self.oracle.rotten |= self.disk.rot(file, at, bit);
        }
    }
}
