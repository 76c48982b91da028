public import Bytes
public import CheckpointFiles
import CheckpointJSON
import LayerPlanning
import ModelFamilies

extension Conversion {
    package static let schema = "rwkv-ckpt/conversion/1"

    /// Returns the paths of the manifests next to a checkpoint's files.
    ///
    /// They may describe how the checkpoint was converted.
    package static func manifests(beside checkpoint: Checkpoint) -> [String] {
        let names = checkpoint.files.map { name(of: $0.path) }
        return checkpoint.files(beside: (names.count == 1 ? [names[0] + "." + manifestName] : []) + [manifestName])
    }

    /// Writes the conversion's manifest as a JSON document that matches schemas/conversion.schema.json.
    ///
    /// - Parameters:
    ///   - hashes: the SHA-256 of every output tensor's bytes; nil if the tensors have not been computed.
    ///   - planHash: the SHA-256 of the plan document; nil if there is no plan.
    ///   - version: the tool's version.
    ///   - output: receives the document.
    /// - Throws: any error that `output` throws.
    public func writeManifest(
        hashes: [[UInt8]]?, planHash: String?, version: String, to output: consuming ByteOutput
    ) throws {
        try JSONWriter.document(to: output) { json in
            json.member("schema", Self.schema)
            json.member("tool", "rwkv-ckpt \(version)")
            json.member("plan_sha256", planHash)
            json.member("model", model.map { $0.variant ?? $0.architecture.family })
            json.member("layout", layout?.name)
            json.member("files", fileNames)
            json.member("omitted_metadata", omittedMetadata)
            json.object("totals", writeTotals)
            json.array("inputs") { json in
                for part in Part.allCases { writeFates(of: part, to: &json) }
            }
            json.array("tensors", of: tensors.enumerated()) { json, tensor in
                write(tensor.element, hashes?[tensor.offset], file: tensor.offset, to: &json)
            }
        }
    }

    /// The names of all files to write, excluding the manifest if the result is a single file.
    var fileNames: [String] {
        guard case .directory = options.destination else { return byteLayout.fileNames }
        return byteLayout.fileNames + (byteLayout.fileNames.count > 1 ? [CheckpointByteLayout.indexName] : [])
            + companionFiles.map(Self.name) + (configuration == nil ? [] : ["config.json"]) + [Self.manifestName]
    }

    /// The number of output tensors from each kind of origin, and their total size.
    public struct Totals: Sendable, Hashable {
        /// The number of tensors that are exact copies of input tensors.
        public var copied = 0
        /// The number of tensors that are computed from an input tensor with at least one step or a cast.
        public var transformed = 0
        /// The number of tensors whose values are computed from a formula.
        public var initialised = 0
        /// The total size of the tensors in bytes.
        ///
        /// Shared bytes are counted once.
        public var byteCount = 0
    }

    /// The totals over all output tensors.
    public var totals: Totals {
        tensors.reduce(into: Totals()) { totals, tensor in
            if case .initialised = tensor.origin {
                totals.initialised += 1
            } else if isCopied(tensor) {
                totals.copied += 1
            } else {
                totals.transformed += 1
            }
            if tensor.output.sharedWith == nil {
                totals.byteCount = totals.byteCount.adding(clamped: tensor.output.byteCount)
            }
        }
    }

    /// Returns the word that describes a fate: "copied", "transformed", "tied" or "dropped".
    public func word(for fate: Fate) -> String {
        switch fate {
        case .used(let users): users.contains { isCopied(tensors[$0]) } ? "copied" : "transformed"
        case .tied: "tied"
        case .dropped: "dropped"
        }
    }

    private func writeTotals(to json: inout JSONWriter) {
        json.object("inputs") { json in
            for part in Part.allCases {
                guard let own = fates[part] else { continue }
                let counts = own.reduce(into: [String: Int]()) { $0[word(for: $1), default: 0] += 1 }
                json.object(text: part.rawValue, onOneLine: true) { json in
                    json.member("tensors", own.count)
                    for word in ["copied", "transformed", "tied", "dropped"] {
                        json.member(text: word, counts[word] ?? 0)
                    }
                }
            }
        }
        let totals = totals
        json.object("output", onOneLine: true) { json in
            json.member("tensors", tensors.count)
            json.member("copied", totals.copied)
            json.member("transformed", totals.transformed)
            json.member("initialised", totals.initialised)
            json.member("bytes", totals.byteCount)
        }
    }

    private func writeFates(of part: Part, to json: inout JSONWriter) {
        guard let input = inputs[part], let own = fates[part] else { return }
        let all = input.checkpoint.tensors
        for (position, fate) in own.enumerated() {
            json.object(onOneLine: true) { json in
                json.member("input", part.rawValue)
                json.member("name", all[position].name)
                json.member("fate", word(for: fate))
                switch fate {
                case .used(let users): json.member("outputs", users.map { tensors[$0].output.name })
                case .tied(let other): json.member("with", all[other].name)
                case .dropped(let reason): json.member("reason", reason)
                }
            }
        }
    }

    private func write(_ tensor: Tensor, _ hash: [UInt8]?, file number: Int, to json: inout JSONWriter) {
        json.member("name", tensor.output.name)
        json.member("dtype", tensor.output.dtype.rawValue)
        json.member("shape", tensor.output.shape)
        json.member("bytes", tensor.output.byteCount)
        json.member("file", byteLayout.fileNames[byteLayout.file(ofTensor: number)])
        json.member("sha256", hash.map(hexadecimal))
        if let other = tensor.output.sharedWith { json.member("shared_with", tensors[other].output.name) }
        switch tensor.origin {
        case .initialised(let values):
            json.member("origin", "initialised")
            json.member("initialiser", values.initialiser.name)
        case .tensor(let input, let steps):
            json.member("origin", isCopied(tensor) ? "copied" : "transformed")
            json.member("input", input.part.rawValue)
            json.member("from", info(input)?.name ?? "")
            let words = words(for: steps, from: info(input)?.dtype, to: tensor.output.dtype)
            if !words.isEmpty { json.member("steps", words) }
        }
    }

    /// Returns a short description of each step that is applied to a tensor, including the cast.
    public func words(for steps: Steps, from: DType?, to: DType) -> [String] {
        var words: [String] = []
        if let rows = steps.rows { words.append("rows \(rows.lowerBound) to \(rows.upperBound - 1)") }
        if steps.isTransposed { words.append("transposed") }
        if steps.blocks != nil { words.append("token shifts reordered") }
        if !steps.followers.isEmpty {
            words.append("joined with " + steps.followers.compactMap { info($0)?.name }.joined(separator: ", "))
        }
        if let merge = steps.merge { words.append("\(merge.name) merged") }
        if steps.offset != 0 { words.append("plus \(steps.offset)") }
        if steps.factor != 1 { words.append("times \(steps.factor)") }
        if let from, from != to { words.append("\(from.rawValue) to \(to.rawValue)") }
        return words
    }
}
