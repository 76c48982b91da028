public import RWKVNumerics

/// How fast something is.
public struct SpeedMeasurement: Sendable {
    /// What was measured.
    public enum Subject: String, Sendable {
        /// The recurrence of RWKV-7 over a sequence.
        case wkv7
        /// The same, a call for each token.
        case wkv7Tokens = "wkv7_tokens"
        /// The recurrence of RWKV-7 over a sequence, and its gradients.
        case wkv7Gradients = "wkv7_gradients"
        /// A model over a prompt, with the last token's logits.
        case prefill
        /// A model over single tokens, with their logits.
        case token
        /// A step of training a student, layer by layer.
        case alignment
        /// A step of training a student by its logits.
        case divergence
    }

    /// What was measured.
    public let subject: Subject
    /// The type of what it reads: `F32`.
    public let dtype: String
    /// How many tokens were computed each time.
    public let tokens: Int
    /// How long that took.
    public let timings: Timings
    /// Floating-point operations, each time.
    public let operations: Double
    /// Bytes that go from and to memory, each time: inputs and outputs of the recurrence, weights of a model.
    public let bytes: Double

    /// Operations of the recurrence and its gradients, for each number of a state and token: 9 of itself, 7 of states that are computed
    /// anew, and 19 of gradients.
    package static let recurrenceWithGradients = 35.0

    package init(
        subject: Subject, dtype: String, tokens: Int, timings: Timings, operations: Double, bytes: Double
    ) {
        (self.subject, self.dtype, self.tokens) = (subject, dtype, tokens)
        (self.timings, self.operations, self.bytes) = (timings, operations, bytes)
    }
}

/// What was measured in one run, beside what the machine can do and what a plain loop does.
public struct SpeedMeasurements: Sendable {
    /// Which kernels ran.
    public let table: KernelTable
    /// What they were compiled for.
    public let instructionSet: InstructionSet
    /// What multiplied matrices of many rows.
    public let product: MatrixProduct
    /// How many threads ran them.
    public let threads: Int
    /// The most fp32 operations a second.
    public let peakOperationsPerSecond: Double
    /// The most bytes a second that are read from memory.
    public let peakBytesPerSecond: Double
    /// Operations a second of a plain loop, one fp32 number at a time on one thread: the recurrence, or a matrix and a vector.
    public let plainOperationsPerSecond: Double
    /// One behind the other.
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

    /// Seconds each time, by which speeds are computed.
    public func seconds(_ measurement: SpeedMeasurement) -> Double { measurement.timings.median(threads: threads) }

    /// Operations a second.
    public func operationsPerSecond(_ measurement: SpeedMeasurement) -> Double {
        measurement.operations / seconds(measurement)
    }

    /// Bytes a second.
    public func bytesPerSecond(_ measurement: SpeedMeasurement) -> Double {
        measurement.bytes / seconds(measurement)
    }
}

/// What the machine can do at the most, looked at between other measurements: it changes with what else happens there.
package struct MachinePeaks {
    private(set) var multiplyingAdding = Timings()
    private(set) var reading = Timings()
    /// Operations each time.
    private(set) var operations = 0.0
    /// Bytes each time.
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
