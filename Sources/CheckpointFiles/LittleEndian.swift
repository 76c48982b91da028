// Integers as every format here stores them, except for those that pickles store as text.

extension RandomAccessCollection<UInt8> where Index == Int {
    /// The little-endian number of `count` bytes, at most eight, at `start`.
    package func bits(at start: Int, count: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in (start..<start + count).reversed() { value = value << 8 | UInt64(self[index]) }
        return value
    }

    /// The little-endian integer of `count` bytes at `start`; -1 if it does not fit in 63 bits.
    package func integer(at start: Int, count: Int) -> Int {
        Int(exactly: bits(at: start, count: count)) ?? -1
    }
}
