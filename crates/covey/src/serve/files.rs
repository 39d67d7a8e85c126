//! Open files: each listener has some that no other takes, and so have the store and the rest. What is left
//! they share.

use covey_http::{CONNECTIONS_MAX, Files, SharedFiles};

use crate::settings::Settings;

/// Open files that are somebody's own.
#[derive(Clone, Copy)]
struct Own {
    files: u64,
    /// At most one in so many of all that are allowed: where there are few, everyone has fewer.
    part: u64,
}

impl Own {
    fn of(self, limit: u64) -> u64 {
        self.files.min(limit / self.part)
    }
}

/// What is kept for the store, its readers, links and webhooks, and no listener takes.
const OTHERS: Own = Own { files: 512, part: 8 };
/// What each listener has for itself: that for measurements, plain HTTP, HTTPS, and that for devices.
const METRICS: Own = Own { files: 64, part: 32 };
const HTTP: Own = Own { files: 256, part: 16 };
const HTTPS: Own = Own { files: 1_024, part: 8 };
const DEVICES: Own = Own { files: 4_096, part: 4 };
/// What the listeners of nodes have together.
const NODES: Own = Own { files: 1_024, part: 16 };

/// The open files of the listeners.
pub struct OpenFiles {
    pub metrics: Files,
    pub http: Files,
    pub https: Files,
    pub devices: Files,
    /// Of each listener of nodes.
    pub nodes: Files,
}

/// Lifts the limit of open files as far as allowed, shares them out, and says when there are few: each
/// device holds one.
pub fn share_out(settings: &Settings) -> Option<OpenFiles> {
    let sessions = u64::from(settings.sessions_max);
    let node_listeners =
        settings.node_listeners().chain(settings.node_broker).chain(settings.mcu_http).count() as u64;
    match rlimit::increase_nofile_limit(wanted(sessions, settings.metrics.is_some(), node_listeners)) {
        Ok(limit) => {
            let (files, shared) = of(limit, node_listeners);
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

/// What so many devices and all listeners may want, one for measurements included if there is one.
fn wanted(sessions: u64, has_metrics: bool, node_listeners: u64) -> u64 {
    let listeners = 2 + u64::from(has_metrics) + node_listeners;
    sessions.max(DEVICES.files) + listeners * CONNECTIONS_MAX as u64 + OTHERS.files
}

/// Shares out so many, and how many of them are shared.
fn of(limit: u64, node_listeners: u64) -> (OpenFiles, usize) {
    let nodes = if node_listeners == 0 { 0 } else { NODES.of(limit) };
    let own = [METRICS, HTTP, HTTPS, DEVICES].map(|own| own.of(limit));
    let count = |files: u64| usize::try_from(files).unwrap_or(usize::MAX);
    let left = count(limit.saturating_sub(OTHERS.of(limit) + own.iter().sum::<u64>() + nodes));
    let shared = SharedFiles::new(left);
    let [metrics, http, https, devices] =
        own.map(|reserved| Files { reserved: count(reserved), shared: shared.clone() });
    let reserved = count(nodes.checked_div(node_listeners).unwrap_or_default());
    let nodes = Files { reserved, shared: shared.clone() };
    (OpenFiles { metrics, http, https, devices, nodes }, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_files_of_its_own_however_few_there_are() {
        for limit in [64, 256, 1_024, 4_096, 20_000, 1_048_576] {
            let (files, shared) = of(limit, 0);
            let own = [&files.metrics, &files.http, &files.https, &files.devices]
                .map(|files| files.reserved as u64);
            assert!(own.iter().all(|own| *own > 0), "{limit}: {own:?}");
            let others = limit - own.iter().sum::<u64>() - shared as u64;
            assert!(others >= OTHERS.of(limit), "{limit}: {others}");
        }
    }
    #[test]
    fn as_many_are_wanted_as_all_listeners_may_have() {
        for has_metrics in [false, true] {
            let (files, shared) = of(wanted(100_000, has_metrics, 0), 0);
            let of_http = [&files.http, &files.https, &files.metrics];
            let of_http: usize = of_http.iter().map(|files| CONNECTIONS_MAX - files.reserved).sum();
            let unused = if has_metrics { 0 } else { CONNECTIONS_MAX };
            assert!(shared >= of_http + 100_000 - files.devices.reserved - unused, "{has_metrics}");
        }
    }
}
