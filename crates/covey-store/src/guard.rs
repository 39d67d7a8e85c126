//! What happens when the thread that writes panics.

/// Ends the process when the thread that writes panics: a server that answers
/// and cannot store is worse than one that is started again, which loses nothing.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("writer thread panicked; stopping");
            std::process::abort();
        }
    }
}
