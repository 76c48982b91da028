extension Int {
    /// So many in parts of at most `size`, front to back.
    package func parts(of size: Int) -> [Range<Int>] {
        stride(from: 0, to: self, by: size).map { $0..<Swift.min($0 + size, self) }
    }
}
