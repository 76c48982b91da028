public import RWKVNumerics

/// The speed of one kind of work.
public struct SpeedMeasurement: Sendable {
    /// The kind of work.
    public enum Subject: String, Sendable {
        /// The RWKV-7 recurrence over a sequence.
        case wkv7
        /// The same, with a call for each token.
        case wkv7Tokens = "wkv7_tokens"
        /// The RWKV-7 recurrence over a sequence, with its gradients.
        case wkv7Gradients = "wkv7_gradients"
        /// A model's forward pass over a prompt, with the last token's logits.
        case prefill
        /// A model's forward pass over a single token, with its logits.
        case token
        /// A training step of stage 1.
        case alignment
        /// A training step of stage 2.
        case divergence
    }

    /// The kind of work.
    public let subject: Subject
    /// The dtype of the numbers read, as in `F32`.
    public let dtype: String
    /// Tokens per run.
    public let tokens: Int
    /// How long the runs took.
    public let timings: Timings
    /// Floating-point operations per run.
    public let operations: Double
    /// Bytes moved from and to memory per run: the inputs and outputs of the recurrence, or the weights of a model.
    public let bytes: Double

    /// Operations of the recurrence and its gradients, per token and number of the state: 9 for the recurrence, 7 for recomputing
    /// states, and 19 for gradients.
    package static let recurrenceWithGradients = 35.0

    package init(
        subject: Subject, dtype: String, tokens: Int, timings: Timings, operations: Double, bytes: Double
    ) {
        (self.subject, self.dtype, self.tokens) = (subject, dtype, tokens)
        (self.timings, self.operations, self.bytes) = (timings, operations, bytes)
    }
}

/// The measurements of one run, with the machine's peak speeds and that of a plain loop.
public struct SpeedMeasurements: Sendable {
    /// The kernel table that was measured.
    public let table: KernelTable
    /// The instruction set that the kernels are compiled for.
    public let instructionSet: InstructionSet
    /// The implementation of products of matrices with many rows.
    public let product: MatrixProduct
    /// The number of threads.
    public let threads: Int
    /// The peak fp32 operations per second.
    public let peakOperationsPerSecond: Double
    /// The peak bytes per second read from memory.
    public let peakBytesPerSecond: Double
    /// Operations per second of a plain loop, one fp32 number at a time on one thread: the recurrence, or a matrix-vector
    /// product.
    public let plainOperationsPerSecond: Double
    /// The measurements, in order.
    public let measurements: [SpeedMeasurement]

    package init(
        _ kernels: Kernels<Float>, _ peaks: MachinePeaks, plainOperationsPerSecond: Double,
        _ measurements: [SpeedMeasurement]
    ) {
        table = kernels.table
        instructionSet = kernels.instructionSet
        product = kernels.product
        threads = kernels.threads
        peakOperationsPerSecond = peaks.operations / peaks.multiplyingAdding.median(threads: threads)
        peakBytesPerSecond = peaks.bytes / peaks.reading.median(threads: threads)
        self.plainOperationsPerSecond = plainOperationsPerSecond
        self.measurements = measurements
    }

    /// The median seconds of a run, from which speeds are computed.
    public func seconds(_ measurement: SpeedMeasurement) -> Double { measurement.timings.median(threads: threads) }

    /// Floating-point operations per second.
    public func operationsPerSecond(_ measurement: SpeedMeasurement) -> Double {
        measurement.operations / seconds(measurement)
    }

    /// Bytes moved per second.
    public func bytesPerSecond(_ measurement: SpeedMeasurement) -> Double {
        measurement.bytes / seconds(measurement)
    }
}

/// The machine's peak speeds, sampled between other measurements because they change with its load.
package struct MachinePeaks {
    private(set) var multiplyingAdding = Timings()
    private(set) var reading = Timings()
    /// Operations per sample.
    private(set) var operations = 0.0
    /// Bytes per sample.
    private(set) var bytes = 0.0

    package init() {}

    package mutating func lookAtArithmetic(_ kernels: Kernels<Float>) {
        operations = kernels.multiplyAdd(&multiplyingAdding)
    }

    package mutating func lookAtMemory(_ parts: [UnsafeRawBufferPointer], _ kernels: Kernels<Float>) {
        bytes = Double(parts.reduce(0) { $0 + $1.count })
        kernels.read(parts, &reading)
    }
}
