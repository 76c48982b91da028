public import Bytes
import CRWKVKernels
import CheckpointFiles
public import RWKVNumerics

extension SpeedMeasurements {
    /// Measures the RWKV-7 recurrence over a sequence, over single tokens, and with gradients, and the recurrences of
    /// RWKV-6 and RWKV-5 over a sequence.
    ///
    /// The RWKV-7 recurrence over a sequence is measured in F32, BF16 and F16, the others only in F32.
    ///
    /// - Parameters:
    ///   - heads: the number of heads.
    ///   - size: the number of channels per head.
    ///   - tokens: the length of the sequence in tokens.
    ///   - runs: the number of timed runs for each kind of measurement.
    ///   - kernels: the kernels to measure.
    ///   - progress: an object that receives the number of completed runs and can cancel the work.
    /// - Returns: the measurements.
    /// - Throws: `CheckpointError` of category `cancelled`.
    public static func ofRecurrences(
        heads: Int, size: Int, tokens: Int, runs: Int, _ kernels: Kernels<Float>, progress: WorkProgress
    ) throws(CheckpointError) -> SpeedMeasurements {
        let types = [("F32", RWKV_ELEMENT_F32), ("BF16", RWKV_ELEMENT_BF16), ("F16", RWKV_ELEMENT_F16)]
        let numbers = WKV7Numbers(channels: heads * size, size: size, tokens: tokens)
        let memory = [UInt8](repeating: 1, count: 1 << 28)
        var peaks = MachinePeaks()
        var measurements: [SpeedMeasurement] = []
        func measure(
            _ subject: SpeedMeasurement.Subject, _ dtype: (name: String, element: rwkv_element),
            operations: Double = 9, inputs: Int = 6, matrices: Int = 7, _ run: (inout [Float]) -> Void
        ) throws(CheckpointError) {
            var timings = Timings()
            var state = [Float](repeating: 0, count: heads * size * size)
            run(&state)
            for _ in 0..<runs {
                try progress.check("bench")
                for place in state.indices { state[place] = 0 }
                timings.time { run(&state) }
                peaks.lookAtArithmetic(kernels)
                progress.advance(by: 1, of: (types.count + 4) * runs)
            }
            // The inputs are in `dtype`; the computed matrices are in F32.
            let bytes = heads * size * tokens * (inputs * dtype.element.size + 4 * (matrices - inputs))
            measurements.append(
                SpeedMeasurement(
                    subject: subject, dtype: dtype.name, tokens: tokens, timings: timings,
                    operations: operations * Double(heads * size * size * tokens), bytes: Double(bytes)))
        }
        for type in types {
            let stored = numbers.stored(type.1)
            try measure(.wkv7, type) { _ = kernels.wkv7(stored, size: size, state: &$0) }
        }
        let single = (0..<tokens).map { numbers.token($0) }
        try measure(.wkv7Tokens, types[0]) { for token in single { _ = kernels.wkv7(token, size: size, state: &$0) } }
        let inputs = numbers.inputs.map { Matrix($0, columns: heads * size) }
        let dy = Matrix(numbers.inputs.v, columns: heads * size)
        try measure(.wkv7Gradients, types[0], operations: SpeedMeasurement.recurrenceWithGradients, matrices: 14) { _ in
            let (_, checkpoints) = kernels.wkv7(inputs, size: size, sequences: 1)
            func zeros() -> Matrix<Float> { Matrix(zeros: tokens, columns: heads * size) }
            _ = kernels.wkv7Backward(dy, inputs, checkpoints, added: (zeros(), zeros(), zeros()))
        }
        let firstRow = Matrix(inputs.w.row(0), columns: heads * size)
        for (subject, w) in [(SpeedMeasurement.Subject.wkv6, inputs.w), (.wkv5, firstRow)] {
            let own = WKV6Inputs(r: inputs.r, w: w, k: inputs.k, v: inputs.v, bonus: inputs.iclr.row(0))
            let count = 3 + w.rows / tokens
            try measure(subject, types[0], operations: 5, inputs: count, matrices: count + 1) {
                _ = kernels.wkv6(own, size: size, state: &$0)
            }
        }
        for _ in 0..<runs {
            try progress.check("bench")
            memory.withUnsafeBytes { peaks.lookAtMemory([$0], kernels) }
        }
        return SpeedMeasurements(
            kernels, peaks, plainOperationsPerSecond: numbers.plainOperationsPerSecond(), measurements)
    }
}

/// Random inputs for the recurrence, in the ranges that occur in real models.
private struct WKV7Numbers {
    private let channels: Int
    private let size: Int
    private let tokens: Int
    let inputs: WKV7Inputs<[Float]>

    init(channels: Int, size: Int, tokens: Int) {
        var random = SplitMix64(seed: 0)
        func numbers(_ range: ClosedRange<Float>) -> [Float] {
            (0..<tokens * channels).map { _ in
                range.lowerBound + (range.upperBound - range.lowerBound) * Float(random.next() >> 40) * 0x1p-24
            }
        }
        // With this range, the norm of the removal key is about 1 in each head.
        let removal = (3 / Float(size)).squareRoot()
        inputs = .init(
            r: numbers(-1...1), w: numbers(0.545...1), k: numbers(-1...1), v: numbers(-1...1),
            removal: numbers(-removal...removal), iclr: numbers(0...1))
        (self.channels, self.size, self.tokens) = (channels, size, tokens)
    }

    func stored(_ element: rwkv_element) -> WKV7Inputs<StoredMatrix> {
        inputs.map { numbers in
            let owner = Bytes(count: numbers.count * element.size)
            _ = rwkv_kernels_for(RWKV_INSTRUCTION_SET_BASELINE).pointee.cast(
                RWKV_ELEMENT_F32, numbers, element, owner.start, numbers.count, 0)
            return StoredMatrix(owner.start, element, shape: (tokens, channels), isInputMajor: false, owner: owner)
        }
    }

    func token(_ token: Int) -> WKV7Inputs<Matrix<Float>> {
        inputs.map { Matrix($0[token * channels..<(token + 1) * channels], columns: channels) }
    }

    /// Measures a plain loop over the first tokens of the first head, in operations per second.
    func plainOperationsPerSecond() -> Double {
        let tokens = min(tokens, 256)
        var state = [Float](repeating: 0, count: size * size)
        var y = [Float](repeating: 0, count: tokens * channels)
        var timings = Timings()
        for _ in 0..<3 {
            timings.time {
                rwkv_plain_wkv7(
                    inputs.r, inputs.w, inputs.k, inputs.v, inputs.removal, inputs.iclr, tokens, channels, size,
                    &state, &y)
            }
        }
        return 9 * Double(size * size * tokens) / timings.median(threads: 1)
    }
}

private final class Bytes: @unchecked Sendable {
    let start: UnsafeMutableRawPointer
    init(count: Int) { start = .allocate(byteCount: count, alignment: 64) }
    deinit { start.deallocate() }
}
