//! Whose turn it is: how many requests are checked, signed and stored at the same time, in all and of one claim or device.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::problem::{Kind, Problem};

/// How many requests are checked, signed and stored at the same time.
/// Limit for the server: 503.
const AT_ONCE_MAX: usize = 64;
/// How many of these may be of one device, or by one claim.
/// Limit for each device or claim: 429.
const AT_ONCE_OF_ONE_MAX: usize = 4;

/// The requests that have their turn now.
#[derive(Default)]
pub(super) struct Turns(Mutex<Running>);

#[derive(Default)]
struct Running {
    all: usize,
    by_holder: HashMap<String, usize>,
}

/// The turn of a request. Dropped, it is that of another one.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    holder: Option<String>,
}

impl Turns {
    /// A turn of a claim or a device; an API key has its share of all requests already.
    pub(super) fn take(&self, holder: Option<String>) -> Result<Turn<'_>, Problem> {
        let mut running = self.running();
        if running.all >= AT_ONCE_MAX {
            return Err(Problem::new(Kind::Unavailable, "too many devices enrol at once"));
        }
        if let Some(holder) = &holder {
            let own = running.by_holder.entry(holder.clone()).or_default();
            if *own >= AT_ONCE_OF_ONE_MAX {
                let what =
                    "4 requests with this certificate are not done yet, as many as may be; try again later";
                return Err(Problem::new(Kind::LimitReached, what));
            }
            *own += 1;
        }
        running.all += 1;
        Ok(Turn { turns: self, holder })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // What it guards is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut running = self.turns.running();
        running.all -= 1;
        let Some(holder) = &self.holder else { return };
        match running.by_holder.get_mut(holder) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(running.by_holder.remove(holder)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_claim_leaves_turns_to_others_and_those_that_are_done_are_forgotten() {
        let turns = Turns::default();
        let take = |holder: &str| turns.take(Some(holder.to_owned()));
        let mut taken: Vec<_> = (0..AT_ONCE_OF_ONE_MAX).map(|_| take("claim:1").unwrap()).collect();
        assert_eq!(take("claim:1").err().unwrap().kind, Kind::LimitReached);
        let other = take("lamp").unwrap();
        taken.pop();
        taken.push(take("claim:1").unwrap());
        while taken.len() + 1 < AT_ONCE_MAX {
            taken.push(turns.take(None).unwrap());
        }
        assert_eq!(turns.take(None).err().unwrap().kind, Kind::Unavailable);
        drop((taken, other));
        let running = turns.running();
        assert_eq!((running.all, running.by_holder.len()), (0, 0));
    }
}
