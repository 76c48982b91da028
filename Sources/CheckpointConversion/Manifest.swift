public import CheckpointFiles
public import CheckpointJSON
import LayerPlanning
import ModelFamilies

extension Conversion {
    package static let schema = "rwkv-ckpt/conversion/1"

    /// Returns the paths of manifests next to a checkpoint's files; one may describe the checkpoint's conversion.
    package static func manifests(beside checkpoint: Checkpoint) -> [String] {
        let names = checkpoint.files.map { name(of: $0.path) }
        return checkpoint.files(beside: (names.count == 1 ? [names[0] + "." + manifestName] : []) + [manifestName])
    }

    /// Writes the conversion's manifest as one JSON document that matches schemas/conversion.schema.json.
    ///
    /// - Parameters:
    ///   - hashes: the SHA-256 of every output tensor's bytes; nil if the tensors have not been made.
    ///   - planHash: the SHA-256 of the plan document; nil without a plan.
    ///   - version: the tool's version.
    ///   - output: receives the document.
    /// - Throws: any error that `output` throws.
    public func writeManifest(
        hashes: [[UInt8]]?, planHash: String?, version: String, to output: consuming ByteOutput
    ) throws {
        var json = JSONWriter(output)
        json.beginObject()
        json.key("schema")
        json.value(Self.schema)
        json.key("tool")
        json.value("rwkv-ckpt \(version)")
        json.key("plan_sha256")
        json.value(planHash.map { .string(ByteString($0)) } ?? .null)
        json.key("model")
        json.value((model?.variant ?? model?.architecture.family).map { .string(ByteString($0)) } ?? .null)
        json.key("layout")
        json.value(layout.map { .string(ByteString($0.name)) } ?? .null)
        json.key("files")
        json.beginArray(onOneLine: true)
        for name in fileNames { json.value(name) }
        json.end()
        json.key("omitted_metadata")
        json.beginArray(onOneLine: true)
        for key in omittedMetadata { json.value(key.text) }
        json.end()
        writeTotals(to: &json)
        json.key("inputs")
        json.beginArray()
        for part in Part.allCases { writeFates(of: part, to: &json) }
        json.end()
        json.key("tensors")
        json.beginArray()
        for (number, tensor) in tensors.enumerated() { write(tensor, hashes?[number], file: number, to: &json) }
        json.end()
        json.end()
        try json.finish()
    }

    /// The names of all files to write, excluding the manifest if the result is a single file.
    var fileNames: [String] {
        guard case .directory = options.destination else { return byteLayout.fileNames }
        return byteLayout.fileNames + (byteLayout.fileNames.count > 1 ? [CheckpointByteLayout.indexName] : [])
            + companionFiles.map(Self.name) + (configuration == nil ? [] : ["config.json"]) + [Self.manifestName]
    }

    /// The numbers of output tensors by origin, and their total size.
    public struct Totals: Sendable, Hashable {
        /// The number of tensors that are exact copies of an input tensor.
        public var copied = 0
        /// The number of tensors that are made from an input tensor with at least one step or a cast.
        public var transformed = 0
        /// The number of tensors that a formula initialises.
        public var initialised = 0
        /// The total size of the tensors in bytes; shared bytes count once.
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

    /// Returns the word for a fate: "copied", "transformed", "tied" or "dropped".
    public func word(for fate: Fate) -> String {
        switch fate {
        case .used(let users): users.contains { isCopied(tensors[$0]) } ? "copied" : "transformed"
        case .tied: "tied"
        case .dropped: "dropped"
        }
    }

    private func writeTotals(to json: inout JSONWriter) {
        json.key("totals")
        json.beginObject()
        json.key("inputs")
        json.beginObject()
        for part in Part.allCases {
            guard let own = fates[part] else { continue }
            let counts = own.reduce(into: [String: Int]()) { $0[word(for: $1), default: 0] += 1 }
            json.key(text: part.rawValue)
            json.beginObject(onOneLine: true)
            json.key("tensors")
            json.value(own.count)
            for word in ["copied", "transformed", "tied", "dropped"] {
                json.key(text: word)
                json.value(counts[word] ?? 0)
            }
            json.end()
        }
        json.end()
        let totals = totals
        json.key("output")
        json.beginObject(onOneLine: true)
        for (key, count) in [
            ("tensors" as StaticString, tensors.count), ("copied", totals.copied), ("transformed", totals.transformed),
            ("initialised", totals.initialised), ("bytes", totals.byteCount),
        ] {
            json.key(key)
            json.value(count)
        }
        json.end()
        json.end()
    }

    private func writeFates(of part: Part, to json: inout JSONWriter) {
        guard let input = inputs[part], let own = fates[part] else { return }
        let all = input.checkpoint.tensors
        for (position, fate) in own.enumerated() {
            json.beginObject(onOneLine: true)
            json.key("input")
            json.value(part.rawValue)
            json.key("name")
            json.value(all[position].name)
            json.key("fate")
            json.value(word(for: fate))
            switch fate {
            case .used(let users):
                json.key("outputs")
                json.beginArray()
                for user in users { json.value(tensors[user].output.name) }
                json.end()
            case .tied(let other):
                json.key("with")
                json.value(all[other].name)
            case .dropped(let reason):
                json.key("reason")
                json.value(reason)
            }
            json.end()
        }
    }

    private func write(_ tensor: Tensor, _ hash: [UInt8]?, file number: Int, to json: inout JSONWriter) {
        json.beginObject(onOneLine: true)
        json.key("name")
        json.value(tensor.output.name)
        json.key("dtype")
        json.value(tensor.output.dtype.rawValue)
        json.key("shape")
        json.beginArray()
        for size in tensor.output.shape { json.value(size) }
        json.end()
        json.key("bytes")
        json.value(tensor.output.byteCount)
        json.key("file")
        json.value(byteLayout.fileNames[byteLayout.file(ofTensor: number)])
        json.key("sha256")
        json.value(hash.map { .string(ByteString(hexadecimal($0))) } ?? .null)
        if let other = tensor.output.sharedWith {
            json.key("shared_with")
            json.value(tensors[other].output.name)
        }
        json.key("origin")
        switch tensor.origin {
        case .initialised(let values):
            json.value("initialised")
            json.key("initialiser")
            json.value(values.initialiser.name)
        case .tensor(let input, let steps):
            json.value(isCopied(tensor) ? "copied" : "transformed")
            json.key("input")
            json.value(input.part.rawValue)
            json.key("from")
            json.value(info(input)?.name ?? "")
            let words = words(for: steps, from: info(input)?.dtype, to: tensor.output.dtype)
            if !words.isEmpty {
                json.key("steps")
                json.beginArray()
                for word in words { json.value(word) }
                json.end()
            }
        }
        json.end()
    }

    /// Returns a short description of each step that is applied to a tensor, including the cast.
    public func words(for steps: Steps, from: DType?, to: DType) -> [String] {
        var words: [String] = []
        if let rows = steps.rows { words.append("rows \(rows.lowerBound) to \(rows.upperBound - 1)") }
        if steps.isTransposed { words.append("transposed") }
        if let merge = steps.merge { words.append("\(merge.name) merged") }
        if steps.offset != 0 { words.append("plus \(steps.offset)") }
        if steps.factor != 1 { words.append("times \(steps.factor)") }
        if let from, from != to { words.append("\(from.rawValue) to \(to.rawValue)") }
        return words
    }
}
