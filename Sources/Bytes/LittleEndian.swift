// All supported formats store binary integers in little-endian order.

extension RandomAccessCollection<UInt8> where Index == Int {
    /// Returns the unsigned integer stored in `count` little-endian bytes, at most eight, starting at `start`.
    package func bits(at start: Int, count: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in (start..<start + count).reversed() { value = value << 8 | UInt64(self[index]) }
        return value
    }

    /// Returns the integer stored in `count` little-endian bytes starting at `start`; -1 if it does not fit in 63 bits.
    package func integer(at start: Int, count: Int) -> Int {
        Int(exactly: bits(at: start, count: count)) ?? -1
    }
}
