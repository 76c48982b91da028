public import CheckpointFiles
public import CheckpointJSON

/// The report of `diff` on two checkpoints.
public struct DiffReport: Sendable {
    private let difference: CheckpointDifference
    /// The result of comparing values; nil if no data was read.
    private let values: (comparedCount: Int, changed: [ValueDifference])?
    private var changed: [ValueDifference] { values?.changed ?? [] }

    /// Creates a report on `difference`, and on the values if they were compared.
    public init(_ difference: CheckpointDifference, values: (comparedCount: Int, changed: [ValueDifference])?) {
        self.difference = difference
        self.values = values
    }

    /// Whether everything that was compared is the same.
    public var isSame: Bool { difference.isEmpty && changed.isEmpty }

    /// Writes the report as one document, described by schemas/diff.schema.json.
    ///
    /// - Throws: any error that the output throws.
    public func writeJSON(to output: consuming ByteOutput) throws {
        var json = JSONWriter(output)
        json.beginObject()
        json.key("schema")
        json.value("rwkv-ckpt/diff/1")
        json.key("a")
        json.value(difference.a.path)
        json.key("b")
        json.value(difference.b.path)
        json.key("same")
        json.value(isSame)
        json.key("common_count")
        json.value(difference.common.count)
        json.key("added")
        write(difference.added, to: &json)
        json.key("removed")
        write(difference.removed, to: &json)
        json.key("reshaped")
        json.beginArray()
        for pair in difference.reshaped {
            json.beginObject(onOneLine: true)
            json.key("name")
            json.value(pair.a.name)
            json.key("a")
            json.write(pair.a.shape)
            json.key("b")
            json.write(pair.b.shape)
            json.end()
        }
        json.end()
        json.key("recast")
        json.beginArray()
        for pair in difference.recast {
            json.beginObject(onOneLine: true)
            json.key("name")
            json.value(pair.a.name)
            json.key("a")
            json.value(pair.a.dtype.rawValue)
            json.key("b")
            json.value(pair.b.dtype.rawValue)
            json.end()
        }
        json.end()
        json.key("others")
        json.beginObject()
        json.key("differing")
        json.write(difference.differingOthers)
        json.key("not_compared")
        json.write(difference.uncomparedOthers)
        json.end()
        json.key("values")
        if let values {
            json.beginObject()
            json.key("compared_count")
            json.value(values.comparedCount)
            json.key("changed")
            json.beginArray()
            for change in changed { write(change, to: &json) }
            json.end()
            json.end()
        } else {
            json.null()
        }
        json.end()
        try json.finish()
    }

    private func write(_ tensors: some Collection<TensorInfo>, to json: inout JSONWriter) {
        json.beginArray()
        for tensor in tensors {
            json.beginObject(onOneLine: true)
            json.members(of: tensor)
            json.end()
        }
        json.end()
    }

    private func write(_ change: ValueDifference, to json: inout JSONWriter) {
        json.beginObject(onOneLine: true)
        json.key("name")
        json.value(change.name)
        json.key("differing")
        json.value(change.differing)
        json.key("incomparable")
        json.value(change.incomparable)
        json.key("max_abs")
        json.value(change.maximum)
        json.key("relative_l2")
        json.value(change.relativeL2)
        json.key("cosine")
        json.value(change.cosine)
        json.end()
    }

    /// Writes the report as text.
    ///
    /// - Throws: any error that the output throws.
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
