public import Bytes
public import CheckpointFiles
import CheckpointJSON
public import ModelFamilies

/// The report of the command `inspect` on a checkpoint.
public struct InspectReport: Sendable {
    /// The order in which tensors are listed.
    public enum Order: String, Sendable, CaseIterable {
        /// By the position of the tensors' data in the files.
        case offset
        /// By name, where numbers within names are compared by value.
        case name
        /// By size, with the largest tensors first.
        case size
    }

    private let checkpoint: Checkpoint
    private let positions: [Int]?
    /// The scan of each listed tensor, in the order of the list; empty if no data was read.
    private let scans: [TensorScan]
    private let totals: [Checkpoint.DTypeTotal]

    private let recognition: ModelRecognition?
    private let adapter: Adapter?
    private let warnings: [CheckpointWarning]

    /// Creates a report on a checkpoint, and on the model and adapter that were recognised in it.
    ///
    /// The report lists the tensors at `positions`, or all tensors if `positions` is nil. `scans` has one element for
    /// each listed tensor, or is empty if no data was read.
    public init(
        _ checkpoint: Checkpoint, positions: [Int]?, scans: [TensorScan], recognition: ModelRecognition?,
        adapter: Adapter?, warnings: [CheckpointWarning]
    ) {
        self.checkpoint = checkpoint
        self.recognition = recognition
        self.adapter = adapter
        self.warnings = warnings
        self.positions = positions
        self.scans = scans
        self.totals = checkpoint.dtypeTotals
    }

    /// The listed tensors.
    ///
    /// The sequence is lazy, because an array of 100,000 tensors would take more memory than everything else.
    private var tensors: some Sequence<TensorInfo> {
        (0..<listedCount).lazy.map { checkpoint.tensors[positions?[$0] ?? $0] }
    }

    private var listedCount: Int { positions?.count ?? checkpoint.tensorCount }

    private var parameterCount: Int { totals.reduce(0) { $0.adding(clamped: $1.parameterCount) } }
    private var byteCount: Int { totals.reduce(0) { $0.adding(clamped: $1.byteCount) } }

    // MARK: JSON

    /// Writes the report as a JSON document that conforms to schemas/inspect.schema.json.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeJSON(to output: consuming ByteOutput) throws {
        try JSONWriter.document(to: output) { json in
            json.member("schema", "rwkv-ckpt/inspect/1")
            json.member("path", checkpoint.path)
            json.member("format", checkpoint.format.rawValue)
            json.array("files", of: checkpoint.files) { json, file in
                json.member("path", file.path)
                json.member("bytes", file.byteCount)
                json.member("tensor_count", file.tensorCount)
            }
            json.member("tensor_count", checkpoint.tensorCount)
            json.member("parameter_count", parameterCount)
            json.member("tensor_bytes", byteCount)
            json.object("dtypes") { json in
                for total in totals {
                    json.object(text: total.dtype.rawValue, onOneLine: true) { json in
                        json.member("tensor_count", total.tensorCount)
                        json.member("parameter_count", total.parameterCount)
                        json.member("bytes", total.byteCount)
                    }
                }
            }
            json.object("metadata") { $0.members(checkpoint.metadata) }
            json.member("architecture", recognition.map(ArchitectureReport.init))
            json.member("adapter", adapter.map(AdapterReport.init))
            json.member("warnings", of: warnings)
            json.array("globals", of: checkpoint.globals) { json, global in
                json.member("name", global.name)
                json.member("kind", global.kind.rawValue)
            }
            json.array("tied") { json in
                for names in checkpoint.tiedTensors { json.value(names) }
            }
            json.array("others", of: checkpoint.otherTensors) { json, other in
                json.member("name", other.name)
                json.member("kind", other.kind)
                json.member("listed", other.isListed)
            }
            json.array("tensors", of: tensors.enumerated()) { json, tensor in
                write(tensor.element, scans.isEmpty ? nil : scans[tensor.offset], to: &json)
            }
        }
    }

    private func write(_ tensor: TensorInfo, _ scan: TensorScan?, to json: inout JSONWriter) {
        json.members(of: tensor)
        json.member("bytes", tensor.byteCount)
        json.member("file", checkpoint.files[tensor.file].path)
        if let statistics = scan?.statistics {
            json.object("stats") { json in
                json.member("min", statistics.minimum)
                json.member("max", statistics.maximum)
                json.member("mean", statistics.mean)
                json.member("std", statistics.standardDeviation)
                json.member("zeros", statistics.zeros)
                json.member("nan", statistics.nans)
                json.member("inf", statistics.infinities)
            }
        }
        if let sha256 = scan?.sha256 { json.member("sha256", hexadecimal(sha256)) }
    }

    // MARK: Text

    /// Writes the report as text.
    ///
    /// The report consists of a summary, the tensors, and any unusual contents. The tensors are listed if
    /// `listsTensors` is true or if data was read; otherwise they are shown as a folded tree.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeText(to output: consuming ByteOutput, listsTensors: Bool) throws {
        writeSummary(to: &output)
        if listedCount < checkpoint.tensorCount {
            output.write("\n\(countText(listedCount)) of \(countText(checkpoint.tensorCount, "tensor")) match\n")
        }
        if listedCount > 0 {
            output.write("\n")
            if listsTensors || !scans.isEmpty {
                writeList(to: &output)
            } else {
                writeTree(to: &output)
            }
        }
        writeOddities(to: &output)
        try output.finish()
    }

    private func writeSummary(to output: inout ByteOutput) {
        let fileBytes = checkpoint.files.reduce(0) { $0.adding(clamped: $1.byteCount) }
        output.write(
            "\(checkpoint.path.printable()): \(checkpoint.format.rawValue), \(countText(checkpoint.files.count, "file")), \(byteText(fileBytes))\n"
        )
        output.write(
            "\(countText(checkpoint.tensorCount, "tensor")), \(countText(parameterCount, "parameter")), \(byteText(byteCount)) of data\n"
        )
        var table = TextTable([("", .left), ("", .right), ("", .right), ("", .right)])
        for total in totals {
            table.append(total.dtype.rawValue)
            table.append(countText(total.tensorCount, "tensor"))
            table.append(countText(total.parameterCount, "parameter"))
            table.append(byteText(total.byteCount))
        }
        table.write(to: &output, indent: 2)
        let metadata = checkpoint.metadata.sorted { $0.key < $1.key }
        for (key, value) in metadata.prefix(20) {
            output.write("metadata \(key.text.printable(limit: 80)): \(value.printable(limit: 160))\n")
        }
        if metadata.count > 20 {
            output.write("metadata: \(countText(metadata.count - 20)) more entries (--json has them)\n")
        }
        if let recognition { ArchitectureReport(recognition: recognition).writeText(to: &output) }
        if let adapter { AdapterReport(adapter: adapter).writeText(to: &output) }
    }

    /// Writes tied tensors, tensors that are not plain, and pickle globals.
    ///
    /// Long lists are truncated; the JSON report has all entries.
    private func writeOddities(to output: inout ByteOutput) {
        func write(_ title: String, _ lines: [String], limit: Int = 20) {
            guard !lines.isEmpty else { return }
            output.write("\n\(title)\n")
            for line in lines.prefix(limit) { output.write("  \(line)\n") }
            if lines.count > limit { output.write("  … \(countText(lines.count - limit)) more (--json has them)\n") }
        }
        func names(_ kind: PickleGlobal.Kind) -> [String] {
            checkpoint.globals.filter { $0.kind == kind }.map { $0.name.printable(limit: 200) }
        }
        let tied = checkpoint.tiedTensors.map { names in
            names.prefix(8).map { $0.printable(limit: 200) }.joined(separator: " = ")
                + (names.count > 8 ? " = … \(countText(names.count - 8)) more" : "")
        }
        write("tied", tied)
        write(
            "not plain tensors",
            checkpoint.otherTensors.map { "\($0.name.printable(limit: 200)): \($0.kind.printable())" })
        write("other globals that the pickle names, which are never run here", names(.unknown))
        write("DANGEROUS: the pickle names globals that run arbitrary code", names(.dangerous))
    }

    private func writeTree(to output: inout ByteOutput) {
        let tree = TensorTree(tensors)
        guard !tree.isTooLarge else {
            return output.write("there are too many different names for a tree; --tensors lists them\n")
        }
        tree.write(to: &output)
    }

    private func writeList(to output: inout ByteOutput) {
        let hasStatistics = scans.contains { $0.statistics != nil }
        let hasHashes = scans.contains { $0.sha256 != nil }
        var columns: [(String, TextTable.Alignment)] = [
            ("name", .left), ("dtype", .left), ("shape", .left), ("size", .right),
        ]
        if hasStatistics {
            columns += ["min", "max", "mean", "std", "zeros", "nan", "inf"].map { ($0, .right) }
        }
        if hasHashes { columns.append(("sha256", .left)) }
        var table = TextTable(columns, rowCount: listedCount)
        var shape = (value: [Int](), text: shapeText([]))
        var size = (value: 0, text: byteText(0))
        for (index, tensor) in tensors.enumerated() {
            table.append(tensor.name.printable(limit: 200))
            table.append(plain: tensor.dtype.rawValue)
            // Adjacent tensors often have the same shape and size, so the formatted text is reused.
            if tensor.shape != shape.value { shape = (tensor.shape, shapeText(tensor.shape)) }
            if tensor.byteCount != size.value { size = (tensor.byteCount, byteText(tensor.byteCount)) }
            table.append(plain: shape.text)
            table.append(plain: size.text)
            if hasStatistics {
                let found = scans[index].statistics
                for value in [found?.minimum, found?.maximum, found?.mean, found?.standardDeviation] {
                    table.append(valueText(value))
                }
                for count in [found?.zeros, found?.nans, found?.infinities] {
                    table.append(count.map { countText($0) } ?? "-")
                }
            }
            if hasHashes { table.append(scans[index].sha256.map(hexadecimal) ?? "-") }
        }
        table.write(to: &output)
    }
}

extension JSONWriter {
    /// Writes the members that describe a tensor in all JSON documents.
    mutating func members(of tensor: TensorInfo) {
        member("name", tensor.name)
        member("dtype", tensor.dtype.rawValue)
        member("shape", tensor.shape)
    }
}
