public import Bytes
import CheckpointFiles
import CheckpointJSON
import CheckpointReports
public import ModelFamilies
public import RWKVBenchmarks
import RWKVNumerics

/// The report of the command `bench`.
public struct SpeedReport: Sendable {
    /// The subject of the measurements.
    public enum Subject: Sendable {
        /// The recurrences of RWKV-7, RWKV-6 and RWKV-5.
        case wkv(heads: Int, headSize: Int)
        /// The forward pass of the model at `path`, or of a model with random weights if `path` is nil.
        ///
        /// `loadSeconds` is the number of seconds that it took to open the model.
        case forward(ModelDescription, path: String?, loadSeconds: Double)
        /// The training of a student of the teacher at `path`, or of a teacher with random weights if `path` is nil.
        case train(ModelDescription, path: String?)
    }

    private let speed: SpeedMeasurements
    private let subject: Subject
    private let processor: String
    private let load: Double
    private let peakMemory: Int
    private let warnings: [CheckpointWarning]

    /// Creates a report on measurements.
    ///
    /// - Parameters:
    ///   - speed: the measurements.
    ///   - subject: the subject of the measurements.
    ///   - processor: the name of the processor.
    ///   - load: the load average of the machine before the measurements.
    ///   - peakMemory: the peak memory use of the process in bytes.
    ///   - warnings: warnings about the model.
    public init(
        _ speed: SpeedMeasurements, _ subject: Subject, processor: String, load: Double, peakMemory: Int,
        warnings: [CheckpointWarning]
    ) {
        self.speed = speed
        self.subject = subject
        self.processor = processor
        self.load = load
        self.peakMemory = peakMemory
        self.warnings = warnings
    }

    // MARK: JSON

    /// Writes the report as a JSON document that conforms to schemas/bench.schema.json.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeJSON(to output: consuming ByteOutput) throws {
        try JSONWriter.document(to: output) { json in
            json.member("schema", "rwkv-ckpt/bench/1")
            json.member("processor", processor)
            json.member("instruction_set", speed.instructionSet.rawValue)
            json.member("kernels", speed.table.rawValue)
            json.object("product", onOneLine: true) { json in
                json.member("library", speed.product.library)
                json.member("version", speed.product.version)
                json.member("core", speed.product.core)
            }
            json.member("threads", speed.threads)
            json.member("load", load)
            json.object("peak", onOneLine: true) { json in
                json.member("operations_per_second", speed.peakOperationsPerSecond)
                json.member("bytes_read_per_second", speed.peakBytesPerSecond)
            }
            json.object("plain_loop", onOneLine: true) {
                $0.member("operations_per_second", speed.plainOperationsPerSecond)
            }
            json.object("wkv", of: subject.heads) { json, heads in
                json.member("heads", heads.count)
                json.member("head_size", heads.size)
            }
            json.object("model", of: subject.model) { json, subject in
                json.member("name", subject.model.name)
                json.member("parameters", subject.model.parameterCount)
                json.member("path", subject.path)
            }
            json.member("load_seconds", subject.loadSeconds)
            json.array("measurements") { json in
                for measurement in speed.measurements { write(measurement, to: &json) }
            }
            json.member("peak_memory_bytes", peakMemory)
            json.member("warnings", of: warnings)
        }
    }

    private func write(_ measurement: SpeedMeasurement, to json: inout JSONWriter) {
        let (operations, bytes) = (speed.operationsPerSecond(measurement), speed.bytesPerSecond(measurement))
        json.object { json in
            json.member("name", measurement.subject.rawValue)
            json.member("dtype", measurement.dtype)
            json.member("tokens", measurement.tokens)
            json.member("cpu_seconds", measurement.timings.processor)
            json.member("wall_seconds", measurement.timings.clock)
            json.member("tokens_per_second", Double(measurement.tokens) / speed.seconds(measurement))
            json.member("operations_per_second", operations)
            json.member("bytes_per_second", bytes)
            json.member("share_of_peak_operations", operations / speed.peakOperationsPerSecond)
            json.member("share_of_peak_bytes", bytes / speed.peakBytesPerSecond)
            json.member("times_plain_loop", operations / speed.plainOperationsPerSecond)
        }
    }

    // MARK: Text

    /// Writes the report as text.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeText(to output: consuming ByteOutput) throws {
        switch subject {
        case .wkv(let heads, let headSize):
            output.write("RWKV-7, \(countText(heads, "head")) of \(headSize)")
        case .forward(let model, let path, let seconds):
            output.write("\(title(of: model, path: path)), opened in \(timeText(seconds))")
        case .train(let model, let path):
            output.write("a student of \(title(of: model, path: path))")
        }
        output.write(
            """

            \(processor.printable()), \(speed.instructionSet.rawValue), \(speed.table.rawValue) kernels, \(countText(speed.threads, "thread")), load \(formatted(load, "%.2f"))
            matrix products: \(speed.product.description.printable())
            machine peak \(rateText(speed.peakOperationsPerSecond, "GFLOP/s")) and \(rateText(speed.peakBytesPerSecond, "GB/s")) from memory; plain loop \(rateText(speed.plainOperationsPerSecond, "GFLOP/s"))


            """)
        var table = TextTable([
            ("", .left), ("", .left), ("tokens", .right), ("time", .right), ("tokens/s", .right), ("GFLOP/s", .right),
            ("GB/s", .right), ("share of the peak", .left), ("plain loop", .right),
        ])
        for measurement in speed.measurements {
            let (operations, bytes) = (speed.operationsPerSecond(measurement), speed.bytesPerSecond(measurement))
            // The limiting resource is the one whose peak the measurement comes closest to.
            let (share, limit) =
                [
                    (operations / speed.peakOperationsPerSecond, "arithmetic"),
                    (bytes / speed.peakBytesPerSecond, "memory"),
                ].max { $0.0 < $1.0 } ?? (0, "")
            let filled = Int((min(max(share, 0), 1) * 20).rounded())
            let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 20 - filled)
            table.append(title(of: measurement.subject))
            table.append(measurement.dtype)
            table.append(countText(measurement.tokens))
            table.append(timeText(speed.seconds(measurement)))
            table.append(countText(Int(Double(measurement.tokens) / speed.seconds(measurement))))
            table.append(rateText(operations))
            table.append(rateText(bytes))
            table.append("\(bar) \(Int((100 * share).rounded()))% of \(limit)")
            table.append("× \(formatted(operations / speed.plainOperationsPerSecond, "%.1f"))")
        }
        table.write(to: &output)
        if subject.model != nil { output.write("\npeak memory \(byteText(peakMemory))\n") }
        try output.finish()
    }

    private func title(of model: ModelDescription, path: String?) -> String {
        let parameters = model.parameterCount.map { ", \(countText($0)) parameters" } ?? ""
        return "\((path ?? "random weights").printable()): \(model.name)\(parameters)"
    }

    private func title(of subject: SpeedMeasurement.Subject) -> String {
        switch subject {
        case .wkv7: "sequence"
        case .wkv6: "RWKV-6"
        case .wkv5: "RWKV-5"
        case .wkv7Tokens: "token by token"
        case .wkv7Gradients: "with gradients"
        case .prefill: "prompt"
        case .token: "single token"
        case .alignment: "stage 1 step"
        case .divergence: "stage 2 step"
        }
    }

    private func rateText(_ rate: Double, _ unit: String = "") -> String {
        formatted(rate / 1e9, rate < 1e10 ? "%.2f" : "%.1f") + (unit.isEmpty ? "" : " " + unit)
    }

    private func timeText(_ seconds: Double) -> String {
        seconds < 1e-3
            ? formatted(seconds * 1e6, "%.0f us")
            : seconds < 1 ? formatted(seconds * 1e3, "%.2f ms") : formatted(seconds, "%.2f s")
    }
}

extension SpeedReport.Subject {
    /// The model or teacher and its path, or nil if the recurrence was measured.
    ///
    /// The path is nil if the weights are random.
    fileprivate var model: (model: ModelDescription, path: String?)? {
        switch self {
        case .wkv: nil
        case .forward(let model, let path, _), .train(let model, let path): (model, path)
        }
    }

    /// The heads of the recurrence; nil for a model.
    fileprivate var heads: (count: Int, size: Int)? {
        if case .wkv(let heads, let headSize) = self { (heads, headSize) } else { nil }
    }

    /// The seconds that opening the model took; nil if that is not measured.
    fileprivate var loadSeconds: Double? {
        if case .forward(_, _, let seconds) = self { seconds } else { nil }
    }
}
