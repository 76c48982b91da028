public import RWKVNumerics

/// A measurement of the speed of one kind of work.
public struct SpeedMeasurement: Sendable {
    /// The kind of work that is measured.
    public enum Subject: String, Sendable {
        /// The RWKV-7 recurrence over a sequence, in one call.
        case wkv7
        /// The RWKV-7 recurrence over a sequence, with one call per token.
        case wkv7Tokens = "wkv7_tokens"
        /// The RWKV-7 recurrence over a sequence, and its gradients.
        case wkv7Gradients = "wkv7_gradients"
        /// The RWKV-6 recurrence over a sequence, in one call.
        case wkv6
        /// The RWKV-5 recurrence, whose decays are the same for all tokens, over a sequence, in one call.
        case wkv5
        /// A model's forward pass over a prompt, including the logits of the last token.
        case prefill
        /// A model's forward pass over a single token, including its logits.
        case token
        /// A training step of stage 1.
        case alignment
        /// A training step of stage 2.
        case divergence
    }

    /// The kind of work that is measured.
    public let subject: Subject
    /// The dtype of the data that is read, such as `F32`.
    public let dtype: String
    /// The number of tokens per run.
    public let tokens: Int
    /// The durations of the runs.
    public let timings: Timings
    /// The number of floating-point operations per run.
    public let operations: Double
    /// The number of bytes moved to and from memory per run.
    ///
    /// These are the inputs and outputs of the recurrence, or the weights of the model or models.
    public let bytes: Double

    /// The number of operations per token and per element of the state in the recurrence with gradients.
    ///
    /// The recurrence takes 9 operations, recomputing the states takes 7, and the gradients take 19.
    package static let recurrenceWithGradients = 35.0

    package init(
        subject: Subject, dtype: String, tokens: Int, timings: Timings, operations: Double, bytes: Double
    ) {
        (self.subject, self.dtype, self.tokens) = (subject, dtype, tokens)
        (self.timings, self.operations, self.bytes) = (timings, operations, bytes)
    }
}

/// The measurements of one benchmark, with the machine's peak speeds and the speed of a plain loop.
public struct SpeedMeasurements: Sendable {
    /// The kernels that were measured.
    public let table: KernelTable
    /// The instruction set for which the kernels are compiled.
    public let instructionSet: InstructionSet
    /// The implementation of matrix products with many rows.
    public let product: MatrixProduct
    /// The number of threads.
    public let threads: Int
    /// The peak number of fp32 operations per second.
    public let peakOperationsPerSecond: Double
    /// The peak memory bandwidth for reading, in bytes per second.
    public let peakBytesPerSecond: Double
    /// The number of operations per second of a plain loop that computes one fp32 number at a time on one thread.
    ///
    /// The loop computes the recurrence or a matrix-vector product.
    public let plainOperationsPerSecond: Double
    /// The measurements of the benchmark.
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

    /// Returns the median duration of a run in seconds, from which speeds are computed.
    public func seconds(_ measurement: SpeedMeasurement) -> Double { measurement.timings.median(threads: threads) }

    /// Returns the number of floating-point operations per second in a measurement.
    public func operationsPerSecond(_ measurement: SpeedMeasurement) -> Double {
        measurement.operations / seconds(measurement)
    }

    /// Returns the number of bytes moved per second in a measurement.
    public func bytesPerSecond(_ measurement: SpeedMeasurement) -> Double {
        measurement.bytes / seconds(measurement)
    }
}

/// The machine's peak speeds.
///
/// They are sampled between other measurements, because they change with the load of the machine.
package struct MachinePeaks {
    private(set) var multiplyingAdding = Timings()
    private(set) var reading = Timings()
    /// The number of operations in each sample.
    private(set) var operations = 0.0
    /// The number of bytes that each sample reads.
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
