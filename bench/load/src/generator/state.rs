//! What answers and pushes change: counts, latencies, what is under way.

use cutwater_api::SubscriptionId;
use cutwater_client::{Event, LinkId};
use cutwater_native::api::fetch::FetchedView;
use cutwater_native::{Answer, Failure};
use hdrhistogram::Histogram;

use crate::arguments::Mode;
use crate::payload::Stamp;
use crate::report::Total;
use crate::subscriptions::Subscriptions;
use crate::writers::Writers;

/// Everything that answers change.
#[derive(Debug)]
pub(super) struct State {
    pub(super) writers: Writers,
    pub(super) readers: Option<Subscriptions>,
    pub(super) mode: Mode,
    pub(super) batch_bytes: u64,
    pub(super) records_per_batch: u64,
    /// The measured time, on the monotonic clock.
    pub(super) window_ns: (u64, u64),
    pub(super) histogram: Histogram<u64>,
    pub(super) ack_histogram: Histogram<u64>,
    pub(super) links_up: usize,
    pub(super) acked: Total,
    /// Requests answered in the measured time, whenever they were intended; records where they are read.
    pub(super) done_in_window: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) fault: Option<String>,
    /// Since the last progress line.
    pub(super) records_shown: u64,
    pub(super) latency_ns_max: u64,
}

impl State {
    #[inline]
    pub(super) fn on_event(&mut self, link: LinkId, event: Event<'_>, now_ns: u64) {
        match event {
            Event::Answered { token, answer: Answer::Produced(produced) } => {
                self.writers.on_answer(link);
                match produced.failure {
                    None => self.on_acked(token, now_ns),
                    Some(failure) => self.on_refused(failure),
                }
            }
            Event::Pushed { subscription, fetched } => self.on_pushed(link, subscription, fetched, now_ns),
            Event::Answered { answer: Answer::Refused(refusal), .. } => {
                self.writers.on_answer(link);
                self.on_refused(refusal.failure);
            }
            Event::Answered { .. } => {}
            Event::Up(_) => self.links_up += 1,
            Event::Down(fault) => self.fault = Some(fault.to_string()),
        }
    }

    #[inline]
    fn on_acked(&mut self, intended_ns: u64, now_ns: u64) {
        self.acked.records += self.records_per_batch;
        self.acked.bytes += self.batch_bytes;
        let latency_ns = now_ns.saturating_sub(intended_ns);
        self.latency_ns_max = self.latency_ns_max.max(latency_ns);
        let (from_ns, to_ns) = self.window_ns;
        if intended_ns >= from_ns && intended_ns < to_ns {
            self.ack_histogram.saturating_record(latency_ns);
        }
        let is_done = now_ns >= from_ns && now_ns < to_ns && self.mode != Mode::EndToEnd;
        self.done_in_window += u64::from(is_done);
    }

    #[cold]
    fn on_refused(&mut self, failure: Failure) {
        self.errors += 1;
        let why = failure.kind().map_or(format!("code {}", failure.code), |kind| kind.to_string());
        self.first_error.get_or_insert(why);
    }

    fn on_pushed(
        &mut self,
        link: LinkId,
        subscription: SubscriptionId,
        fetched: FetchedView<'_>,
        now_ns: u64,
    ) {
        let Self { readers, histogram, window_ns, done_in_window, mode, .. } = self;
        let Some(readers) = readers else { return };
        let is_timed = *mode == Mode::EndToEnd;
        let is_done = is_timed && now_ns >= window_ns.0 && now_ns < window_ns.1;
        readers.on_pushed(link, subscription, fetched, |stamp: &Stamp| {
            *done_in_window += u64::from(is_done);
            if is_timed && stamp.intended_ns >= window_ns.0 && stamp.intended_ns < window_ns.1 {
                histogram.saturating_record(now_ns.saturating_sub(stamp.intended_ns));
            }
        });
    }
}
