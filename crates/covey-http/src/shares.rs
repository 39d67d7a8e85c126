//! Slots with shares: how much of a kind there may be at a time, in the whole server, for one
//! organisation and for one credential. Who takes all of its share leaves the rest to the others.
//!
//! | kind | in the server | an organisation | a credential |
//! | --- | --- | --- | --- |
//! | requests that run | 10,000, of them 2,500 whose credentials are looked up | 7,500 | 2,500 |
//! | callers that wait (`?wait=`) | 10,000 | 7,500 | 2,500 |
//! | streams | 8,000 | 6,000 | 2,000 |
//! | probes of webhooks | 64 | 16 | 8 |
//!
//! A caller that waits does not run. Where there is one organisation only, it still leaves a quarter: to
//! whoever has not called for a while, and to the organisation that is made tomorrow. Strangers have a
//! quarter between them all, for as long as it takes to find out that their keys are none.
//!
//! Organisations and credentials may have limits of their own ([`covey_core::own_limits`]) in place of these, and a
//! number of requests a second.
//!
//! Taking a slot is an addition or two: a credential's counts are looked up when it is, and remembered
//! with it ([`Callers`](crate::auth::callers::Callers)).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use covey_core::ForServer;
use covey_core::access::Caller;
use covey_core::id::{CallerId, OrgId};
use covey_core::own_limits::{LimitHolder, LimitName, OwnLimits};

use crate::problem::{Kind as ProblemKind, Problem};
use crate::rate::{Rate, RateClock, Rates};

/// What there are slots of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests that run.
    Requests,
    /// Callers that wait for the end of a task.
    Waiters,
    /// Streams, over server-sent events or WebSocket.
    Streams,
    /// Webhooks that are being probed.
    Probes,
}

impl Kind {
    const COUNT: usize = 4;

    /// Each of them.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Requests, Self::Waiters, Self::Streams, Self::Probes];

    /// Its name as a label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Waiters => "waiters",
            Self::Streams => "streams",
            Self::Probes => "probes",
        }
    }
}

/// How many slots of a kind there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// In the whole server.
    pub(crate) all: usize,
    /// For one organisation.
    pub(crate) organisation: usize,
    /// For one credential.
    pub(crate) key: usize,
    /// What they are, for the text of a refusal.
    what: &'static str,
}

/// The limits of each kind, in the order of [`Kind`].
pub(crate) type Limits = [Limit; Kind::COUNT];

/// How many requests that run there may be.
/// Limit for the server: 503.
const REQUESTS_MAX: usize = 10_000;
/// How many requests that run there may be of one organisation.
/// Limit for each organisation: 429.
const REQUESTS_PER_ORGANISATION_MAX: usize = 7_500;
/// How many requests that run there may be of one credential.
/// Limit for each key or certificate: 429.
const REQUESTS_PER_KEY_MAX: usize = 2_500;
/// How many callers may wait for the end of a task (`?wait=`).
/// Limit for the server: 503.
const WAITERS_MAX: usize = 10_000;
/// How many callers may wait for the end of a task (`?wait=`) of one organisation.
/// Limit for each organisation: 429.
const WAITERS_PER_ORGANISATION_MAX: usize = 7_500;
/// How many callers may wait for the end of a task (`?wait=`) of one credential.
/// Limit for each key or certificate: 429.
const WAITERS_PER_KEY_MAX: usize = 2_500;
/// How many streams may be open.
/// Limit for the server: 503.
const STREAMS_MAX: usize = 8_000;
/// How many streams may be open of one organisation.
/// Limit for each organisation: 429.
const STREAMS_PER_ORGANISATION_MAX: usize = 6_000;
/// How many streams may be open of one credential.
/// Limit for each key or certificate: 429.
const STREAMS_PER_KEY_MAX: usize = 2_000;
/// How many webhooks may be probed at a time.
/// Limit for the server: 503.
const PROBES_MAX: usize = 64;
/// How many webhooks may be probed at a time of one organisation.
/// Limit for each organisation: 429.
const PROBES_PER_ORGANISATION_MAX: usize = 16;
/// How many webhooks may be probed at a time of one credential.
/// Limit for each key or certificate: 429.
const PROBES_PER_KEY_MAX: usize = 8;

/// The limits of a server.
pub(crate) static LIMITS: Limits = [
    Limit {
        all: REQUESTS_MAX,
        organisation: REQUESTS_PER_ORGANISATION_MAX,
        key: REQUESTS_PER_KEY_MAX,
        what: "requests that run",
    },
    Limit {
        all: WAITERS_MAX,
        organisation: WAITERS_PER_ORGANISATION_MAX,
        key: WAITERS_PER_KEY_MAX,
        what: "callers that wait",
    },
    Limit {
        all: STREAMS_MAX,
        organisation: STREAMS_PER_ORGANISATION_MAX,
        key: STREAMS_PER_KEY_MAX,
        what: "open streams",
    },
    Limit {
        all: PROBES_MAX,
        organisation: PROBES_PER_ORGANISATION_MAX,
        key: PROBES_PER_KEY_MAX,
        what: "webhooks that are being probed",
    },
];

/// Who has as much as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The credential.
    Key,
    /// The organisation.
    Organisation,
    /// Those of whom it is not known yet who they are.
    Strangers,
    /// The server.
    Server,
}

impl Holder {
    /// Each of them.
    pub(crate) const ALL: [Self; 4] = [Self::Key, Self::Organisation, Self::Strangers, Self::Server];

    /// Its name as a label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Organisation => "organisation",
            Self::Strangers => "strangers",
            Self::Server => "server",
        }
    }
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// Of what.
    pub(crate) kind: Kind,
    /// For whom.
    pub(crate) holder: Holder,
    /// As many as these.
    pub(crate) max: usize,
}

impl From<Full> for Problem {
    fn from(Full { kind, holder, max }: Full) -> Self {
        let Limit { all, what, .. } = LIMITS[kind as usize];
        let (kind, text) = match holder {
            Holder::Key => (
                ProblemKind::LimitReached,
                format!("this credential has {max} {what}, its share of {all}; end some, or try again later"),
            ),
            Holder::Organisation => (
                ProblemKind::LimitReached,
                format!(
                    "this organisation has {max} {what}, its share of {all}; end some, or try again later"
                ),
            ),
            Holder::Strangers => (
                ProblemKind::Unavailable,
                format!("the server looks up {max} credentials, as many as it may; try again later"),
            ),
            Holder::Server => (
                ProblemKind::Unavailable,
                format!("the server has {max} {what}, as many as it may; try again later"),
            ),
        };
        Self::new(kind, text)
    }
}

/// How many slots of a kind somebody may have, where that is limited.
const fn limit_name(kind: Kind) -> Option<LimitName> {
    match kind {
        Kind::Requests => Some(LimitName::Requests),
        Kind::Waiters => Some(LimitName::Waiting),
        Kind::Streams => Some(LimitName::Streams),
        Kind::Probes => None,
    }
}

/// How many slots an organisation, or a key, has that has no limits of its own.
pub(crate) fn slots_of_all(holder: LimitHolder) -> OwnLimits {
    Kind::ALL.into_iter().fold(OwnLimits::default(), |limits, kind| {
        let Limit { organisation, key, .. } = LIMITS[kind as usize];
        let max = if matches!(holder, LimitHolder::Org(_)) { organisation } else { key };
        match limit_name(kind) {
            Some(name) => limits.with(name, u64::try_from(max).ok()),
            None => limits,
        }
    })
}

/// The limits of somebody's own.
#[derive(Debug)]
struct Own {
    /// How many slots of each kind; [`usize::MAX`] for as many as all have.
    slots: [AtomicUsize; Kind::COUNT],
    rate: Rate,
}

impl Default for Own {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| AtomicUsize::new(usize::MAX)), rate: Rate::default() }
    }
}

impl Own {
    fn set(&self, limits: &OwnLimits) {
        for kind in Kind::ALL {
            let max = limit_name(kind).and_then(|name| limits.of(name));
            let max = max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
            self.slots[kind as usize].store(max, Ordering::Relaxed);
        }
        self.rate.set(limits.of(LimitName::RequestsPerS));
    }

    fn slots(&self, kind: Kind, of_all: usize) -> usize {
        match self.slots[kind as usize].load(Ordering::Relaxed) {
            usize::MAX => of_all,
            own => own,
        }
    }
}

/// What an organisation has taken.
#[derive(Debug, Default)]
struct OrgAccount {
    counts: Counts,
    own: Own,
}

/// How many slots of each kind are taken.
#[derive(Debug, Default)]
struct Counts([AtomicUsize; Kind::COUNT]);

impl Counts {
    fn of(&self, kind: Kind) -> usize {
        self.0[kind as usize].load(Ordering::Relaxed)
    }

    /// Takes a slot if fewer than `max` are taken.
    fn add(&self, kind: Kind, max: usize) -> bool {
        // Who waits is counted in both, and does not run.
        let max = if kind == Kind::Requests { max.saturating_add(self.of(Kind::Waiters)) } else { max };
        let is_free = self.0[kind as usize].fetch_add(1, Ordering::Relaxed) < max;
        if !is_free {
            self.sub(kind);
        }
        is_free
    }

    fn sub(&self, kind: Kind) {
        self.0[kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// All slots.
pub(crate) struct Shares {
    limits: &'static Limits,
    all: Arc<Counts>,
    /// How many credentials are being looked up.
    strangers: AtomicUsize,
    known: Mutex<Known>,
    clock: Arc<RateClock>,
}

/// Those who have, or had a moment ago.
#[derive(Default)]
struct Known {
    keys: HashMap<CallerId, Arc<Account>>,
    organisations: HashMap<OrgId, Arc<OrgAccount>>,
    /// At how many credentials those that have nothing are forgotten.
    forget_at: usize,
}

/// At how many credentials those that have nothing are first forgotten.
const FORGET_AT: usize = 1_024;

impl Default for Shares {
    fn default() -> Self {
        Self::within(&LIMITS)
    }
}

impl Shares {
    fn within(limits: &'static Limits) -> Self {
        Self {
            limits,
            all: Arc::default(),
            strangers: AtomicUsize::new(0),
            known: Mutex::default(),
            clock: Arc::default(),
        }
    }

    /// How many slots of a kind are taken.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.all.of(kind)
    }

    /// Takes the slot of a request whose caller is not known yet.
    pub(crate) fn request(&self) -> Result<RequestSlot<'_>, Full> {
        let max = self.limits[Kind::Requests as usize].all;
        let is_free = self.all.add(Kind::Requests, max);
        let full = Full { kind: Kind::Requests, holder: Holder::Server, max };
        if is_free { Ok(RequestSlot(&self.all)) } else { Err(full) }
    }

    /// Takes the slot of a stranger, whose credential is to be looked up: so many as one credential has.
    pub(crate) fn stranger(&self) -> Result<Stranger<'_>, Full> {
        let stranger = Stranger(&self.strangers);
        let max = self.limits[Kind::Requests as usize].key;
        let is_free = self.strangers.fetch_add(1, Ordering::Relaxed) < max;
        let full = Full { kind: Kind::Requests, holder: Holder::Strangers, max };
        // Dropped, it gives back what was added.
        if is_free { Ok(stranger) } else { Err(full) }
    }

    /// Where it is counted what a caller takes.
    pub(crate) fn account(&self, caller: &Caller) -> Arc<Account> {
        // Whole at every moment, so a poisoned lock is as good as any.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = known.keys.get(&caller.id) {
            return Arc::clone(account);
        }
        if known.keys.len() >= known.forget_at.max(FORGET_AT) {
            known.forget(self.clock.now());
        }
        let organisation = Arc::clone(known.organisations.entry(caller.org).or_default());
        let account = Arc::new(Account {
            limits: self.limits,
            all: Arc::clone(&self.all),
            organisation,
            key: Counts::default(),
            own: Own::default(),
            of: (caller.org, caller.id),
            version: AtomicU64::new(0),
            clock: Arc::clone(&self.clock),
        });
        known.keys.insert(caller.id, Arc::clone(&account));
        account
    }
}

impl Known {
    /// Forgets those whom nobody else knows: they have nothing, and have asked little in the last second.
    fn forget(&mut self, now: u64) {
        self.keys.retain(|_, account| Arc::strong_count(account) > 1 || !account.own.rate.is_full(now));
        self.organisations.retain(|_, org| Arc::strong_count(org) > 1 || !org.own.rate.is_full(now));
        self.forget_at = 2 * self.keys.len();
    }
}

/// What a credential has taken, and where else that counts.
#[derive(Debug)]
pub(crate) struct Account {
    limits: &'static Limits,
    all: Arc<Counts>,
    organisation: Arc<OrgAccount>,
    key: Counts,
    own: Own,
    of: (OrgId, CallerId),
    /// As of which version of all limits its own are known, and its organisation's.
    version: AtomicU64,
    clock: Arc<RateClock>,
}

impl Account {
    /// Goes by the limits that there are now.
    pub(crate) fn follow(&self, server: ForServer<'_>) {
        let version = server.limits_version();
        // Most requests only read it.
        if self.version.load(Ordering::Relaxed) != version {
            let (org, key) = self.of;
            self.organisation.own.set(&server.limits_of(LimitHolder::Org(org)));
            self.own.set(&server.limits_of(LimitHolder::Key(key)));
            self.version.store(version, Ordering::Relaxed);
        }
    }

    /// Takes a request out of the rates that there are. Answers what is left of them; in one of them it is refused if
    /// there is nothing.
    pub(crate) fn ask(&self) -> Rates {
        if !self.own.rate.is_set() && !self.organisation.own.rate.is_set() {
            return Rates::default();
        }
        let now = self.clock.now();
        let key = self.own.rate.take(now);
        if key.is_some_and(|left| left.is_refused()) {
            return Rates { key, organisation: None };
        }
        let organisation = self.organisation.own.rate.take(now);
        if organisation.is_some_and(|left| left.is_refused()) {
            self.own.rate.give_back();
        }
        Rates { key, organisation }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// Who has as much as may be.
    pub(crate) fn take(self: &Arc<Self>, kind: Kind) -> Result<Slot, Full> {
        let limit = &self.limits[kind as usize];
        let max = self.own.slots(kind, limit.key);
        if !self.key.add(kind, max) {
            return Err(Full { kind, holder: Holder::Key, max });
        }
        let max = self.organisation.own.slots(kind, limit.organisation).min(limit.organisation);
        if !self.organisation.counts.add(kind, max) {
            self.key.sub(kind);
            return Err(Full { kind, holder: Holder::Organisation, max });
        }
        // A request has its slot of the server since before its caller was known.
        if kind != Kind::Requests && !self.all.add(kind, limit.all) {
            self.key.sub(kind);
            self.organisation.counts.sub(kind);
            return Err(Full { kind, holder: Holder::Server, max: limit.all });
        }
        Ok(Slot { account: Arc::clone(self), kind })
    }
}

/// A slot of a credential, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    account: Arc<Account>,
    kind: Kind,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.account.key.sub(self.kind);
        self.account.organisation.counts.sub(self.kind);
        if self.kind != Kind::Requests {
            self.account.all.sub(self.kind);
        }
    }
}

/// The slot of a request in the server, until it is dropped.
#[derive(Debug)]
pub(crate) struct RequestSlot<'a>(&'a Counts);

impl Drop for RequestSlot<'_> {
    fn drop(&mut self) {
        self.0.sub(Kind::Requests);
    }
}

/// The slot of a stranger, until it is dropped.
#[derive(Debug)]
pub(crate) struct Stranger<'a>(&'a AtomicUsize);

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::access::Rights;
    use proptest::prelude::*;

    use super::*;

    const fn limit(all: usize, organisation: usize, key: usize) -> Limit {
        Limit { all, organisation, key, what: "things" }
    }

    static SMALL: Limits = [limit(9, 6, 4), limit(5, 4, 2), limit(7, 5, 3), limit(2, 2, 1)];
    const KINDS: [Kind; Kind::COUNT] = Kind::ALL;

    /// The caller with this number: three of each organisation.
    fn caller(number: i64) -> Caller {
        Caller { id: CallerId(number), ..Caller::server(OrgId(number / 3), "a key", Rights::ALL) }
    }

    /// What a test holds of a slot.
    enum Held<'a> {
        Bare(#[allow(dead_code)] RequestSlot<'a>),
        Of(#[allow(dead_code)] Slot),
    }

    /// What is taken: by whom (none: not known yet), and what.
    type Taken = (Option<i64>, Kind);

    /// Whether the model has a slot, and if not, who is full.
    fn model(taken: &[Taken], who: Option<i64>, kind: Kind) -> Result<(), Holder> {
        let limit = SMALL[kind as usize];
        let count = |of: &dyn Fn(i64) -> bool, kind| {
            taken.iter().filter(|(holder, taken)| *taken == kind && holder.is_some_and(of)).count()
        };
        let fits = |of: &dyn Fn(i64) -> bool, max: usize| {
            let waiting = if kind == Kind::Requests { count(of, Kind::Waiters) } else { 0 };
            count(of, kind) < max + waiting
        };
        if let Some(who) = who {
            if !fits(&|holder| holder == who, limit.key) {
                return Err(Holder::Key);
            }
            if !fits(&|holder| holder / 3 == who / 3, limit.organisation) {
                return Err(Holder::Organisation);
            }
            if kind == Kind::Requests {
                return Ok(());
            }
            return if fits(&|_| true, limit.all) { Ok(()) } else { Err(Holder::Server) };
        }
        let bare = taken.iter().filter(|(holder, _)| holder.is_none()).count();
        let waiting = count(&|_| true, Kind::Waiters);
        if bare < limit.all + waiting { Ok(()) } else { Err(Holder::Server) }
    }

    proptest! {
        #[test]
        fn slots_are_shared_out_as_the_limits_say(
            steps in prop::collection::vec((0..7_i64, 0..Kind::COUNT, any::<bool>(), any::<prop::sample::Index>()), 1..200)
        ) {
            let shares = Shares::within(&SMALL);
            let mut taken: Vec<Taken> = Vec::new();
            let mut held: Vec<Held<'_>> = Vec::new();
            for (number, kind, is_giving_back, which) in steps {
                if is_giving_back && !taken.is_empty() {
                    let which = which.index(taken.len());
                    taken.swap_remove(which);
                    held.swap_remove(which);
                    continue;
                }
                // The last number stands for a request whose caller is not known.
                let (who, kind) = if number == 6 { (None, Kind::Requests) } else { (Some(number), KINDS[kind]) };
                let got = match who {
                    None => shares.request().map(Held::Bare),
                    Some(number) => shares.account(&caller(number)).take(kind).map(Held::Of),
                };
                let expected = model(&taken, who, kind);
                prop_assert_eq!(got.as_ref().err().map(|full| full.holder), expected.err());
                if let Ok(slot) = got {
                    taken.push((who, kind));
                    held.push(slot);
                }
                for kind in [Kind::Waiters, Kind::Streams, Kind::Probes] {
                    let count = taken.iter().filter(|(_, taken)| *taken == kind).count();
                    prop_assert_eq!(shares.count(kind), count);
                }
            }
            held.clear();
            prop_assert!(KINDS.iter().all(|kind| shares.count(*kind) == 0));
            let mut known = shares.known.lock().unwrap();
            known.forget(0);
            prop_assert!(known.keys.is_empty() && known.organisations.is_empty());
        }
    }

    #[test]
    fn who_has_limits_of_its_own_has_those() {
        let shares = Shares::default();
        let [own, other] = [0, 1].map(|number| shares.account(&caller(number)));
        own.own.set(
            &OwnLimits::default().with(LimitName::Streams, Some(2)).with(LimitName::RequestsPerS, Some(3)),
        );
        let mut held: Vec<_> = (0..2).map(|_| own.take(Kind::Streams).unwrap()).collect();
        let full = own.take(Kind::Streams).unwrap_err();
        assert_eq!((full.holder, full.max), (Holder::Key, 2));
        // The organisation of both has three, of which two are taken.
        own.organisation.own.set(&OwnLimits::default().with(LimitName::Streams, Some(3)));
        held.push(other.take(Kind::Streams).unwrap());
        let full = other.take(Kind::Streams).unwrap_err();
        assert_eq!((full.holder, full.max), (Holder::Organisation, 3));
        assert!(other.take(Kind::Waiters).is_ok());
        let refused = |account: &Account| {
            (0..5).filter(|_| account.ask().key.is_some_and(|left| left.is_refused())).count()
        };
        assert_eq!((refused(&own), refused(&other)), (2, 0));
        own.own.set(&OwnLimits::default());
        held.push(shares.account(&caller(4)).take(Kind::Streams).unwrap());
        assert!(own.take(Kind::Probes).is_ok());
        assert_eq!(own.ask(), Rates::default());
    }

    #[test]
    fn those_who_have_nothing_are_forgotten_and_those_who_have_are_not() {
        let shares = Shares::default();
        let slot = shares.account(&caller(0)).take(Kind::Streams).unwrap();
        for number in 0..20 * i64::try_from(FORGET_AT).unwrap() {
            shares.account(&caller(number));
        }
        let known = shares.known.lock().unwrap();
        assert!(known.keys.len() <= FORGET_AT && known.organisations.len() <= FORGET_AT);
        assert_eq!(known.keys[&CallerId(0)].key.of(Kind::Streams), 1);
        drop(slot);
        assert_eq!(known.keys[&CallerId(0)].key.of(Kind::Streams), 0);
    }

    #[test]
    fn strangers_have_a_share_between_them() {
        let shares = Shares::within(&SMALL);
        let held: Vec<_> = (0..4).map(|_| shares.stranger().unwrap()).collect();
        for _ in 0..2 {
            assert_eq!(shares.stranger().unwrap_err().holder, Holder::Strangers);
        }
        assert!(shares.request().is_ok(), "the rest is there for others");
        drop(held);
        assert!(shares.stranger().is_ok());
    }

    #[test]
    fn nobody_has_all_of_anything() {
        for Limit { all, organisation, key, .. } in LIMITS {
            assert!(key <= all / 4 && key < organisation && organisation <= all / 4 * 3, "{all}");
        }
    }

    #[test]
    fn a_refusal_says_whose_share_it_is() {
        let text = |holder, max| Problem::from(Full { kind: Kind::Streams, holder, max });
        let key = text(Holder::Key, 2_000);
        assert_eq!(key.kind, ProblemKind::LimitReached);
        assert!(key.detail.contains("this credential has 2000 open streams, its share of 8000"));
        assert!(text(Holder::Organisation, 6_000).detail.contains("this organisation has 6000 open streams"));
        let server = text(Holder::Server, 8_000);
        assert_eq!(server.kind, ProblemKind::Unavailable);
        assert!(server.detail.contains("the server has 8000 open streams"));
    }
}
