public import CheckpointFiles

/// The windows of a file of tokens in the order in which a run sees them: all of them, shuffled, and then all again.
public struct TrainingOrder: Sendable {
    /// Tokens of a window.
    private let length: Int
    /// All windows: each sequence is cut into as many as it holds.
    private let windows: [(sequence: Int, start: Int)]
    private let tokens: TokenSequences
    private var random: SplitMix64
    private var order: [Int] = []

    /// The order that follows from a seed.
    ///
    /// - Parameters:
    ///   - tokens: sequences that are at least as long as a window.
    ///   - length: tokens of a window.
    ///   - seed: of the order.
    /// - Throws: ``CheckpointError`` of category `malformed` where no sequence holds a window, or a window no token.
    public init(_ tokens: TokenSequences, length: Int, seed: UInt64) throws(CheckpointError) {
        guard length > 0 else {
            throw CheckpointError(
                .malformed, path: tokens.path, "windows of training have at least one token", found: "\(length)")
        }
        windows = tokens.sequences.enumerated().flatMap { number, sequence in
            (0..<sequence.count / length).map { (number, $0 * length) }
        }
        guard !windows.isEmpty else {
            throw CheckpointError(
                .malformed, path: tokens.path, "there are too few tokens to train on",
                expected: "a sequence of \(length) at least",
                found: "\(tokens.sequences.map(\.count).max() ?? 0) in the longest")
        }
        self.tokens = tokens
        self.length = length
        random = SplitMix64(seed: seed)
    }

    /// The windows that come next, one behind the other.
    public mutating func next(_ count: Int) -> [Int] {
        (0..<count).flatMap { _ in
            if order.isEmpty { order = shuffled() }
            let window = windows[order.removeLast()]
            return tokens.sequences[window.sequence][window.start..<window.start + length]
        }
    }

    /// Passes over windows.
    mutating func skip(_ count: Int) {
        var left = count
        while left > 0 {
            if order.isEmpty { order = shuffled() }
            let passed = min(left, order.count)
            order.removeLast(passed)
            left -= passed
        }
    }

    /// All windows, the first one last.
    private mutating func shuffled() -> [Int] {
        var order = Array(windows.indices)
        for last in order.indices.reversed() {
            order.swapAt(last, Int(random.next() % UInt64(last + 1)))
        }
        return order.reversed()
    }
}
