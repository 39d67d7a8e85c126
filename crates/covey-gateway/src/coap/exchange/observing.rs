//! Resources that are observed (RFC 7641): the peer sends its value anew when it changes, and is asked again
//! when what it has sent is no longer fresh.

use rand::RngExt;

use super::call::{Purpose, observe_of, request_bytes, response_of};
use super::event::{Event, Failure, ObservationEnd, Request, RequestId, Response, Unobserve};
use super::peer::Step;
use super::terms::{CALLS_MAX, FRESH_MS_MAX};
use crate::coap::message::{Code, Message, Token, option};

/// How long a value is fresh whose answer does not say (RFC 7252 §5.10.5), in seconds.
const FRESH_S: u32 = 60;
/// How long after that the peer is asked again: so that what is late is not asked for, and not all ask at a time
/// (RFC 7641 §3.3.1), in milliseconds.
const RENEW_AFTER_MS: std::ops::RangeInclusive<u64> = 5_000..=15_000;
/// After this time each notification is newer than the last one, in milliseconds (RFC 7641 §3.4).
const SEQUENCE_MS: u64 = 128_000;
/// Half of the numbers that Observe may have.
const SEQUENCE_HALF: u32 = 1 << 23;

/// A resource that is observed.
#[derive(Debug)]
pub(super) struct Observation {
    /// Of the request that began it.
    pub number: u64,
    pub port: u16,
    pub token: Token,
    pub request: Request,
    /// The last value of Observe.
    pub sequence: u32,
    /// When it came.
    pub heard_ms: u64,
    /// When the peer is asked again; none while it is.
    pub renew_ms: Option<u64>,
}

impl Observation {
    pub const fn due_ms(&self) -> Option<u64> {
        self.renew_ms
    }

    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + request_bytes(&self.request)
    }

    /// Whether a notification is newer than the last one (RFC 7641 §3.4).
    const fn is_newer(&self, sequence: u32, now_ms: u64) -> bool {
        let (last, next) = (self.sequence, sequence);
        (last < next && next - last < SEQUENCE_HALF)
            || (last > next && last - next > SEQUENCE_HALF)
            || now_ms > self.heard_ms + SEQUENCE_MS
    }
}

impl Step<'_> {
    pub fn begin_observation(&mut self, observation: Observation, max_age_s: Option<u32>) {
        let number = observation.number;
        self.peer.begun_work().observations.push(observation);
        self.is_fresh(number, None, max_age_s);
    }

    /// An observed value has come.
    fn is_fresh(&mut self, number: u64, sequence: Option<u32>, max_age_s: Option<u32>) {
        let now_ms = self.now_ms;
        let max_age_ms = (u64::from(max_age_s.unwrap_or(FRESH_S)) * 1_000).min(FRESH_MS_MAX);
        let renew_ms = now_ms + max_age_ms + self.chance.random.random_range(RENEW_AFTER_MS);
        if let Some(observation) = self.observation(number) {
            observation.renew_ms = Some(renew_ms);
            observation.heard_ms = now_ms;
            observation.sequence = sequence.unwrap_or(observation.sequence);
        }
    }

    fn observation(&mut self, number: u64) -> Option<&mut Observation> {
        let mut observations = self.peer.work_mut()?.observations.iter_mut();
        observations.find(|observation| observation.number == number)
    }

    /// A response that answers no open request. False if it belongs to no observation either.
    pub fn notified(&mut self, port: u16, message: &Message<'_>) -> bool {
        let now_ms = self.now_ms;
        let Some(work) = self.peer.work_mut() else { return false };
        let is_it =
            |observation: &&mut Observation| observation.token == message.token && observation.port == port;
        let Some(observation) = work.observations.iter_mut().find(is_it) else { return false };
        let number = observation.number;
        let sequence = observe_of(message).filter(|_| message.code.is_success());
        let Some(sequence) = sequence else {
            self.peer.has_answered = true;
            self.told_last(number, response_of(message));
            return true;
        };
        if !observation.is_newer(sequence, now_ms) {
            return true;
        }
        let request = observation.request.clone();
        // Blocks of an older value that are being fetched are of no use.
        work.calls.retain(|call| call.purpose != Purpose::Rest(number));
        self.peer.has_answered = true;
        let response = response_of(message);
        self.is_fresh(number, Some(sequence), response.max_age_s);
        let block = message.block(option::BLOCK2).ok().flatten();
        if block.is_some_and(|block| block.has_more) {
            let request = Request { observe: false, ..request };
            self.fetch_rest(port, number, request, message);
        } else {
            self.tell(number, response);
        }
        // One that was dropped may have been on its way, and others waited for it.
        self.pump();
        true
    }

    fn tell(&mut self, number: u64, response: Response) {
        let observation = RequestId { address: self.address, number };
        self.happened(Event::Notified { observation, response });
    }

    /// All blocks of a notification are there.
    pub fn rest_came(&mut self, number: u64, response: Response) {
        if self.observation(number).is_some() && response.code.is_success() {
            self.tell(number, response);
        }
    }

    /// The peer was asked again, and has answered.
    pub fn renewed(&mut self, number: u64, response: Response, observe: Option<u32>) {
        if self.observation(number).is_none() {
            return;
        }
        match observe.filter(|_| response.code.is_success()) {
            Some(sequence) => {
                self.is_fresh(number, Some(sequence), response.max_age_s);
                self.tell(number, response);
            }
            None => self.told_last(number, response),
        }
    }

    /// The peer was asked again, and nothing usable came.
    pub fn not_renewed(&mut self, number: u64, why: Failure) {
        self.over(number, ObservationEnd::Failed(why));
    }

    /// What the peer says shows that nothing follows.
    fn told_last(&mut self, number: u64, response: Response) {
        let code = response.code;
        if code.is_success() {
            self.tell(number, response);
        }
        self.over(number, ObservationEnd::ByPeer(code));
    }

    fn over(&mut self, number: u64, why: ObservationEnd) {
        if self.forget(number).is_some() {
            let observation = RequestId { address: self.address, number };
            self.happened(Event::Unobserved { observation, why });
        }
    }

    fn forget(&mut self, number: u64) -> Option<Observation> {
        let work = self.peer.work_mut()?;
        let index = work.observations.iter().position(|observation| observation.number == number)?;
        let of_it = |purpose| purpose == Purpose::Rest(number) || purpose == Purpose::Renew(number);
        work.calls.retain(|call| !of_it(call.purpose));
        Some(work.observations.remove(index))
    }

    /// Gives an observation up. False if there is none.
    pub fn unobserve(&mut self, number: u64, how: Unobserve) -> bool {
        let Some(Observation { port, token, request, .. }) = self.forget(number) else { return false };
        let calls = self.peer.work().map_or(0, |work| work.calls.len());
        if how == Unobserve::Tell && calls < CALLS_MAX {
            let request = Request { observe: false, payload: Vec::new(), method: Code::GET, ..request };
            self.renew(port, Purpose::GiveUp, request, token);
        } else {
            self.pump();
        }
        true
    }

    /// Forgets all observations, without a word to anybody.
    pub fn forget_observations(&mut self) {
        if let Some(work) = self.peer.work_mut() {
            work.observations = Vec::new();
            work.calls.retain(|call| !matches!(call.purpose, Purpose::Rest(_) | Purpose::Renew(_)));
        }
    }

    /// Asks again for what is no longer fresh.
    pub fn observing_timer(&mut self) {
        let now_ms = self.now_ms;
        let Some(work) = self.peer.work_mut() else { return };
        let mut stale = Vec::new();
        for observation in &mut work.observations {
            if observation.renew_ms.is_some_and(|renew_ms| renew_ms <= now_ms) {
                observation.renew_ms = None;
                let Observation { number, port, token, .. } = *observation;
                stale.push((number, port, token, observation.request.clone()));
            }
        }
        for (number, port, token, request) in stale {
            self.renew(port, Purpose::Renew(number), request, token);
        }
    }
}
