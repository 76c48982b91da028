public import Bytes
import CheckpointFiles
public import TokenFiles

/// The order in which a run trains on the windows of its training sequences.
///
/// The windows are reshuffled for each epoch.
public struct TrainingOrder: Sendable {
    /// The number of tokens per window.
    private let length: Int
    /// All windows, which do not overlap; tokens after the last complete window of a sequence are not used.
    private let windows: [(sequence: Int, start: Int)]
    private let tokens: TokenSequences
    private var random: SplitMix64
    private var order: [Int] = []

    /// Creates a training order from a seed.
    ///
    /// - Parameters:
    ///   - tokens: the training sequences; a sequence shorter than a window is not used.
    ///   - length: the number of tokens per window.
    ///   - seed: the seed for shuffling.
    /// - Throws: `CheckpointError` of category `malformed` if all sequences are shorter than a window, or if `length`
    ///   is not positive.
    public init(_ tokens: TokenSequences, length: Int, seed: UInt64) throws(CheckpointError) {
        guard length > 0 else {
            throw CheckpointError(
                .malformed, path: tokens.path, "a training window must have at least one token", found: "\(length)")
        }
        windows = tokens.sequences.enumerated().flatMap { number, sequence in
            (0..<sequence.count / length).map { (number, $0 * length) }
        }
        guard !windows.isEmpty else {
            throw CheckpointError(
                .malformed, path: tokens.path, "the training sequences are too short",
                expected: "a sequence of at least \(length) tokens",
                found: "\(tokens.sequences.map(\.count).max() ?? 0) in the longest")
        }
        self.tokens = tokens
        self.length = length
        random = SplitMix64(seed: seed)
    }

    /// Returns the tokens of the next `count` windows, concatenated.
    public mutating func next(_ count: Int) -> [Int] {
        (0..<count).flatMap { _ in
            if order.isEmpty { order = shuffled() }
            let window = windows[order.removeLast()]
            return tokens.sequences[window.sequence][window.start..<window.start + length]
        }
    }

    /// Skips the next `count` windows.
    mutating func skip(_ count: Int) {
        var left = count
        while left > 0 {
            if order.isEmpty { order = shuffled() }
            let passed = min(left, order.count)
            order.removeLast(passed)
            left -= passed
        }
    }

    /// Returns the indices of all windows in a new random order; the caller takes them from the end.
    private mutating func shuffled() -> [Int] {
        var order = Array(windows.indices)
        for last in order.indices.reversed() {
            order.swapAt(last, Int(random.next() % UInt64(last + 1)))
        }
        return order.reversed()
    }
}
