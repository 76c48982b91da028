import CRWKVKernels
public import CheckpointFiles
import ModelFamilies
public import RWKVInference
import RWKVLayers
public import RWKVNumerics

extension SpeedMeasurements {
    /// Measures a model's forward pass over a prompt, with the last token's logits, and over single tokens after a
    /// short prompt.
    ///
    /// Peak memory bandwidth is measured by reading the weights that the forward pass of each token reads.
    ///
    /// - Parameters:
    ///   - model: the model to run.
    ///   - tokens: the length of the prompt in tokens.
    ///   - runs: the number of timed runs of the prompt; ten times as many single tokens are timed.
    ///   - kernels: the kernels to measure.
    ///   - progress: receives the number of tokens processed, and can cancel the work.
    /// - Returns: the measurements.
    /// - Throws: ``CheckpointError``: `cancelled`, or what running the model throws.
    public static func ofForward(
        _ model: Model<Float>, tokens: Int, runs: Int, _ kernels: Kernels<Float>, progress: WorkProgress
    ) throws(CheckpointError) -> SpeedMeasurements {
        let (shortPrompt, singleTokens) = (16, 10 * runs)
        var random = SplitMix64(seed: 0)
        let prompt = (0..<max(tokens, shortPrompt + singleTokens)).map { _ in
            Int(random.next() % UInt64(model.vocabulary))
        }
        let all = (runs + 1) * tokens + singleTokens
        func run(_ tokens: ArraySlice<Int>, _ state: inout Model<Float>.State) throws(CheckpointError) {
            var last: Matrix<Float>?
            for part in tokens.count.parts(of: tokensPerChunk) {
                let start = tokens.startIndex
                let hidden = try model.hidden(
                    Array(tokens[start + part.lowerBound..<start + part.upperBound]), &state, kernels,
                    progress: progress)
                last = hidden.rows(hidden.rows - 1..<hidden.rows)
            }
            if let last { _ = try model.logits(last, kernels) }
        }
        let matrices = model.layers.flatMap(\.matrices) + [model.head]
        let (weights, bytes) = (matrices.map(\.bytes), matrices.byteCount)
        var (prefill, single, peaks) = (Timings(), Timings(), MachinePeaks())
        for round in 0...runs {
            var state = model.start(length: tokens)
            // The first round is not timed, because it loads the file into memory.
            if round == 0 {
                try run(prompt[0..<tokens], &state)
            } else {
                try prefill.time { () throws(CheckpointError) in try run(prompt[0..<tokens], &state) }
                peaks.lookAtArithmetic(kernels)
            }
            progress.advance(by: tokens, of: all)
        }
        var state = model.start(length: shortPrompt + singleTokens)
        try run(prompt[0..<shortPrompt], &state)
        for place in shortPrompt..<shortPrompt + singleTokens {
            try single.time { () throws(CheckpointError) in try run(prompt[place..<place + 1], &state) }
            progress.advance(by: 1, of: all)
            if place % 2 == 0 { peaks.lookAtMemory(weights, kernels) }
        }
        let dtype = model.checkpoint.dtypeTotals.first?.dtype.rawValue ?? ""
        let measurements = [
            SpeedMeasurement(
                subject: .prefill, dtype: dtype, tokens: tokens, timings: prefill,
                operations: model.operations(tokens: tokens, past: 0), bytes: bytes),
            SpeedMeasurement(
                subject: .token, dtype: dtype, tokens: 1, timings: single,
                operations: model.operations(tokens: 1, past: shortPrompt + singleTokens / 2), bytes: bytes),
        ]
        return withExtendedLifetime(model) {
            SpeedMeasurements(kernels, peaks, plainOperationsPerSecond: plainOperationsPerSecond(), measurements)
        }
    }

    /// Measures the operations per second of a plain loop over an F32 matrix and a vector that fit into the L2 cache.
    package static func plainOperationsPerSecond() -> Double {
        let size = 384
        let (weight, x) = ([Float](repeating: 0.5, count: size * size), [Float](repeating: 0.5, count: size))
        var y = x
        var timings = Timings()
        for _ in 0..<9 { timings.time { for _ in 0..<8 { rwkv_plain_product(weight, size, size, x, &y) } } }
        return Double(8 * 2 * size * size) / timings.median(threads: 1)
    }
}

extension Model {
    /// Returns the floating-point operations for `tokens` tokens that follow `past` others: matrix products, attention,
    /// recurrences and the last token's logits.
    fileprivate func operations(tokens: Int, past: Int) -> Double {
        let layers = Double(tokens) * (layers.flatMap(\.matrices).operations + mixingOperations(tokens, past: past))
        return layers + [head].operations
    }

    /// Returns the floating-point operations per token in attention and recurrences, excluding matrix products.
    ///
    /// - Parameters:
    ///   - tokens: the number of tokens.
    ///   - past: the number of preceding tokens.
    ///   - recurrence: the operations per number in a recurrence's state.
    /// - Returns: the mean over all tokens.
    package func mixingOperations(_ tokens: Int, past: Int = 0, recurrence: Double = 9) -> Double {
        let (heads, size) = (
            Double(description.dimensions[.heads] ?? 0), Double(description.dimensions[.headSize] ?? 0)
        )
        return description.layers.reduce(0.0) { sum, layer in
            let each =
                layer.kind.carriesState ? recurrence * size : 4 * tokensSeen(tokens, past, layer.attention?.window)
            return sum + heads * size * each
        }
    }

    /// Returns the mean number of tokens attended to by each of `tokens` tokens that follow `past` others.
    private func tokensSeen(_ tokens: Int, _ past: Int, _ window: Int?) -> Double {
        // The first tokens do not fill the window yet.
        let growing = min(max((window ?? .max) - past, 0), tokens)
        let seen = Double(growing) * (Double(past) + Double(growing + 1) / 2)
        return (seen + Double(tokens - growing) * Double(window ?? 0)) / Double(tokens)
    }
}

extension [StoredMatrix] {
    /// The floating-point operations in the matrix-vector products of one token.
    package var operations: Double { reduce(0) { $0 + 2 * Double($1.inputs * $1.outputs) } }
    /// The total size of all matrices in bytes.
    package var byteCount: Double { reduce(0) { $0 + Double($1.bytes.count) } }
}
