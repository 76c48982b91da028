public import CheckpointFiles
public import CheckpointJSON
import CheckpointReports
public import ModelFamilies
public import RWKVBenchmarks
import RWKVNumerics

/// The report of `bench`.
public struct SpeedReport: Sendable {
    /// What was measured.
    public enum Subject: Sendable {
        /// The recurrence of RWKV-7.
        case wkv(heads: Int, headSize: Int)
        /// The forward pass of the model at `path` (nil for random weights), and the seconds it took to open the model.
        case forward(ModelDescription, path: String?, loadSeconds: Double)
        /// Training a student of the teacher at `path` (nil for random weights).
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
    ///   - subject: what was measured.
    ///   - processor: the name of the processor.
    ///   - load: the load average before the measurements.
    ///   - peakMemory: the peak memory of the process in bytes.
    ///   - warnings: the warnings about the model.
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

    /// Writes the report as one document, described by schemas/bench.schema.json.
    ///
    /// - Throws: any error that the output throws.
    public func writeJSON(to output: consuming ByteOutput) throws {
        var json = JSONWriter(output)
        json.beginObject()
        json.key("schema")
        json.value("rwkv-ckpt/bench/1")
        json.key("processor")
        json.value(processor)
        json.key("instruction_set")
        json.value(speed.instructionSet.rawValue)
        json.key("kernels")
        json.value(speed.table.rawValue)
        json.key("product")
        json.beginObject(onOneLine: true)
        json.key("library")
        json.value(speed.product.library)
        json.key("version")
        if let version = speed.product.version { json.value(version) } else { json.null() }
        json.key("core")
        json.value(speed.product.core)
        json.end()
        json.key("threads")
        json.value(speed.threads)
        json.key("load")
        json.value(load)
        json.key("peak")
        json.beginObject(onOneLine: true)
        json.key("operations_per_second")
        json.value(speed.peakOperationsPerSecond)
        json.key("bytes_read_per_second")
        json.value(speed.peakBytesPerSecond)
        json.end()
        json.key("plain_loop")
        json.beginObject(onOneLine: true)
        json.key("operations_per_second")
        json.value(speed.plainOperationsPerSecond)
        json.end()
        json.key("wkv")
        if case .wkv(let heads, let headSize) = subject {
            json.beginObject(onOneLine: true)
            json.key("heads")
            json.value(heads)
            json.key("head_size")
            json.value(headSize)
            json.end()
        } else {
            json.null()
        }
        json.key("model")
        if let (model, path) = subject.model {
            json.beginObject(onOneLine: true)
            json.key("name")
            json.value(model.name)
            json.key("parameters")
            if let count = model.parameterCount { json.value(count) } else { json.null() }
            json.key("path")
            if let path { json.value(path) } else { json.null() }
            json.end()
        } else {
            json.null()
        }
        json.key("load_seconds")
        if case .forward(_, _, let seconds) = subject { json.value(seconds) } else { json.null() }
        json.key("measurements")
        json.beginArray()
        for measurement in speed.measurements { write(measurement, to: &json) }
        json.end()
        json.key("peak_memory_bytes")
        json.value(peakMemory)
        json.write(warnings)
        json.end()
        try json.finish()
    }

    private func write(_ measurement: SpeedMeasurement, to json: inout JSONWriter) {
        let (operations, bytes) = (speed.operationsPerSecond(measurement), speed.bytesPerSecond(measurement))
        json.beginObject()
        json.key("name")
        json.value(measurement.subject.rawValue)
        json.key("dtype")
        json.value(measurement.dtype)
        json.key("tokens")
        json.value(measurement.tokens)
        json.key("cpu_seconds")
        write(measurement.timings.processor, to: &json)
        json.key("wall_seconds")
        write(measurement.timings.clock, to: &json)
        json.key("tokens_per_second")
        json.value(Double(measurement.tokens) / speed.seconds(measurement))
        json.key("operations_per_second")
        json.value(operations)
        json.key("bytes_per_second")
        json.value(bytes)
        json.key("share_of_peak_operations")
        json.value(operations / speed.peakOperationsPerSecond)
        json.key("share_of_peak_bytes")
        json.value(bytes / speed.peakBytesPerSecond)
        json.key("times_plain_loop")
        json.value(operations / speed.plainOperationsPerSecond)
        json.end()
    }

    private func write(_ seconds: [Double], to json: inout JSONWriter) {
        json.beginArray(onOneLine: true)
        for value in seconds { json.value(value) }
        json.end()
    }

    // MARK: Text

    /// Writes the report as text.
    ///
    /// - Throws: any error that the output throws.
    public func writeText(to output: consuming ByteOutput) throws {
        switch subject {
        case .wkv(let heads, let headSize):
            output.write("WKV-7, \(countText(heads, "head")) of \(headSize)")
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
            // The limit is the peak that the measurement comes closest to.
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
    /// The model or the teacher, and its path (nil for random weights); nil for the recurrence.
    fileprivate var model: (ModelDescription, path: String?)? {
        switch self {
        case .wkv: nil
        case .forward(let model, let path, _), .train(let model, let path): (model, path)
        }
    }
}
