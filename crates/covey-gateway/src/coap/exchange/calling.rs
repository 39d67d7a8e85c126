//! The side that asks: requests to a peer, one on its way at a time, repeated until they are acknowledged, in
//! blocks where they or their answers are long.

use rand::RngExt;

use super::call::{Call, Progress, Purpose, Stage, request_bytes, write};
use super::event::{Event, Failure, Refused, Request, RequestId, Response};
use super::observing::Observation;
use super::peer::Step;
use super::terms::{
    ACK_TIMEOUT_LATEST_MS, ACK_TIMEOUT_MS, CALLS_MAX, NON_TURN_MS, OBSERVATIONS_MAX, PEER_BYTES_MAX,
    RETRANSMIT_MAX, SEGMENT_BYTES_MAX, STRANGER_RETRANSMIT_MAX, TARGET_BYTES_MAX, TRANSMIT_WAIT_MS_MAX,
};
use crate::coap::message::{Code, Draft, Kind, Message, Token};

impl Step<'_> {
    /// Begins a request of the owner.
    pub fn request(&mut self, port: u16, mut request: Request) -> Result<RequestId, Refused> {
        if !request.method.is_request() {
            return Err(Refused::NoMethod);
        }
        request.observe &= request.method == Code::GET;
        if request.payload.len() > self.terms.body_bytes_max {
            return Err(Refused::TooLarge);
        }
        let target_bytes: usize =
            request.path.len() + request.queries.iter().map(|query| query.len() + 1).sum::<usize>();
        let mut parts = request.path.split('/').chain(request.queries.iter().map(String::as_str));
        if target_bytes > TARGET_BYTES_MAX || parts.any(|part| part.len() > SEGMENT_BYTES_MAX) {
            return Err(Refused::TargetTooLong);
        }
        let work = self.peer.work();
        let observations = work.map_or(0, |work| {
            work.observations.len() + work.calls.iter().filter(|call| call.request.observe).count()
        });
        if request.observe && observations >= OBSERVATIONS_MAX {
            return Err(Refused::Full);
        }
        self.begin(port, Purpose::Ask, request)
    }

    /// Asks whether somebody is there, with an empty message that is answered with Reset (§4.3).
    pub fn ping(&mut self, port: u16) -> Result<RequestId, Refused> {
        self.begin(port, Purpose::Ping, Request::new(Code::EMPTY, ""))
    }

    pub fn begin(&mut self, port: u16, purpose: Purpose, request: Request) -> Result<RequestId, Refused> {
        let calls = self.peer.work().map_or(0, |work| work.calls.len());
        let bytes = request_bytes(&request) + size_of::<Call>();
        if calls >= CALLS_MAX || self.peer.held_bytes() + bytes > PEER_BYTES_MAX || bytes > self.room_bytes {
            return Err(Refused::Full);
        }
        let number = self.chance.next_number();
        let mut call = Call::new(number, port, purpose, request, self.now_ms);
        let size = call.request.block_size.unwrap_or(self.terms.block_size).min(self.terms.block_size);
        if call.request.payload.len() > size.bytes() {
            call.sending = call.block_at(0, size);
        }
        self.peer.begun_work().calls.push(call);
        self.pump();
        Ok(RequestId { address: self.address, number })
    }

    /// Begins to fetch the blocks behind the first one of a notification.
    pub fn fetch_rest(&mut self, port: u16, observation: u64, request: Request, message: &Message<'_>) {
        let calls = self.peer.work().map_or(0, |work| work.calls.len());
        if calls >= CALLS_MAX {
            return;
        }
        let number = self.chance.next_number();
        let mut call = Call::new(number, port, Purpose::Rest(observation), request, self.now_ms);
        if let Progress::GoesOn = call.take_block2(message, self.terms) {
            self.peer.begun_work().calls.push(call);
            self.pump();
        }
    }

    /// Begins to renew an observation or to give it up, with the token that it has.
    pub fn renew(&mut self, port: u16, purpose: Purpose, request: Request, token: Token) {
        let number = self.chance.next_number();
        let mut call = Call::new(number, port, purpose, request, self.now_ms);
        call.token = token;
        self.peer.begun_work().calls.push(call);
        self.pump();
    }

    /// Sends the next request, if none is on its way.
    pub fn pump(&mut self) {
        if self.peer.ids_free_ms(self.now_ms).is_some() {
            return;
        }
        let Some(work) = self.peer.work() else { return };
        if work.calls.iter().any(|call| call.stage == Stage::Sent) {
            return;
        }
        let is_ready = |call: &Call| call.stage == Stage::Ready;
        // What is begun is ended first.
        let begun = work.calls.iter().position(|call| is_ready(call) && call.attempts > 0);
        let Some(index) = begun.or_else(|| work.calls.iter().position(is_ready)) else { return };
        let id = self.peer.next_call_id();
        let fresh_token = self.fresh_token();
        let timeout_ms = self.ack_timeout_ms();
        let Some(call) = self.peer.work_mut().and_then(|work| work.calls.get_mut(index)) else { return };
        call.id = id;
        // A message that has to do with an observation has its token; each other one a new one, so that a late
        // answer to an earlier block is not taken for that to this one.
        let keeps_token =
            matches!(call.purpose, Purpose::Renew(_) | Purpose::GiveUp) && call.fetching.is_none();
        if !keeps_token {
            call.token = fresh_token;
        }
        if call.purpose == Purpose::Ask && call.request.observe && call.fetching.is_none() {
            call.registered = Some(call.token);
        }
        call.bytes =
            if call.is_empty_message() { Draft::empty(Kind::Confirmable, id).to_vec() } else { write(call) };
        call.stage = Stage::Sent;
        call.attempts = 1;
        call.timeout_ms = timeout_ms;
        call.next_ms = self.now_ms + if call.request.is_confirmable { timeout_ms } else { NON_TURN_MS };
        let (port, bytes) = (call.port, call.bytes.clone());
        self.send(port, bytes);
    }

    /// One that no other message has to this peer.
    fn fresh_token(&mut self) -> Token {
        loop {
            let token = self.chance.token();
            let is_used = self.peer.work().is_some_and(|work| {
                work.calls.iter().any(|call| call.token == token || call.registered == Some(token))
                    || work.observations.iter().any(|observation| observation.token == token)
            });
            if !is_used {
                return token;
            }
        }
    }

    /// ACK_TIMEOUT times a number of chance between 1 and ACK_RANDOM_FACTOR (§4.2).
    pub fn ack_timeout_ms(&mut self) -> u64 {
        self.chance.random.random_range(ACK_TIMEOUT_MS..=ACK_TIMEOUT_LATEST_MS)
    }

    /// An empty acknowledgement. False if there is no such message.
    pub fn acknowledged(&mut self, port: u16, id: u16) -> bool {
        let now_ms = self.now_ms;
        let Some(work) = self.peer.work_mut() else { return false };
        let is_it = |call: &Call| call.port == port && call.id == id && call.stage == Stage::Sent;
        let Some(index) = work.calls.iter().position(is_it) else { return false };
        let Some(call) = work.calls.get_mut(index).filter(|call| call.request.is_confirmable) else {
            return false;
        };
        if call.is_empty_message() {
            self.end(index, Ok(None));
            return true;
        }
        call.stage = Stage::Waiting;
        call.next_ms = now_ms + TRANSMIT_WAIT_MS_MAX;
        // It is not sent again.
        call.bytes = Vec::new();
        self.pump();
        true
    }

    /// A Reset. False if there is no such message.
    pub fn rejected(&mut self, port: u16, id: u16) -> bool {
        let Some(work) = self.peer.work() else { return false };
        let is_it = |call: &Call| call.port == port && call.id == id && call.stage != Stage::Ready;
        let Some(index) = work.calls.iter().position(is_it) else { return false };
        let is_ping = work.calls.get(index).is_some_and(Call::is_empty_message);
        self.end(index, if is_ping { Ok(None) } else { Err(Failure::Rejected) });
        true
    }

    /// A response to a request that is open. False if there is no such request.
    pub fn responded(&mut self, port: u16, message: &Message<'_>) -> bool {
        let terms = self.terms;
        let has_room = message.payload.len() <= self.room_bytes
            && self.peer.held_bytes() + message.payload.len() <= PEER_BYTES_MAX;
        let Some(work) = self.peer.work_mut() else { return false };
        let is_it = |call: &Call| {
            let is_open = match message.kind {
                // §5.3.2: of a response in an acknowledgement the id must match as well.
                Kind::Acknowledgement => call.stage == Stage::Sent && call.id == message.id,
                _ => call.stage != Stage::Ready,
            };
            is_open && call.port == port && call.token == message.token && !call.is_empty_message()
        };
        let Some(index) = work.calls.iter().position(is_it) else {
            // A first notification, while the blocks of the first answer are fetched.
            return work.calls.iter().any(|call| call.registered == Some(message.token) && call.port == port);
        };
        let Some(call) = work.calls.get_mut(index) else { return false };
        let progress = match call.take(message, terms) {
            Progress::GoesOn if !has_room => Progress::Failed(Failure::NoRoom),
            progress => progress,
        };
        if matches!(progress, Progress::GoesOn) {
            call.stage = Stage::Ready;
            call.bytes = Vec::new();
        }
        self.peer.has_answered = true;
        match progress {
            Progress::GoesOn => self.pump(),
            Progress::Failed(failure) => self.end(index, Err(failure)),
            Progress::Done(response, observe) => self.end(index, Ok(Some((response, observe)))),
        }
        true
    }

    /// A request has ended: with an answer and its Observe, with the answer to a ping, or without.
    fn end(&mut self, index: usize, ended: Result<Option<(Response, Option<u32>)>, Failure>) {
        let Some(work) = self.peer.work_mut() else { return };
        if index >= work.calls.len() {
            return;
        }
        let call = work.calls.remove(index);
        let request = RequestId { address: self.address, number: call.number };
        match (call.purpose, ended) {
            (Purpose::Ask, Ok(Some((response, observe)))) => {
                let observe = observe.filter(|_| call.is_observing() && response.code.is_success());
                let observation = observe.zip(call.registered).map(|(sequence, token)| Observation {
                    number: call.number,
                    port: call.port,
                    token,
                    request: call.request,
                    sequence,
                    heard_ms: self.now_ms,
                    renew_ms: None,
                });
                let is_observed = observation.is_some();
                if let Some(observation) = observation {
                    self.begin_observation(observation, response.max_age_s);
                }
                self.happened(Event::Answered { request, response, is_observed });
            }
            (Purpose::Ask | Purpose::Ping, Err(why)) => self.happened(Event::Failed { request, why }),
            (Purpose::Ping, Ok(_)) => self.happened(Event::Reached { request }),
            // Nothing but a ping ends so.
            (_, Ok(None)) | (Purpose::GiveUp, _) => {}
            (Purpose::Renew(observation), Ok(Some((response, observe)))) => {
                self.renewed(observation, response, observe);
            }
            (Purpose::Renew(observation), Err(why)) => self.not_renewed(observation, why),
            (Purpose::Rest(observation), Ok(Some((response, _)))) => self.rest_came(observation, response),
            // What is observed is asked for again when its time is over.
            (Purpose::Rest(_), Err(_)) => {}
        }
        self.pump();
    }

    /// Ends a request without an answer. False if there is no such request.
    pub fn cancel(&mut self, number: u64, why: Failure) -> bool {
        let Some(work) = self.peer.work() else { return false };
        let is_it =
            |call: &Call| call.number == number && matches!(call.purpose, Purpose::Ask | Purpose::Ping);
        let Some(index) = work.calls.iter().position(is_it) else { return false };
        self.end(index, Err(why));
        true
    }

    /// Ends all requests without an answer.
    pub fn cancel_all(&mut self, why: Failure) {
        let calls = self.peer.work_mut().map(|work| std::mem::take(&mut work.calls)).unwrap_or_default();
        for call in calls {
            if matches!(call.purpose, Purpose::Ask | Purpose::Ping) {
                let request = RequestId { address: self.address, number: call.number };
                self.happened(Event::Failed { request, why });
            }
        }
    }

    /// Sends again what was not acknowledged, and gives up what takes too long.
    pub fn calling_timer(&mut self) {
        let now_ms = self.now_ms;
        let retransmit_max = if self.peer.is_proven() { RETRANSMIT_MAX } else { STRANGER_RETRANSMIT_MAX };
        let mut index = 0;
        while let Some(call) = self.peer.work_mut().and_then(|work| work.calls.get_mut(index)) {
            let is_over = call.until_ms <= now_ms || {
                let is_silent = call.stage == Stage::Waiting || call.attempts > retransmit_max;
                call.stage != Stage::Ready
                    && call.next_ms <= now_ms
                    && is_silent
                    && (call.request.is_confirmable || call.stage == Stage::Waiting)
            };
            if is_over {
                self.end(index, Err(Failure::TimedOut));
                continue;
            }
            index += 1;
            if call.stage != Stage::Sent || call.next_ms > now_ms {
                continue;
            }
            if call.request.is_confirmable {
                call.attempts += 1;
                call.timeout_ms *= 2;
                call.next_ms = now_ms + call.timeout_ms;
                let (port, bytes) = (call.port, call.bytes.clone());
                self.send_again(port, bytes);
            } else {
                call.stage = Stage::Waiting;
                call.next_ms = now_ms + TRANSMIT_WAIT_MS_MAX;
            }
        }
        self.pump();
    }
}
