public import CheckpointFiles
public import TokenFiles

/// The training windows of token sequences in the order in which a run sees them; all windows are reshuffled for each
/// epoch.
public struct TrainingOrder: Sendable {
    /// The number of tokens per window.
    private let length: Int
    /// All windows: each sequence is cut into as many windows as fit.
    private let windows: [(sequence: Int, start: Int)]
    private let tokens: TokenSequences
    private var random: SplitMix64
    private var order: [Int] = []

    /// Creates the training order for a seed.
    ///
    /// - Parameters:
    ///   - tokens: the training sequences; sequences shorter than a window are not used.
    ///   - length: the number of tokens per window.
    ///   - seed: the seed for shuffling.
    /// - Throws: ``CheckpointError`` of category `malformed` if every sequence is shorter than a window, or if `length`
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

    /// Returns the indices of all windows in a new order, to be consumed from the end.
    private mutating func shuffled() -> [Int] {
        var order = Array(windows.indices)
        for last in order.indices.reversed() {
            order.swapAt(last, Int(random.next() % UInt64(last + 1)))
        }
        return order.reversed()
    }
}
