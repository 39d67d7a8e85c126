//! Parts of lists: how many entries, and how many bytes.

use crate::error::{Error, Result};

/// How many bytes the bodies in a part of a list may take. It ends before the first that is too many, but has
/// one entry in any case.
/// Limit for each list: the page is shorter, its cursor goes on; 422 where a list has none.
pub const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many bytes the tags of listed devices may take, and the bodies of their gauges, where nobody said how many
/// devices there are to be: clients that know no pages expect all.
/// Limit for each list of devices without `size`: 422.
pub const WHOLE_LIST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries of this page.
    pub items: Vec<T>,
    /// How many entries there are on all pages.
    pub total: u64,
    /// Whether it has fewer than asked for because they are too large.
    pub is_cut: bool,
}

/// Entries of a list that is not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Whether there are fewer than asked for because they are too large.
    pub is_cut: bool,
}

/// The entries of a list up to some bytes, one after the other.
#[derive(Debug)]
pub struct Filling<T> {
    entries: Entries<T>,
    bytes: usize,
    bytes_max: usize,
}

impl<T> Default for Filling<T> {
    /// Up to [`LIST_BYTES_MAX`].
    fn default() -> Self {
        Self::up_to(LIST_BYTES_MAX)
    }
}

impl<T> Filling<T> {
    /// Up to so many bytes.
    #[must_use]
    pub fn up_to(bytes_max: usize) -> Self {
        Self { entries: Entries { items: Vec::new(), is_cut: false }, bytes: 0, bytes_max }
    }

    /// Takes in the next entry, whose body has so many bytes. Answers false if there is no room for it, which is
    /// noted.
    pub fn add(&mut self, item: T, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max && !self.entries.items.is_empty() {
            self.entries.is_cut = true;
            return false;
        }
        self.entries.items.push(item);
        true
    }

    /// The entries that there was room for.
    #[must_use]
    pub fn done(self) -> Entries<T> {
        self.entries
    }
}

impl<T> Entries<T> {
    /// All of them, for those who cannot go on from the last one.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the parameter that says how many there are to be.
    pub fn whole(self, parameter: &'static str) -> Result<Vec<T>> {
        if self.is_cut {
            return Err(Error::invalid(parameter, TOO_LARGE));
        }
        Ok(self.items)
    }
}

impl<T> Page<T> {
    /// The page, if it is whole: what is left out would not be on the next one.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `size`.
    pub fn whole(self) -> Result<Self> {
        if self.is_cut { Err(Error::invalid("size", TOO_LARGE)) } else { Ok(self) }
    }
}

/// What is said of a page that would be too large.
const TOO_LARGE: &str = "these would be too large for one answer: ask for fewer at once";

/// Which page is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Its number, from 1.
    pub page: u32,
    /// How many entries it has at most.
    pub size: u32,
}
