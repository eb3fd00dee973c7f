//! What a producer makes of what its connections tell.

use cutwater_model::Offset;
use cutwater_native::{Answer, Failure};

use super::{DESCRIBE_TOKEN, IDENTITY_TOKEN, Machine, Question, REFRESH_US, ask_again};
use crate::session::Event;
use crate::wire::LinkId;

impl Machine {
    #[inline]
    pub(in crate::producer) fn on_event(&mut self, link: LinkId, event: Event<'_>, now_us: u64) {
        match event {
            Event::Answered { token, answer: Answer::Produced(produced) } => {
                let answer = produced.failure.map_or(Ok(produced.base_offset), Err);
                self.on_produced(token, answer, now_us);
                if let Some(place) = self.links.place(link) {
                    self.links.on_answer(place);
                }
            }
            Event::Answered { token, answer } => self.on_other_answer(token, &answer, now_us),
            Event::Up(preface) => {
                if let Some(place) = self.links.on_up(link, &preface) {
                    self.list_lanes_of(place);
                }
            }
            Event::Down(fault) => {
                if let Some(place) = self.links.on_down(link, fault, now_us) {
                    self.on_link_down(place);
                }
            }
            Event::Pushed { .. } => {}
        }
    }

    fn on_produced(&mut self, token: u64, answer: Result<Offset, Failure>, now_us: u64) {
        let (number, serial) = ((token >> 32) as u32, token as u32);
        let Some(lane) = self.lanes.get_mut(number as usize) else { return };
        let hint = lane.on_answer(serial, answer, now_us);
        if hint.map_is_stale {
            self.ask_topics.is_wanted = true;
        }
        if hint.is_disowned {
            self.identity = None;
        }
        let Some(lane) = self.lanes.get(number as usize) else { return };
        if lane.has_waiting() {
            self.list(number);
        }
        self.report(number);
    }

    #[cold]
    fn on_other_answer(&mut self, token: u64, answer: &Answer<'_>, now_us: u64) {
        match (token, answer) {
            (DESCRIBE_TOKEN, Answer::Topics(view)) => {
                // A topic that was opened since the question has its own.
                let is_wanted = self.topics.len() > self.topics_asked;
                self.ask_topics = Question { is_wanted, ..Question::default() };
                self.refresh_at_us = now_us + REFRESH_US;
                self.on_topics(view);
            }
            (IDENTITY_TOKEN, &Answer::ProducerIdAllocated(id, epoch)) => {
                self.ask_identity = Question::default();
                self.identity = Some((id, epoch));
            }
            (DESCRIBE_TOKEN, _) => self.ask_topics = ask_again(now_us),
            (IDENTITY_TOKEN, _) => self.ask_identity = ask_again(now_us),
            (_, Answer::Refused(refusal)) => self.on_produced(token, Err(refusal.failure), now_us),
            _ => {}
        }
    }

    pub(super) fn on_link_down(&mut self, place: usize) {
        // A question was perhaps asked on this connection; asking twice does no harm.
        self.ask_topics.is_asked = false;
        self.ask_identity.is_asked = false;
        for lane in self.lanes.iter_mut().filter(|lane| lane.link == place) {
            lane.on_link_down();
        }
    }

    fn list_lanes_of(&mut self, place: usize) {
        for number in 0..self.lanes.len() {
            if self.lanes[number].link == place && self.lanes[number].has_waiting() {
                self.list(number as u32);
            }
        }
    }
}
