// Every format here stores integers as little-endian, except for those that pickles store as text.

extension RandomAccessCollection<UInt8> where Index == Int {
    /// Returns the little-endian number in the `count` bytes, at most eight, at `start`.
    package func bits(at start: Int, count: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in (start..<start + count).reversed() { value = value << 8 | UInt64(self[index]) }
        return value
    }

    /// Returns the little-endian integer in the `count` bytes at `start`; -1 if it does not fit in 63 bits.
    package func integer(at start: Int, count: Int) -> Int {
        Int(exactly: bits(at: start, count: count)) ?? -1
    }
}
