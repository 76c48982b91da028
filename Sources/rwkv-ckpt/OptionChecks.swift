import ArgumentParser

// What numeric options allow: one message for each way to be out of it, with option, value and range.

/// Refuses a value outside a range; nil is an option that was not given.
func check(_ option: String, _ value: Int?, in range: ClosedRange<Int>) throws {
    guard let value, !(range ~= value) else { return }
    throw ValidationError("\(option) must be between \(range.lowerBound) and \(range.upperBound), not \(value).")
}

/// Refuses a value below a bound.
func check(_ option: String, _ value: Int?, in range: PartialRangeFrom<Int>) throws {
    guard let value, !(range ~= value) else { return }
    throw ValidationError("\(option) must be \(range.lowerBound) or greater, not \(value).")
}

/// Refuses what is not a finite number above zero, or not even zero where that is allowed.
func check(_ option: String, isPositive value: Double?, orZero: Bool = false) throws {
    guard let value, !(value.isFinite && (value > 0 || orZero && value == 0)) else { return }
    throw ValidationError(
        "\(option) must be a finite number, \(orZero ? "0 or greater" : "above 0"), not \(value).")
}

/// Refuses several options that together ask for too much.
///
/// - Parameters:
///   - options: with their values.
///   - total: what they come to.
///   - what: that is counted.
///   - limit: of it.
/// - Throws: `ValidationError`.
func check(_ options: [(name: String, value: Int)], total: Int, _ what: String, atMost limit: Int) throws {
    guard total > limit else { return }
    let given = options.map { "\($0.name) \($0.value)" }.joined(separator: " and ")
    throw ValidationError("\(given) make \(total) \(what); at most \(limit) are allowed.")
}
