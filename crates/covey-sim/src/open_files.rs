//! The limit of open files: every simulated device holds one, and so does
//! every caller.

use crate::error::{Error, Result};

/// Files that a process needs beside its connections.
const RESERVED: u64 = 64;

/// Lifts this process's limit of open files so that it can hold this many
/// connections.
///
/// # Errors
/// [`Error::OpenFiles`] if the system does not allow as many.
pub fn allow_open_files(connections: u64) -> Result<()> {
    let wanted = connections.saturating_add(RESERVED);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < wanted => Err(Error::OpenFiles { wanted, limit }),
        // Where the limit is not known, the connections will show it.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn more_than_the_system_allows_is_told() {
        assert!(allow_open_files(1).is_ok());
        let error = allow_open_files(u64::MAX).unwrap_err();
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
}
