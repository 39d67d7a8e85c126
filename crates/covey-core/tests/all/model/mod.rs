//! Random histories of all that can happen, compared with models of the contract. A store joins with one
//! line, `model!(name, its backend, histories)`.
//!
//! `PROPTEST_CASES` sets how many histories are tried.

mod contract;
pub mod hearing;
pub mod tasks;
pub mod usage;
mod windows;

use proptest::prelude::ProptestConfig;

/// Devices 0 and 1 are the first organisation's, 2 is the second's.
const DEVICES: usize = 3;

fn org_of(device: usize) -> usize {
    device / 2
}

/// So many histories, unless `PROPTEST_CASES` says otherwise.
pub fn histories(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2_000, ..default }
}

/// Makes a module of tests: so many histories of each kind on a store's backend.
macro_rules! model {
    ($store:ident, $backend:expr, $histories:expr) => {
        mod $store {
            proptest::proptest! {
                #![proptest_config(crate::model::histories($histories))]

                #[test]
                fn every_history_keeps_the_contract(actions in crate::model::tasks::actions()) {
                    crate::model::tasks::follow($backend, actions);
                }

                #[test]
                fn what_devices_tell_is_kept_and_told_once(actions in crate::model::hearing::actions()) {
                    crate::model::hearing::follow($backend, actions);
                }

                #[test]
                fn what_was_used_is_what_happened(actions in crate::model::usage::actions()) {
                    crate::model::usage::follow($backend, actions);
                }
            }
        }
    };
}
