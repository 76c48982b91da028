import ArgumentParser
import Bytes
import CheckpointConversion
import CheckpointFiles

// Range checks of numeric options; every message names the option, its value and the range.

/// Throws `ValidationError` for a value outside a range; nil means that the option was not given.
func check(_ option: String, _ value: Int?, in range: ClosedRange<Int>) throws {
    guard let value, !(range ~= value) else { return }
    throw ValidationError("\(option) must be between \(range.lowerBound) and \(range.upperBound), not \(value).")
}

/// Throws `ValidationError` for a value below a bound; nil means that the option was not given.
func check(_ option: String, _ value: Int?, in range: PartialRangeFrom<Int>) throws {
    guard let value, !(range ~= value) else { return }
    throw ValidationError("\(option) must be \(range.lowerBound) or greater, not \(value).")
}

/// Throws `ValidationError` unless the value is a finite number above 0, or exactly 0 if `orZero` is true; nil means
/// that the option was not given.
func check(_ option: String, isPositive value: Double?, orZero: Bool = false) throws {
    guard let value, !(value.isFinite && (value > 0 || orZero && value == 0)) else { return }
    throw ValidationError(
        "\(option) must be a finite number, \(orZero ? "0 or greater" : "above 0"), not \(value).")
}

/// Throws `ValidationError` for options that together request too much.
///
/// - Parameters:
///   - options: the names and values of the options.
///   - total: the total that the options request.
///   - what: the unit of `total`.
///   - limit: the largest total that is allowed.
/// - Throws: `ValidationError` if `total` exceeds `limit`.
func check(_ options: [(name: String, value: Int)], total: Int, _ what: String, atMost limit: Int) throws {
    guard total > limit else { return }
    let given = options.map { "\($0.name) \($0.value)" }.joined(separator: " and ")
    throw ValidationError("\(given) make \(total) \(what); at most \(limit) are allowed.")
}

/// Throws `cannotCreate` if an output would replace an input of the command.
///
/// - Parameters:
///   - output: the path of the output; nil if there is none.
///   - checkpoints: the checkpoints that the command reads, with the config.json and the manifests next to them.
///   - files: the other files that the command reads; nil for an option that was not given.
/// - Throws: `CheckpointError`: `cannotCreate`.
func check(
    _ output: String?, isNoFileOf checkpoints: [Checkpoint], or files: [String?] = []
) throws(CheckpointError) {
    guard let output else { return }
    let inputs =
        files.compactMap { $0 }
        + checkpoints.flatMap { $0.files(beside: ["config.json"]) + Conversion.manifests(beside: $0) }
    guard !checkpoints.contains(where: { $0.isFile(at: output) }),
        !inputs.contains(where: { leadToSameFile($0, output) })
    else { throw CheckpointError(.cannotCreate, path: output, "it is an input of the command") }
}
