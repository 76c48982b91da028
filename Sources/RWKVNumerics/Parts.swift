extension Int {
    /// Splits `0..<self` into consecutive ranges of at most `size` indices.
    package func parts(of size: Int) -> [Range<Int>] {
        stride(from: 0, to: self, by: size).map { $0..<Swift.min($0 + size, self) }
    }
}
