//! Room on the disk of the data directory.

use std::path::Path;

use covey_core::finding::{Code, Finding};

use crate::words;

const MIB: u64 = 1 << 20;

/// What is wrong with a disk that has so much left, and must have so much.
#[must_use]
pub fn finding(data: &Path, free_bytes: u64, free_min_bytes: u64) -> Option<Finding> {
    if free_bytes >= free_min_bytes && free_bytes > 0 {
        return None;
    }
    let (free, min) = (free_bytes / MIB, free_min_bytes / MIB);
    Some(match free_bytes {
        0 => full(data),
        _ => short(data, format!("{free} MiB are free, and {min} MiB must be (--disk-free-min)")),
    })
}

/// There is less room than must be left.
#[must_use]
pub fn short(data: &Path, seen: impl ToString) -> Finding {
    Finding::error(Code::DiskShort, data.display(), seen, remedy(data))
}

/// There is no room.
#[must_use]
pub fn full(data: &Path) -> Finding {
    let seen = "no room is left: only deletions and revocations are taken";
    Finding::error(Code::DiskFull, data.display(), seen, remedy(data))
}

fn remedy(data: &Path) -> String {
    let data = words::path(data);
    format!(
        "see what takes the room: df -h {data}; delete what is not Covey's, make the disk larger, keep things for a \
         shorter time (covey retention set), or delete tasks (covey task rm ID)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_short_below_what_must_be_free_and_full_without_any_room() {
        let found = |free, min| finding(Path::new("data"), free, min).map(|found| found.code);
        assert_eq!((found(10, 10), found(1, 0)), (None, None));
        assert_eq!(
            (found(9, 10), found(0, 10), found(0, 0)),
            (Some(Code::DiskShort), Some(Code::DiskFull), Some(Code::DiskFull))
        );
    }
}
