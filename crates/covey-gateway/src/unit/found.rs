//! Units that announce themselves on the local network. Each waits until somebody says yes to its address; nothing is
//! sent there before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Counts, Kind, Unit, Units};
use crate::gateway::{Gateway, Protocol};
use crate::node::Gone;
use crate::port::Port;

/// How many units that announce themselves are known at a time.
/// Limit for the server: others are left out, and counted in the log.
pub const UNITS_FOUND_MAX: usize = 1_000;
/// How often a unit may be missing among those that are there.
/// Limit for each unit: it is out.
const LOOKS_MISSED_MAX: u8 = 3;

/// The gateway of such units: those that were approved are spoken with as those that are listed.
pub(super) struct FoundUnits<P: Port> {
    gateway: Arc<Gateway<P>>,
    pub(super) approved: Arc<Units<P>>,
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    unit: Unit,
    missed: u8,
    /// Whether somebody has said yes.
    is_approved: bool,
}

impl Known {
    /// Whether it is here as long as it announces itself; a read unit that was approved is, as long as it speaks.
    fn is_here_by_name(&self) -> bool {
        !self.is_approved || self.unit.kind == Kind::Update
    }
}

/// Hears which units there are, each time all of them, and speaks with those that were approved, until `stop`.
pub async fn serve_found<P: Port>(
    gateway: Arc<Gateway<P>>,
    mut looks: mpsc::Receiver<Vec<Unit>>,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    let approved = Arc::new_cyclic(|this: &Weak<Units<P>>| Units {
        gateway: Arc::clone(&gateway),
        counts,
        spoken_with: Mutex::default(),
        stop: stop.clone(),
        this: Weak::clone(this),
    });
    let found = FoundUnits::new(Arc::clone(&gateway), approved);
    gateway.speak(&found);
    let hearing = async {
        while let Some(Some(units)) = stop.run_until_cancelled(looks.recv()).await {
            found.hear(units);
        }
    };
    tokio::join!(gateway.run(stop.clone()), hearing);
    found.approved.speak_with(Vec::new()).await;
}

impl<P: Port> FoundUnits<P> {
    pub(super) fn new(gateway: Arc<Gateway<P>>, approved: Arc<Units<P>>) -> Arc<Self> {
        Arc::new(Self { gateway, approved, known: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // What it guards is whole at every moment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was found. The gateway is told without the lock: it may ask for something at once.
    pub(super) fn hear(&self, units: Vec<Unit>) {
        let (mut here, mut out, mut left_out) = (Vec::new(), Vec::new(), 0_usize);
        {
            let mut all = self.lock();
            for known in all.values_mut() {
                known.missed = known.missed.saturating_add(1);
            }
            for unit in units {
                let count = all.len();
                match all.get_mut(&unit.uid) {
                    Some(known) => {
                        known.missed = 0;
                        // What was approved stays what it is.
                        if !known.is_approved {
                            known.unit = unit;
                        }
                        if known.is_here_by_name() {
                            here.push(known.unit.clone());
                        }
                    }
                    None if count >= UNITS_FOUND_MAX => left_out += 1,
                    None => {
                        here.push(unit.clone());
                        all.insert(unit.uid.clone(), Known { unit, missed: 0, is_approved: false });
                    }
                }
            }
            all.retain(|uid, known| {
                let is_out = known.missed >= LOOKS_MISSED_MAX && known.is_here_by_name();
                if is_out {
                    out.push(uid.clone());
                }
                !is_out
            });
        }
        if left_out > 0 {
            tracing::warn!(left_out, "there are more units that announce themselves than can be known");
        }
        for uid in out {
            self.leave(&uid);
            self.gateway.gone(&uid, Gone::Silent);
        }
        // One that rests says itself when that is over.
        for unit in here.iter().filter(|unit| !self.approved.rests(&unit.uid)) {
            self.gateway.seen(&unit.uid, &unit.address.ip().to_string());
        }
    }

    /// Speaks with a unit no more.
    fn leave(&self, uid: &str) {
        let spoken = self.approved.lock().remove(uid);
        if let Some(spoken) = spoken {
            spoken.stop.cancel();
        }
    }
}

impl<P: Port> Protocol for FoundUnits<P> {
    fn discover(&self, uid: &Arc<str>, is_missed: bool) {
        let approved_now = {
            let mut all = self.lock();
            let Some(known) = all.get_mut(&**uid) else { return };
            let is_new = !std::mem::replace(&mut known.is_approved, true);
            is_new.then(|| known.unit.clone())
        };
        if let Some(unit) = approved_now {
            let kind = unit.kind;
            self.approved.begin(unit);
            if kind == Kind::Read {
                // It is here as soon as it speaks.
                self.gateway.gone(uid, Gone::Clean);
                return;
            }
        }
        self.approved.discover(uid, is_missed);
    }

    fn set(&self, uid: &Arc<str>, number: u64, resource: &str, value: &Arc<str>) {
        self.approved.set(uid, number, resource, value);
    }

    fn forget(&self, uid: &Arc<str>) {
        self.approved.forget(uid);
    }

    fn close(&self, uid: &Arc<str>) {
        // It waits for a yes again, once it is found again.
        self.lock().remove(&**uid);
        self.leave(uid);
    }

    fn is_passing(&self, _: &Arc<str>) -> bool {
        false
    }
}
