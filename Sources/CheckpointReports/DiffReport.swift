public import Bytes
public import CheckpointFiles
import CheckpointJSON

/// The report of the command `diff` on two checkpoints.
public struct DiffReport: Sendable {
    private let difference: CheckpointDifference
    /// The result of comparing values, or nil if no data was read.
    private let values: (comparedCount: Int, changed: [ValueDifference])?
    private var changed: [ValueDifference] { values?.changed ?? [] }

    /// Creates a report on the difference between two checkpoints, and on their values if they were compared.
    public init(_ difference: CheckpointDifference, values: (comparedCount: Int, changed: [ValueDifference])?) {
        self.difference = difference
        self.values = values
    }

    /// Whether no differences were found.
    public var isSame: Bool { difference.isEmpty && changed.isEmpty }

    /// Writes the report as a JSON document that conforms to schemas/diff.schema.json.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeJSON(to output: consuming ByteOutput) throws {
        try JSONWriter.document(to: output) { json in
            json.member("schema", "rwkv-ckpt/diff/1")
            json.member("a", difference.a.path)
            json.member("b", difference.b.path)
            json.member("same", isSame)
            json.member("common_count", difference.common.count)
            json.array("added", of: difference.added) { $0.members(of: $1) }
            json.array("removed", of: difference.removed) { $0.members(of: $1) }
            json.array("reshaped", of: difference.reshaped) { json, pair in
                json.member("name", pair.a.name)
                json.member("a", pair.a.shape)
                json.member("b", pair.b.shape)
            }
            json.array("recast", of: difference.recast) { json, pair in
                json.member("name", pair.a.name)
                json.member("a", pair.a.dtype.rawValue)
                json.member("b", pair.b.dtype.rawValue)
            }
            json.object("others") { json in
                json.member("differing", difference.differingOthers)
                json.member("not_compared", difference.uncomparedOthers)
            }
            guard let values else { return json.member("values", JSONValue.null) }
            json.object("values") { json in
                json.member("compared_count", values.comparedCount)
                json.array("changed", of: values.changed) { json, change in
                    json.member("name", change.name)
                    json.member("differing", change.differing)
                    json.member("incomparable", change.incomparable)
                    json.member("max_abs", change.maximum)
                    json.member("relative_l2", change.relativeL2)
                    json.member("cosine", change.cosine)
                }
            }
        }
    }

    /// Writes the report as text.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeText(to output: consuming ByteOutput) throws {
        output.write("a: \(difference.a.path.printable()): \(countText(difference.a.tensorCount, "tensor"))\n")
        output.write("b: \(difference.b.path.printable()): \(countText(difference.b.tensorCount, "tensor"))\n")
        let (reshaped, recast) = (difference.reshaped, difference.recast)
        output.write(
            "\(countText(difference.added.count)) added, \(countText(difference.removed.count)) removed, \(countText(reshaped.count)) reshaped, \(countText(recast.count)) recast, \(countText(difference.common.count)) in both\n"
        )
        var table = TextTable([("", .left), ("", .left), ("", .left)])
        func line(_ sign: String, _ tensor: TensorInfo, _ what: String) {
            table.append(sign)
            table.append(tensor.name.printable(limit: 200))
            table.append(what)
        }
        for tensor in difference.removed {
            line("removed", tensor, tensor.dtype.rawValue + " " + shapeText(tensor.shape))
        }
        for tensor in difference.added { line("added", tensor, tensor.dtype.rawValue + " " + shapeText(tensor.shape)) }
        for pair in reshaped { line("reshaped", pair.a, shapeText(pair.a.shape) + " to " + shapeText(pair.b.shape)) }
        for pair in recast { line("recast", pair.a, pair.a.dtype.rawValue + " to " + pair.b.dtype.rawValue) }
        table.write(to: &output)
        for name in difference.differingOthers.prefix(20) {
            output.write("not a plain tensor, and different: \(name.printable(limit: 200))\n")
        }
        let uncompared = difference.uncomparedOthers
        if let first = uncompared.first {
            output.write(
                "not plain, so not compared: \(countText(uncompared.count, "tensor")), such as \(first.printable(limit: 200))\n"
            )
        }
        if let values {
            output.write(
                "values of \(countText(values.comparedCount, "tensor")) compared, \(countText(changed.count)) differ\n")
            if !changed.isEmpty {
                let hasIncomparable = changed.contains { $0.incomparable > 0 }
                var table = TextTable(
                    [("name", .left), ("differing", .right)] + (hasIncomparable ? [("not finite", .right)] : [])
                        + [("max abs", .right), ("relative L2", .right), ("cosine", .right)])
                for change in changed {
                    table.append(change.name.printable(limit: 200))
                    table.append(countText(change.differing))
                    if hasIncomparable { table.append(countText(change.incomparable)) }
                    table.append(valueText(change.maximum))
                    table.append(valueText(change.relativeL2))
                    table.append(change.cosine.map { preciseText($0) } ?? "-")
                }
                table.write(to: &output)
            }
        }
        try output.finish()
    }
}
