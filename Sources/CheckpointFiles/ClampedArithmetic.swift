// For totals over a checkpoint, which sparse files, or many names for the same bytes, can make overflow.

extension Int {
    /// The sum of two counts, or `Int.max` if it overflows.
    package func adding(clamped other: Int) -> Int {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    /// The product of two counts, or `Int.max` if it overflows.
    package func multiplied(clamped other: Int) -> Int {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
