public import Bytes
public import CheckpointConversion
import CheckpointFiles
import ModelFamilies

/// The text report of the command `convert`.
public struct ConversionReport: Sendable {
    private let conversion: Conversion
    private let path: String

    /// Creates a report on the conversion of the checkpoint at `path`.
    public init(_ conversion: Conversion, path: String) {
        self.conversion = conversion
        self.path = path
    }

    /// Writes a summary of the conversion.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeSummary(to output: consuming ByteOutput) throws {
        writeHead(to: &output)
        writeDropped(to: &output)
        try output.finish()
    }

    /// Writes the operations of a dry run, with one line for each tensor.
    ///
    /// - Throws: any error from writing to `output`.
    public func writeOperations(to output: consuming ByteOutput) throws {
        writeHead(to: &output)
        output.write("\n")
        var table = TextTable(
            [("tensor", .left), ("dtype", .left), ("shape", .left), ("operation", .left), ("from", .left)],
            rowCount: conversion.tensors.count)
        for tensor in conversion.tensors {
            table.append(tensor.output.name.printable(limit: 200))
            table.append(tensor.output.dtype.rawValue)
            table.append(shapeText(tensor.output.shape))
            switch tensor.origin {
            case .initialised(let values):
                table.append("initialised")
                table.append(values.initialiser.name + (values.initialiser.value.map { " \($0)" } ?? ""))
            case .tensor(let input, let steps):
                let info = conversion.info(input)
                let words = conversion.words(for: steps, from: info?.dtype, to: tensor.output.dtype)
                table.append(words.isEmpty ? "copied" : words.joined(separator: ", "))
                let name = info?.name ?? ""
                let isPlain = name == tensor.output.name && input.part == .source
                table.append(
                    isPlain
                        ? "" : (input.part == .source ? "" : "\(input.part.rawValue)'s ") + name.printable(limit: 200))
            }
        }
        table.write(to: &output)
        writeDropped(to: &output)
        try output.finish()
    }

    private func writeHead(to output: inout ByteOutput) {
        let source = conversion.inputs[.source]?.model
        let from = source.map { "\($0.variant ?? $0.architecture.family)" }
        let to = conversion.model.map { "\($0.variant ?? $0.architecture.family)" }
        let layouts = [source?.layout?.name, conversion.layout?.name].compactMap { $0 }
        let layout =
            Set(layouts).count > 1 ? "\(layouts[0]) to \(layouts[1]) layout" : layouts.first.map { "\($0) layout" }
        let models = from == to ? from : [from, to].compactMap { $0 }.joined(separator: " to ")
        let what = [models, layout].compactMap { $0 }.joined(separator: ", ")
        let destination = conversion.options.destination.path.printable()
        output.write("\(path.printable()) to \(destination)\(what.isEmpty ? "" : ": " + what)\n")
        let totals = conversion.totals
        let ofTeacher = conversion.tensors.count { tensor in
            if case .tensor(let input, _) = tensor.origin { input.part == .teacher } else { false }
        }
        let parts = [
            (totals.copied, "copied"), (totals.transformed, "transformed"), (totals.initialised, "initialised"),
            (ofTeacher, "of them from the teacher"),
        ].filter { $0.0 > 0 }.map { "\(countText($0.0)) \($0.1)" }
        let files = countText(conversion.byteLayout.fileNames.count, "file")
        output.write(
            "\(countText(conversion.tensors.count, "tensor")) (\(parts.joined(separator: ", "))), \(byteText(totals.byteCount)) in \(files)\n"
        )
    }

    private func writeDropped(to output: inout ByteOutput) {
        let keys = conversion.omittedMetadata
        if !keys.isEmpty {
            let some = keys.prefix(3).map { $0.text.printable(limit: 80) }.joined(separator: ", ")
            let count = countText(keys.count)
            output.write(
                "\(count) metadata \(keys.count == 1 ? "entry" : "entries") left out: \(some)\(keys.count > 3 ? ", …" : "")\n"
            )
        }
        var reasons: [ByteString: [String]] = [:]
        for part in Conversion.Part.allCases {
            guard let input = conversion.inputs[part], let fates = conversion.fates[part] else { continue }
            let tensors = input.checkpoint.tensors
            for (position, fate) in fates.enumerated() {
                guard case .dropped(let reason) = fate else { continue }
                let whose = part == .source ? "" : "\(part.rawValue): "
                reasons[ByteString(whose + reason), default: []].append(tensors[position].name)
            }
        }
        for (reason, names) in reasons.sorted(by: { $0.key < $1.key }) {
            let some = names.prefix(3).map { $0.printable(limit: 200) }.joined(separator: ", ")
            output.write(
                "\(countText(names.count, "tensor")) dropped (\(reason)): \(some)\(names.count > 3 ? ", …" : "")\n")
        }
    }
}
