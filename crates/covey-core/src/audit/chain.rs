//! Rows in chains: each has the hash of the one before it in its own.

use sha2::{Digest, Sha256};

use crate::audit::AuditEntry;
use crate::id::{OrgId, UnixMs};

/// How many bytes of entries a row has at most, but for one that is longer by itself.
/// Limit for each row: more entries make another row.
pub const ROW_BYTES_MAX: usize = 256 * 1024;

/// The hash of a row.
pub type AuditHash = [u8; 32];
/// What stands for the hash of the row before the first.
pub const HASH_OF_NOTHING: AuditHash = [0; 32];

/// A hash in hexadecimal digits.
#[must_use]
pub fn hash_text(hash: &AuditHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The entries of an organisation out of a group of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// In which chain.
    pub chain: i64,
    /// Its place there, from 1.
    pub number: i64,
    /// Whose.
    pub org: OrgId,
    /// When.
    pub at: UnixMs,
    /// A line for each entry.
    pub entries: String,
    /// The hash of the one before it and of all this.
    pub hash: AuditHash,
}

impl AuditRow {
    /// What its hash must be behind a row with this hash.
    #[must_use]
    pub fn hash_behind(&self, before: &AuditHash) -> AuditHash {
        let mut hash = Sha256::new();
        hash.update(before);
        for number in [self.chain, self.number, self.org.0, self.at.0] {
            hash.update(number.to_be_bytes());
        }
        hash.update(self.entries.as_bytes());
        hash.finalize().into()
    }
}

/// The end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Which chain.
    pub chain: i64,
    /// The number of its last row; 0 if there is none yet.
    pub number: i64,
    /// Its hash.
    pub hash: AuditHash,
}

/// The entries of a group of operations.
#[derive(Clone, Debug, Default)]
pub struct AuditGroup(Vec<(OrgId, String)>);

impl AuditGroup {
    /// Takes in an entry.
    pub fn add(&mut self, entry: &AuditEntry) {
        // The last one of an organisation has room. There are few.
        let found = self.0.iter_mut().rev().find(|(org, _)| *org == entry.org);
        match found.filter(|(_, entries)| entries.len() < ROW_BYTES_MAX) {
            Some((_, entries)) => entry.write(entries),
            None => {
                let mut entries = String::new();
                entry.write(&mut entries);
                self.0.push((entry.org, entries));
            }
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows of these entries behind the end of a chain, which moves on.
    pub fn rows(&mut self, head: &mut AuditHead, at: UnixMs) -> Vec<AuditRow> {
        let groups = std::mem::take(&mut self.0).into_iter();
        let row = |(org, entries)| {
            let (chain, number) = (head.chain, head.number + 1);
            let mut row = AuditRow { chain, number, org, at, entries, hash: HASH_OF_NOTHING };
            row.hash = row.hash_behind(&head.hash);
            *head = AuditHead { chain, number, hash: row.hash };
            row
        };
        groups.map(row).collect()
    }
}
