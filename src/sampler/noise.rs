//! Noise that is addressed, not drawn: Philox 4×32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
//! 3"), a function from (key, counter) to random bits with no state that an order could disturb.

use crate::task::TaskId;

/// Gumbel noise of one sample.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    key: [u32; 2],
}

impl Noise {
    /// The noise of sample `index` of `task` under `seed`.
    pub fn new(seed: u64, task: &TaskId, index: u32) -> Noise {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(&index.to_le_bytes());
        hasher.update(task.as_str().as_bytes());
        let digest = hasher.finalize();
        let word = |i: usize| {
            let bytes = &digest.as_bytes()[4 * i..];
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        };
        Noise { key: [word(0), word(1)] }
    }

    /// The key, for a device that draws by itself.
    pub fn key(self) -> [u32; 2] {
        self.key
    }

    /// A number in (0, 1), with 53 random bits, for `token` at the absolute `position`.
    pub fn uniform(self, position: usize, token: u32) -> f64 {
        let bits = philox([position as u32, token, 0, 0], self.key);
        let bits = (u64::from(bits[0]) << 32 | u64::from(bits[1])) >> 11;
        (bits as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A draw from the standard Gumbel distribution, −ln(−ln u).
    pub fn gumbel(self, position: usize, token: u32) -> f64 {
        -libm::log(-libm::log(self.uniform(position, token)))
    }
}

/// Ten rounds of Philox 4×32.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let left = u64::from(counter[0]) * 0xD251_1F53;
        let right = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers that the authors publish with their Random123 library.
    #[test]
    fn philox_gives_the_known_answers() {
        let check = |counter, key, expected| assert_eq!(philox(counter, key), expected);
        check([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        check(
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        );
    }

    #[test]
    fn every_part_of_the_address_counts() {
        let id = TaskId::from("t/1");
        let base = Noise::new(0, &id, 0).uniform(5, 7);
        let others = [
            Noise::new(1, &id, 0).uniform(5, 7),
            Noise::new(0, &TaskId::from("t/2"), 0).uniform(5, 7),
            Noise::new(0, &id, 1).uniform(5, 7),
            Noise::new(0, &id, 0).uniform(6, 7),
            Noise::new(0, &id, 0).uniform(5, 8),
        ];
        assert!(others.iter().all(|&other| other != base));
    }

    #[test]
    fn gumbel_has_its_mean_and_variance() {
        let draws: Vec<f64> =
            (0..100_000).map(|i| Noise::new(3, &TaskId::from("t"), 0).gumbel(i / 100, (i % 100) as u32)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5772).abs() < 0.02, "{mean}"); // Euler's constant
        assert!((variance - 1.6449).abs() < 0.05, "{variance}"); // π² / 6
    }
}
