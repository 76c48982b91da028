import Bytes

/// The SplitMix64 pseudorandom number generator (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number
/// Generators").
package struct SplitMix64 {
    private var counter: UInt64

    /// Creates a generator whose sequence depends only on `seed`.
    package init(seed: UInt64) { counter = seed }

    /// Creates a generator whose sequence depends only on `seed` and `name`.
    package init(seed: some BinaryInteger, name: String) {
        self.init(seed: UInt64(sha256(of: Array("\(seed) \(name)".utf8)).prefix(16), radix: 16) ?? 0)
    }

    /// Returns the next random number, uniformly distributed in [-1, 1).
    package mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-52 - 1 }

    /// Returns the random number that ``uniform()`` would return after `count` other calls.
    package func uniform(after count: Int) -> Double {
        var later = self
        later.counter &+= UInt64(truncatingIfNeeded: count) &* 0x9E37_79B9_7F4A_7C15
        return later.uniform()
    }

    /// Returns the next 64 random bits.
    package mutating func next() -> UInt64 {
        counter &+= 0x9E37_79B9_7F4A_7C15
        var bits = counter
        bits = (bits ^ bits >> 30) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ bits >> 27) &* 0x94D0_49BB_1331_11EB
        return bits ^ bits >> 31
    }
}
