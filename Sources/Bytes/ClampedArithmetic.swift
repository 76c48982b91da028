// These functions are for totals over a checkpoint, which can overflow if files are sparse or if many tensors share the
// same bytes.

extension Int {
    /// Returns the sum of two counts, or `Int.max` if it overflows.
    package func adding(clamped other: Int) -> Int {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    /// Returns the product of two counts, or `Int.max` if it overflows.
    package func multiplied(clamped other: Int) -> Int {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
