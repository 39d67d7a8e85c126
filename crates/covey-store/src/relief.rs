//! What is done with a group of jobs when no room is left.

use covey_core::error::StorageFault;
use covey_core::port::{Job, Need};

/// Keeps those that make room or shut somebody out; the others are told that there is none.
pub(crate) fn keep_relief(group: &mut Vec<Box<dyn Job>>) {
    let (relief, others): (Vec<_>, Vec<_>) =
        std::mem::take(group).into_iter().partition(|job| job.need() == Need::Relief);
    *group = relief;
    others.into_iter().for_each(|job| job.settle(Err(StorageFault::Full)));
}
