import Bytes
import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import RWKVInference

/// An audit of a converted checkpoint against the conversion manifest next to it.
public struct ConversionAudit: Sendable, Hashable {
    /// The path of the conversion manifest.
    public let path: String
    /// The number of output tensors listed in the manifest.
    public let tensorCount: Int
    /// The number of copied tensors that were also compared with their sources in the reference.
    public let sourceCount: Int
    /// The problems that were found, one sentence each; at most 100.
    public let problems: [String]

    /// The maximum number of problems to keep.
    private static let limit = 100

    /// Audits a checkpoint against the manifest next to it; returns nil if there is no manifest for its files.
    ///
    /// Every input tensor must have exactly one fate. Every output tensor in the manifest must be in the checkpoint,
    /// with the listed dtype, shape and SHA-256, or have the same bytes as a tensor that is. The checkpoint must not
    /// have other tensors. Totals must add up. If the reference is one of the inputs, each of its tensors must have a
    /// fate, and tensors that were copied must have the same bytes as their copies.
    ///
    /// - Parameters:
    ///   - checkpoint: the converted checkpoint.
    ///   - reference: the model or recorded logits to compare the checkpoint with; recorded logits are not used.
    ///   - threads: the number of threads that hash tensors.
    ///   - progress: an object that the caller can use to cancel the work.
    /// - Throws: `CheckpointError`: `cancelled`, or the errors of reading files.
    init?(
        of checkpoint: Checkpoint, reference: VerificationReference, threads: Int, progress: WorkProgress
    ) throws(CheckpointError) {
        for path in Conversion.manifests(beside: checkpoint) {
            let document = try JSONValue(contentsOf: path)
            let files = Set(document["files"]?.array?.compactMap(\.string) ?? [])
            let isOfConversion = document["schema"]?.string == ByteString(Conversion.schema)
            guard
                !isOfConversion
                    || checkpoint.files.allSatisfy({ files.contains(ByteString(Conversion.name(of: $0.path))) })
            else { continue }
            self.path = path
            guard isOfConversion else {
                (tensorCount, sourceCount, problems) = (0, 0, ["the file is not a conversion manifest"])
                return
            }
            var account = Account(document, threads: threads)
            account.checkFates()
            account.checkTotals()
            try account.checkTensors(of: checkpoint, progress)
            if case .model(let model) = reference { try account.checkSource(model.checkpoint, progress) }
            (tensorCount, sourceCount) = (account.made.count, account.sourceCount)
            problems = Array(account.problems.prefix(Self.limit))
            return
        }
        return nil
    }
}

/// The entries of a manifest, and the problems found in them.
private struct Account {
    let made: [JSONValue]
    private let inputs: [JSONValue]
    private let totals: JSONValue?
    private let madeByName: [ByteString: JSONValue]
    /// The input tensors, each as a pair of the input's name and the tensor's name.
    private let known: Set<[ByteString]>
    private let threads: Int
    private(set) var sourceCount = 0
    private(set) var problems: [String] = []

    init(_ document: JSONValue, threads: Int) {
        self.threads = threads
        made = document["tensors"]?.array ?? []
        inputs = document["inputs"]?.array ?? []
        totals = document["totals"]
        madeByName = Dictionary(made.map { ($0.name("name"), $0) }, uniquingKeysWith: { first, _ in first })
        known = Set(inputs.map { [$0.name("input"), $0.name("name")] })
        if inputs.isEmpty { problems.append("the manifest lists no input tensors") }
    }

    /// Checks that every input tensor has exactly one fate, and that the fate is complete.
    ///
    /// Outputs and tied tensors must be listed in the manifest, and a dropped tensor must have a reason.
    mutating func checkFates() {
        var seen: Set<[ByteString]> = []
        for entry in inputs {
            let input = entry.name("input")
            if !seen.insert([input, entry.name("name")]).inserted {
                problems.append("\(entry.text) has two fates")
            }
            let fate = entry["fate"]?.string ?? ""
            let isExplained: Bool
            switch fate {
            case "copied", "transformed":
                let outputs = entry["outputs"]?.array?.compactMap(\.string) ?? []
                isExplained = !outputs.isEmpty && outputs.allSatisfy { madeByName[$0] != nil }
            case "dropped": isExplained = ![nil, ""].contains(entry["reason"]?.string)
            case "tied": isExplained = known.contains([input, entry.name("with")])
            default: isExplained = false
            }
            if !isExplained { problems.append("the fate of \(entry.text) is unknown or incomplete: \(fate)") }
        }
    }

    mutating func checkTotals() {
        let output = totals?["output"]
        compare("tensors", output?["tensors"], made.count)
        for origin in ["copied", "transformed", "initialised"] {
            compare("\(origin) tensors", output?[origin], made.count { $0["origin"]?.string == ByteString(origin) })
        }
        let bytes = made.filter { $0["shared_with"] == nil }.reduce(0) { sum, entry in
            sum.addingReportingOverflow(entry["bytes"]?.integer ?? 0).partialValue
        }
        compare("bytes", output?["bytes"], bytes)
        for entry in made {
            let isExplained =
                switch entry["origin"]?.string {
                case "initialised": true
                case "copied", "transformed":
                    known.contains([entry.name("input"), entry.name("from")])
                default: false
                }
            if !isExplained { problems.append("the origin of \(entry.text) is unknown or not among the inputs") }
        }
        for part in Conversion.Part.allCases {
            let own = inputs.filter { $0["input"]?.string == ByteString(part.rawValue) }
            let said = totals?["inputs"]?[part.rawValue]
            if said == nil, own.isEmpty { continue }
            compare("the \(part.rawValue)'s tensors", said?["tensors"], own.count)
            for fate in ["copied", "transformed", "tied", "dropped"] {
                compare(
                    "the \(part.rawValue)'s \(fate) tensors", said?[fate],
                    own.count { $0["fate"]?.string == ByteString(fate) })
            }
        }
    }

    private mutating func compare(_ what: String, _ said: JSONValue?, _ found: Int) {
        if said?.integer != found {
            problems.append(
                "\(what) do not add up: the manifest says \(said?.description ?? "nothing"), its entries give \(found)")
        }
    }

    /// Checks that the checkpoint has exactly the tensors in the manifest, unchanged since they were written.
    mutating func checkTensors(of checkpoint: Checkpoint, _ progress: WorkProgress) throws(CheckpointError) {
        var expected: [(info: TensorInfo, hash: ByteString)] = []
        var seen: Set<ByteString> = []
        for entry in made {
            guard seen.insert(entry.name("name")).inserted else {
                problems.append("\(entry.text) is listed twice")
                continue
            }
            guard let info = checkpoint.tensor(named: entry.text) else {
                // If several tensors have the same bytes, the file may contain just one of them.
                let other = entry["shared_with"]?.string.flatMap { madeByName[$0] }
                let hash = entry["sha256"]?.string
                let isHeld = other.map { $0["sha256"]?.string == hash && checkpoint.tensor(named: $0.text) != nil }
                if hash == nil || isHeld != true { problems.append("\(entry.text) is missing") }
                continue
            }
            let shape = entry["shape"]?.array ?? [.null]
            if ByteString(info.dtype.rawValue) != entry["dtype"]?.string || info.byteCount != entry["bytes"]?.integer
                || info.shape.map({ .integer($0) }) != shape
            {
                problems.append("the dtype or shape of \(entry.text) differs from that in the manifest")
            } else if let hash = entry["sha256"]?.string {
                expected.append((info, hash))
            } else {
                problems.append("the manifest has no SHA-256 for \(entry.text)")
            }
        }
        for tensor in checkpoint.tensors where !seen.contains(ByteString(tensor.name)) {
            problems.append("\(tensor.name) is not in the manifest")
        }
        let hashes = try hashes(of: expected.map(\.info), in: checkpoint, progress)
        for (tensor, hash) in zip(expected, hashes) where hash != tensor.hash {
            problems.append("the SHA-256 of \(tensor.info.name) differs from that in the manifest")
        }
    }

    /// Checks the tensors of the reference against the manifest, if the reference appears to be one of the inputs.
    ///
    /// The reference counts as an input if most tensor names match and most copied tensors have the same bytes, unless it
    /// has all tensors that the conversion initialised. Each of its tensors must then have a fate, and all tensors that
    /// were copied must have the same bytes as their copies.
    mutating func checkSource(_ reference: Checkpoint, _ progress: WorkProgress) throws(CheckpointError) {
        let names = Set(reference.tensors.map { ByteString($0.name) })
        // A model with the tensors that the conversion initialised is another copy of its result.
        let initialised = made.filter { $0["origin"]?.string == "initialised" }.map { $0.name("name") }
        guard initialised.isEmpty || !names.isSuperset(of: initialised) else { return }
        let parts = Conversion.Part.allCases.map { part in
            (part, Set(inputs.filter { $0["input"]?.string == ByteString(part.rawValue) }.map { $0.name("name") }))
        }
        guard let (part, own) = parts.max(by: { $0.1.intersection(names).count < $1.1.intersection(names).count }),
            2 * own.intersection(names).count > max(own.count, names.count)
        else { return }
        let copied = made.filter {
            $0["origin"]?.string == "copied" && $0["input"]?.string == ByteString(part.rawValue)
        }
        let pairs = copied.compactMap { entry in
            reference.tensor(named: entry.name("from").text).map { (entry, $0) }
        }
        let hashes = try hashes(of: pairs.map(\.1), in: reference, progress)
        let differing = zip(pairs, hashes).filter { pair, hash in hash != pair.0["sha256"]?.string }
        // A model with the same tensor names but mostly different bytes is not the source.
        guard pairs.isEmpty || 2 * differing.count < pairs.count else { return }
        problems += differing.map { pair, _ in
            "\(pair.0.text) is listed as a copy of \(pair.1.name), but their bytes differ"
        }
        for name in names.subtracting(own).sorted() {
            problems.append("\(name) of the \(part.rawValue) has no fate")
        }
        for name in own.subtracting(names).sorted() {
            problems.append("\(name) is not in the \(part.rawValue)")
        }
        sourceCount = pairs.count
    }

    private func hashes(
        of tensors: [TensorInfo], in checkpoint: Checkpoint, _ progress: WorkProgress
    ) throws(CheckpointError) -> [ByteString?] {
        try checkpoint.scan(tensors, statistics: false, sha256: true, threads: threads, progress: progress)
            .map { $0.sha256.map { ByteString(hexadecimal($0)) } }
    }
}

extension JSONValue {
    fileprivate var text: String { name("name").text }

    /// Returns the string value of a member; an empty string if there is none.
    fileprivate func name(_ key: String) -> ByteString { self[key]?.string ?? "" }
}
