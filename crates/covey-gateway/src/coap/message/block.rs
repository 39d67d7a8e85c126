//! The options Block1 and Block2 (RFC 7959 §2.2): which part of a body a message has.

/// How large the blocks are: 16 to 1,024 bytes, a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockSize(u8);

impl BlockSize {
    /// 16 bytes.
    pub const MIN: Self = Self(0);
    /// 1,024 bytes.
    pub const MAX: Self = Self(6);

    /// The largest size of at most so many bytes, none below 16.
    #[must_use]
    pub fn at_most(bytes: usize) -> Option<Self> {
        (0..=Self::MAX.0).rev().map(Self).find(|size| size.bytes() <= bytes)
    }

    /// How many bytes a block has, unless it is the last.
    #[must_use]
    pub const fn bytes(self) -> usize {
        16 << self.0
    }
}

/// Highest number of a block: it has 20 bits.
const NUMBER_MAX: u32 = 0xF_FFFF;

/// A value of Block1 or Block2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which block, from 0 on.
    pub number: u32,
    /// Whether others follow.
    pub has_more: bool,
    /// The size that number counts in.
    pub size: BlockSize,
}

impl Block {
    /// The block at so many bytes; none if no block of this size begins there, or its number is too high.
    #[must_use]
    pub fn at(offset: usize, size: BlockSize, has_more: bool) -> Option<Self> {
        let number = u32::try_from(offset / size.bytes()).ok().filter(|number| *number <= NUMBER_MAX)?;
        offset.is_multiple_of(size.bytes()).then_some(Self { number, has_more, size })
    }

    /// Where in the body it begins. A number of 20 bits times 1,024 is far below 2^32.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.number as usize * self.size.bytes()
    }

    /// None if it is longer than three bytes, or has the reserved size 7.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        if value.len() > 3 {
            return None;
        }
        let value = super::option::number(value)?;
        // Three bits.
        let size = (value & 0b111) as u8;
        (size <= BlockSize::MAX.0).then_some(Self {
            number: value >> 4,
            has_more: value & 0b1000 != 0,
            size: BlockSize(size),
        })
    }

    /// As the number in the option.
    #[must_use]
    pub(crate) const fn value(self) -> u32 {
        self.number << 4 | (self.has_more as u32) << 3 | self.size.0 as u32
    }
}
