//! Open files: each listener has some that no other takes, and so have the store and the rest. What is left
//! they share.

use covey_http::{Files, SharedFiles};

use crate::settings::Settings;

/// How many open files HTTP and HTTPS may want, each.
const HTTP_MAX: u64 = 10_000;
/// What is kept for the store, its readers, links and webhooks, and no listener takes.
const OTHERS: u64 = 512;
/// What each listener has for itself: that for measurements, plain HTTP, HTTPS, and that for devices.
const METRICS: u64 = 64;
const HTTP: u64 = 256;
const HTTPS: u64 = 1_024;
const DEVICES: u64 = 4_096;

/// The open files of the listeners.
pub struct OpenFiles {
    pub metrics: Files,
    pub http: Files,
    pub https: Files,
    pub devices: Files,
}

/// Lifts the limit of open files as far as allowed, shares them out, and says when there are few: each
/// device holds one.
pub fn share_out(settings: &Settings) -> Option<OpenFiles> {
    let sessions = u64::from(settings.sessions_max);
    let wanted = sessions.max(DEVICES) + 2 * HTTP_MAX + OTHERS;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) => {
            let (files, shared) = of(limit);
            let devices = shared.saturating_add(files.devices.reserved);
            if (devices as u64) < sessions {
                tracing::info!(
                    "the limit of open files ({limit}) allows about {devices} devices; raise it with ulimit -n or LimitNOFILE="
                );
            }
            Some(files)
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files is not known");
            None
        }
    }
}

/// Shares out so many, and how many of them are shared. Where there are few, everyone has fewer.
fn of(limit: u64) -> (OpenFiles, usize) {
    let (others, http, metrics) = (OTHERS.min(limit / 8), HTTP.min(limit / 16), METRICS.min(limit / 32));
    let (https, devices) = (HTTPS.min(limit / 8), DEVICES.min(limit / 4));
    let count = |files: u64| usize::try_from(files).unwrap_or(usize::MAX);
    let left = count(limit.saturating_sub(others + metrics + http + https + devices));
    let shared = SharedFiles::new(left);
    let of = |reserved| Files { reserved: count(reserved), shared: shared.clone() };
    (OpenFiles { metrics: of(metrics), http: of(http), https: of(https), devices: of(devices) }, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_files_of_its_own_however_few_there_are() {
        for limit in [64, 256, 1_024, 4_096, 20_000, 1_048_576] {
            let (files, shared) = of(limit);
            let own = [&files.metrics, &files.http, &files.https, &files.devices]
                .map(|files| files.reserved as u64);
            assert!(own.iter().all(|own| *own > 0), "{limit}: {own:?}");
            let others = limit - own.iter().sum::<u64>() - shared as u64;
            assert!(others >= OTHERS.min(limit / 8), "{limit}: {others}");
        }
    }
}
