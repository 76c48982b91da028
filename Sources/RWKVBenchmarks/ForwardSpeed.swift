public import Bytes
import CRWKVKernels
import CheckpointFiles
import ModelFamilies
public import RWKVInference
import RWKVLayers
public import RWKVNumerics

extension SpeedMeasurements {
    /// Measures a model's forward pass over a prompt, and over single tokens that follow a short prompt.
    ///
    /// The forward pass over the prompt computes the logits of the last token only.
    ///
    /// Peak memory bandwidth is measured by reading the weights that the forward pass reads.
    ///
    /// - Parameters:
    ///   - model: the model to run.
    ///   - tokens: the length of the prompt in tokens.
    ///   - runs: the number of timed runs over the prompt. The number of timed single tokens is ten times as high.
    ///   - kernels: the kernels to measure.
    ///   - progress: an object that receives the number of processed tokens and can cancel the work.
    /// - Returns: the measurements.
    /// - Throws: `CheckpointError` of category `cancelled`, or any error from running the model.
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
            // The first round is not timed, because it also loads the file into memory.
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

    /// Measures a plain loop that multiplies an fp32 matrix by a vector, in operations per second.
    ///
    /// The matrix fits into the L2 cache.
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
    /// Returns the number of floating-point operations for `tokens` tokens that follow `past` other tokens.
    ///
    /// It includes matrix products, attention, recurrences and the logits of the last token.
    fileprivate func operations(tokens: Int, past: Int) -> Double {
        let layers = Double(tokens) * (layers.flatMap(\.matrices).operations + mixingOperations(tokens, past: past))
        return layers + [head].operations
    }

    /// Returns the number of floating-point operations per token in attention and recurrences.
    ///
    /// It excludes matrix products with weights.
    ///
    /// - Parameters:
    ///   - tokens: the number of tokens.
    ///   - past: the number of tokens that precede them.
    ///   - recurrence: the number of operations per element of a recurrence's state; nil for those of a forward pass.
    /// - Returns: the mean number of operations over all tokens.
    package func mixingOperations(_ tokens: Int, past: Int = 0, recurrence: Double? = nil) -> Double {
        let (heads, size) = (
            Double(description.dimensions[.heads] ?? 0), Double(description.dimensions[.headSize] ?? 0)
        )
        return description.layers.reduce(0.0) { sum, layer in
            let each =
                layer.kind.carriesState
                ? (recurrence ?? layer.kind.recurrenceOperations) * size
                : 4 * tokensSeen(tokens, past, layer.attention?.window)
            return sum + heads * size * each
        }
    }

    /// Returns the mean number of tokens that a token attends to, for `tokens` tokens that follow `past` other tokens.
    private func tokensSeen(_ tokens: Int, _ past: Int, _ window: Int?) -> Double {
        // The first tokens do not fill the window yet.
        let growing = min(max((window ?? .max) - past, 0), tokens)
        let seen = Double(growing) * (Double(past) + Double(growing + 1) / 2)
        return (seen + Double(tokens - growing) * Double(window ?? 0)) / Double(tokens)
    }
}

extension [StoredMatrix] {
    /// The number of floating-point operations in the matrix-vector products for one token.
    package var operations: Double { reduce(0) { $0 + 2 * Double($1.inputs * $1.outputs) } }
    /// The total size of all matrices in bytes.
    package var byteCount: Double { reduce(0) { $0 + Double($1.bytes.count) } }
}
