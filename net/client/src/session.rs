//! One connection without the connection: requests become bytes to send, received bytes become answers.
//!
//! Pure: it does no I/O and reads no clock. Answers borrow the bytes they came in; only a frame that comes in parts is
//! put together in memory of the session, which is used again.

use cutwater_api::{Produce, Request, SubscriptionId};
use cutwater_model::ShardId;
use cutwater_model::limits::{ANSWER_BYTES_MAX, FRAME_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};
use cutwater_native::api::fetch::FetchedView;
use cutwater_native::frame::{self, Cut, HEADER_BYTES};
use cutwater_native::{Answer, ClientPreface, ServerPreface, api, preface, request, response};

use crate::error::LinkFault;
use crate::pending::{Pending, UNANSWERED};

/// The token of a refusal that belongs to a request nobody waits for: credit, or a produce with acks 0.
pub const NO_TOKEN: u64 = u64::MAX;

/// What a connection tells.
#[derive(Debug)]
pub enum Event<'a> {
    /// The server has accepted the connection.
    Up(ServerPreface),
    /// The answer to a request.
    Answered {
        /// What the caller gave with the request; [`NO_TOKEN`] where a request without an answer was refused.
        token: u64,
        /// The answer.
        answer: Answer<'a>,
    },
    /// Records of a subscription.
    Pushed {
        /// Whose.
        subscription: SubscriptionId,
        /// What.
        fetched: FetchedView<'a>,
    },
    /// The connection is gone, and with it every request that waited. Comes from the transport, once.
    Down(LinkFault),
}

/// The client's side of one connection. See the module.
#[derive(Debug)]
pub struct Session {
    output: Vec<u8>,
    partial: Vec<u8>,
    pending: Pending,
    requests_max: usize,
    frame_bytes_max: usize,
    is_up: bool,
}

impl Session {
    /// A session that begins with the preface for `shard`, or for any.
    #[must_use]
    pub fn new(shard: Option<ShardId>) -> Self {
        let mut session = Self {
            output: Vec::new(),
            partial: Vec::new(),
            pending: Pending::default(),
            requests_max: 0,
            frame_bytes_max: 0,
            is_up: false,
        };
        session.restart(shard);
        session
    }

    /// Begins anew on another connection, keeping the memory. Requests that waited are forgotten.
    pub fn restart(&mut self, shard: Option<ShardId>) {
        self.output.clear();
        self.partial.clear();
        self.pending.clear();
        self.requests_max = REQUESTS_IN_FLIGHT_MAX as usize;
        self.frame_bytes_max = FRAME_BYTES_MAX as usize;
        self.is_up = false;
        ClientPreface::new(shard).encode(&mut self.output);
    }

    /// Whether the server has accepted the connection.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.is_up
    }

    /// How many requests wait for their answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// How many bytes wait to be sent.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// Takes the bytes to send and leaves `spare`, emptied, in their place.
    #[must_use]
    pub fn take_output(&mut self, mut spare: Vec<u8>) -> Vec<u8> {
        spare.clear();
        core::mem::replace(&mut self.output, spare)
    }

    /// Queues a produce request; false when as many requests wait as the server reads, or the batch is longer than it
    /// takes. With acks 0 no answer comes.
    #[inline]
    pub fn produce(&mut self, token: u64, produce: &Produce<'_>) -> bool {
        if produce.batch.len() + api::produce::REQUEST_HEAD_BYTES > self.frame_bytes_max {
            return false;
        }
        let Some(correlation) = self.correlation(token, produce.acks != cutwater_api::RequiredAcks::None)
        else {
            return false;
        };
        api::produce::encode_request(&mut self.output, correlation, produce);
        true
    }

    /// The same, and then shows the copy of the batch that will be sent, so that a load generator can number it in
    /// place instead of building each batch anew.
    #[inline]
    pub fn produce_patched(
        &mut self,
        token: u64,
        produce: &Produce<'_>,
        patch: impl FnOnce(&mut [u8]),
    ) -> bool {
        let queued = self.produce(token, produce);
        if queued {
            let from = self.output.len() - produce.batch.len();
            patch(&mut self.output[from..]);
        }
        queued
    }

    /// Queues a request; false when as many wait as the server reads.
    pub fn request(&mut self, token: u64, request: &Request<'_>) -> bool {
        let is_answered = !matches!(request, Request::AddCredit { .. });
        let Some(correlation) = self.correlation(token, is_answered) else { return false };
        request::encode(&mut self.output, correlation, request);
        true
    }

    /// Queues a ping, which the node answers without asking its engine; false when as many requests wait as it reads.
    pub fn ping(&mut self, token: u64) -> bool {
        let Some(correlation) = self.correlation(token, true) else { return false };
        api::ping::encode_request(&mut self.output, correlation);
        true
    }

    #[inline]
    fn correlation(&mut self, token: u64, is_answered: bool) -> Option<u32> {
        if !is_answered {
            return Some(UNANSWERED);
        }
        if self.pending.len() >= self.requests_max { None } else { self.pending.insert(token) }
    }

    /// Takes received bytes, which may begin and end anywhere in a frame, and tells what they say.
    ///
    /// # Errors
    /// If they aren't what a server says. The connection is then of no use any more.
    pub fn on_bytes(
        &mut self,
        mut bytes: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), LinkFault> {
        while !bytes.is_empty() {
            if self.partial.is_empty() {
                let taken = self.take_one(bytes, on_event)?;
                if taken == 0 {
                    self.partial.extend_from_slice(bytes);
                    break;
                }
                bytes = &bytes[taken..];
            } else {
                let missing = self.bytes_needed(&self.partial)?.saturating_sub(self.partial.len());
                let (more, rest) = bytes.split_at(missing.min(bytes.len()));
                self.partial.extend_from_slice(more);
                bytes = rest;
                let partial = core::mem::take(&mut self.partial);
                let taken = self.take_one(&partial, on_event);
                self.partial = partial;
                if taken? > 0 {
                    self.partial.clear();
                }
            }
        }
        Ok(())
    }

    /// How many bytes the preface or frame at the front has, as far as known.
    fn bytes_needed(&self, bytes: &[u8]) -> Result<usize, LinkFault> {
        if !self.is_up {
            return Ok(preface::SERVER_BYTES);
        }
        match frame::cut(bytes, ANSWER_BYTES_MAX)? {
            // Without its length a frame's need is not known; ask for no more than its length.
            Cut::Incomplete { .. } if bytes.len() < 4 => Ok(4),
            Cut::Incomplete { bytes_needed } => Ok(bytes_needed.max(HEADER_BYTES)),
            Cut::Whole(frame) => Ok(frame.bytes()),
        }
    }

    /// Takes one preface or frame off the front; 0 when it isn't whole.
    #[inline]
    fn take_one(&mut self, bytes: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<usize, LinkFault> {
        if !self.is_up {
            return self.take_preface(bytes, on_event);
        }
        let Cut::Whole(frame) = frame::cut(bytes, ANSWER_BYTES_MAX)? else { return Ok(0) };
        let answer = response::decode(&frame)?;
        if let Answer::Pushed { subscription, fetched } = answer {
            on_event(Event::Pushed { subscription, fetched });
        } else if let Some(token) = self.pending.remove(frame.correlation) {
            on_event(Event::Answered { token, answer });
        } else if matches!(answer, Answer::Refused(_)) {
            on_event(Event::Answered { token: NO_TOKEN, answer });
        } else {
            return Err(LinkFault::Unasked { kind: frame.kind });
        }
        Ok(frame.bytes())
    }

    #[cold]
    fn take_preface(
        &mut self,
        bytes: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, LinkFault> {
        if !preface::may_begin(bytes) {
            return Err(LinkFault::NotCutwater);
        }
        let Some(bytes) = bytes.first_chunk::<{ preface::SERVER_BYTES }>() else { return Ok(0) };
        let preface = ServerPreface::decode(bytes).map_err(|_| LinkFault::NotCutwater)?;
        let accepted = preface.outcome.map_err(|failure| LinkFault::Refused {
            failure,
            version_least: preface.version_least,
            version_most: preface.version_most,
        })?;
        self.is_up = true;
        self.requests_max = accepted.requests_in_flight_max as usize;
        // The length on the wire doesn't count its own four bytes.
        self.frame_bytes_max = (accepted.frame_bytes_max as usize).saturating_add(4);
        on_event(Event::Up(preface));
        Ok(preface::SERVER_BYTES)
    }
}

#[cfg(test)]
mod tests;
