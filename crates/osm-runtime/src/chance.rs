//! Randomness. Pure code takes a generator as an argument; everybody else asks here.

use rand::rngs::StdRng;

/// A generator seeded by the kernel. Good enough for keys, and may be held across `.await`.
pub fn generator() -> StdRng {
    rand::make_rng()
}
