// Sums over a checkpoint that sparse files, or many names for the same bytes, can bring beyond all bounds.

extension Int {
    /// The sum of two counts, or the largest integer where it overflows.
    package func adding(clamped other: Int) -> Int {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    /// The product of two counts, or the largest integer where it overflows.
    package func multiplied(clamped other: Int) -> Int {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
