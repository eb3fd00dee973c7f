//! The server's machine for one native connection: preface, then frames. Lives on the shard's core, does no I/O.

use cutwater_api::{
    Announced, CloseReason, NodeFacts, Output, Request, Response, Session, Step, Ticket, Upcoming,
};
use cutwater_model::{ErrorKind, limits::FRAME_BYTES_MAX};

use crate::{
    api,
    error::DecodeError,
    frame::{self, Cut, Frame},
    preface::{self, ClientPreface, ServerPreface},
    request::{self, Asked},
    response,
};

/// One native connection on the server's side.
#[derive(Clone, Debug)]
pub struct ServerSession {
    facts: NodeFacts,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The client's preface has not been answered.
    Greeting,
    /// Frames come and go.
    Open,
    /// Whatever comes is not looked at.
    Closed(CloseReason),
}

impl Session for ServerSession {
    fn new(facts: NodeFacts) -> Self {
        Self { facts, state: State::Greeting }
    }

    #[inline]
    fn on_bytes<'a>(&mut self, bytes: &'a [u8], output: &mut Output) -> Step<'a> {
        match self.state {
            State::Open => self.read_frame(bytes, output),
            State::Greeting => self.read_preface(bytes, output),
            State::Closed(reason) => Step::Close(reason),
        }
    }

    fn announced(&self, bytes: &[u8]) -> Option<Announced> {
        if self.state == State::Open { api::produce::announced(bytes) } else { None }
    }

    fn upcoming(&self, bytes: &[u8], into: &mut [Upcoming]) -> usize {
        if self.state == State::Open { api::produce::upcoming(bytes, into) } else { 0 }
    }

    #[inline]
    fn on_response(&mut self, ticket: Ticket, response: &Response, output: &mut Output) {
        response::encode(output, ticket.correlation, response);
    }

    fn moved(&mut self, facts: NodeFacts) {
        self.facts = facts;
    }
}

impl ServerSession {
    #[inline]
    fn read_frame<'a>(&mut self, bytes: &'a [u8], output: &mut Output) -> Step<'a> {
        let frame = match frame::cut(bytes, FRAME_BYTES_MAX) {
            Ok(Cut::Whole(frame)) => frame,
            Ok(Cut::Incomplete { bytes_needed }) => return Step::Incomplete { bytes_needed },
            Err(_) => return self.close(CloseReason::FrameLength),
        };
        let consumed = frame.bytes();
        // The one request that comes by the million is not moved in and out of a type that holds all of them.
        if frame.kind == frame::kind::PRODUCE {
            return match api::produce::decode_request(&frame) {
                Ok(produce) => {
                    let (correlation, request) = (frame.correlation, Request::Produce(produce));
                    Step::Request { consumed, correlation, request }
                }
                Err(error) => self.refuse(&frame, error, output),
            };
        }
        match request::decode(&frame) {
            Ok(Asked::Request(request)) => {
                Step::Request { consumed, correlation: frame.correlation, request }
            }
            Ok(Asked::Ping) => {
                api::ping::encode_answer(output.bytes(), frame.correlation);
                Step::Done { consumed }
            }
            Err(error) => self.refuse(&frame, error, output),
        }
    }

    /// Tells the peer what is wrong with its frame; goes on only where the peer can't have lost the thread.
    #[cold]
    fn refuse<'a>(&mut self, frame: &Frame<'_>, error: DecodeError, output: &mut Output) -> Step<'a> {
        api::refused::encode(output.bytes(), frame.correlation, error.kind(), format_args!("{error}"));
        if error.is_fatal() {
            self.close(CloseReason::Malformed)
        } else {
            Step::Done { consumed: frame.bytes() }
        }
    }

    /// Answers the preface, or leaves it unread for the shard that it asks for.
    fn read_preface<'a>(&mut self, bytes: &'a [u8], output: &mut Output) -> Step<'a> {
        // TLS, HTTP and the like differ in their first byte and need not wait for the rest (B9, B10).
        if !preface::may_begin(bytes) {
            return self.close(CloseReason::NotOurProtocol);
        }
        let Some(preface) = bytes.first_chunk() else {
            return Step::Incomplete { bytes_needed: preface::CLIENT_BYTES };
        };
        let Ok(preface) = ClientPreface::decode(preface) else {
            return self.close(CloseReason::Malformed);
        };
        let version = preface.version_most.min(preface::VERSION_MOST);
        if version < preface.version_least.max(preface::VERSION_LEAST) {
            return self.refuse_preface(ErrorKind::UnsupportedVersion, CloseReason::Version, output);
        }
        match preface.shard {
            Some(shard) if shard.0 < self.facts.shards && shard != self.facts.shard => {
                Step::Move { consumed: 0, shard }
            }
            // Also for a client that asks for a shard of an older map: this one serves it and says which it is.
            _ => {
                ServerPreface::accept(self.facts, version).encode(output.bytes());
                self.state = State::Open;
                Step::Done { consumed: preface::CLIENT_BYTES }
            }
        }
    }

    #[cold]
    fn refuse_preface<'a>(&mut self, kind: ErrorKind, reason: CloseReason, output: &mut Output) -> Step<'a> {
        ServerPreface::refuse(self.facts, kind).encode(output.bytes());
        self.close(reason)
    }

    #[cold]
    fn close<'a>(&mut self, reason: CloseReason) -> Step<'a> {
        self.state = State::Closed(reason);
        Step::Close(reason)
    }
}

#[cfg(test)]
mod tests;
