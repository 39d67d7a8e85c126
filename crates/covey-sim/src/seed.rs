//! Randomness that can be replayed: everything a simulated device does by
//! chance follows from one seed, the device's SN and the number of its call.

/// The generator SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014, figure 13). Small, quick, and the
/// same in every version of every library, which a replay needs.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of a device: the same seed and name give the same numbers.
    pub(crate) fn named(seed: u64, name: &str) -> Self {
        // FNV-1a, 64 bits; the generator's own mixing does the rest.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut mixed = Self(seed ^ hash);
        Self(mixed.next_u64())
    }

    /// The generator of the `number`th thing that this one's owner does. It
    /// does not depend on what was drawn for the things before.
    pub(crate) fn fork(&self, number: u64) -> Self {
        let mut mixed = Self(self.0 ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Self(mixed.next_u64())
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `[0, 1)`.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit exactly
    pub(crate) fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in `0..below`; 0 if `below` is 0.
    pub(crate) fn next_below(&mut self, below: u64) -> u64 {
        // Multiply and shift (Lemire 2019); the bias is below 2^-32 for what is asked for here.
        let wide = u128::from(self.next_u64()) * u128::from(below);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first values of the reference implementation for the seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        let first = [random.next_u64(), random.next_u64(), random.next_u64()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_name_and_a_number_give_the_same_numbers_again_and_others_give_others() {
        let draw = |seed, name, number| SplitMix64::named(seed, name).fork(number).next_u64();
        assert_eq!(draw(1, "sim-00001", 5), draw(1, "sim-00001", 5));
        let others = [draw(2, "sim-00001", 5), draw(1, "sim-00002", 5), draw(1, "sim-00001", 6)];
        assert!(!others.contains(&draw(1, "sim-00001", 5)));
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = SplitMix64::new(7);
        assert_eq!(random.next_below(0), 0);
        for _ in 0..10_000 {
            assert!(random.next_below(7) < 7);
            assert!((0.0..1.0).contains(&random.next_unit()));
        }
    }
}
