import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import RWKVInference

/// What a conversion's manifest says about the checkpoint beside it, held against what is there.
public struct ConversionAudit: Sendable, Hashable {
    /// The manifest.
    public let path: String
    /// How many tensors were held against it.
    public let tensorCount: Int
    /// How many of them are copies whose source was held against it too, being the reference.
    public let sourceCount: Int
    /// What is wrong, a sentence each.
    public let problems: [String]

    /// Sentences that are kept.
    private static let limit = 100

    /// Looks for a manifest beside a checkpoint, and holds the two against each other; nil where there is none.
    ///
    /// Every tensor of an input has exactly one fate, every tensor that was made is there once, with its type, shape and SHA-256, and
    /// totals add up. Where the reference is one of the inputs, copies are held against it.
    ///
    /// - Parameters:
    ///   - checkpoint: what was made.
    ///   - reference: what it is verified against.
    ///   - progress: can stop the work.
    /// - Throws: ``CheckpointError``, where files cannot be read.
    init?(
        of checkpoint: Checkpoint, reference: VerificationReference, progress: WorkProgress
    ) throws(CheckpointError) {
        guard let path = Conversion.manifestPath(of: checkpoint) else { return nil }
        let document = try JSONValue(contentsOf: path)
        var problems: [String] = []
        guard document["schema"]?.string == Conversion.schema, let made = document["tensors"]?.array,
            let inputs = document["inputs"]?.array
        else {
            self.path = path
            (tensorCount, sourceCount, self.problems) = (0, 0, ["it is no manifest of a conversion"])
            return
        }
        problems += Self.fates(inputs)
        problems += Self.totals(document["totals"], made: made, inputs: inputs)
        problems += try Self.tensors(made, checkpoint, progress)
        var copies = 0
        if case .model(let model) = reference {
            let (count, differing) = try Self.copies(made, inputs: inputs, of: model.checkpoint, progress)
            copies = count
            problems += differing
        }
        self.path = path
        tensorCount = made.count
        sourceCount = copies
        self.problems = Array(problems.prefix(Self.limit))
    }

    private static func key(_ entry: JSONValue, _ name: String = "name") -> String {
        "\(entry["input"]?.string ?? "") \(entry[name]?.string ?? "")"
    }

    /// Every tensor of an input has one fate, and what is said to be used is used.
    private static func fates(_ inputs: [JSONValue]) -> [String] {
        var seen: Set<[UInt8]> = []
        var problems: [String] = []
        for entry in inputs {
            let name = entry["name"]?.string ?? ""
            if !seen.insert(Array(key(entry).utf8)).inserted { problems.append("\(name) has two fates") }
            let fate = entry["fate"]?.string ?? ""
            let isWhole =
                switch fate {
                case "copied", "transformed": entry["outputs"]?.array?.isEmpty == false
                case "dropped": entry["reason"]?.string?.isEmpty == false
                case "tied": entry["with"]?.string != nil
                default: false
                }
            if !isWhole { problems.append("\(name) has no fate that explains it: \(fate)") }
        }
        return problems
    }

    private static func totals(_ totals: JSONValue?, made: [JSONValue], inputs: [JSONValue]) -> [String] {
        var problems: [String] = []
        func compare(_ what: String, _ said: JSONValue?, _ found: Int) {
            if said?.integer != found {
                problems.append("\(what) do not add up: \(said?.description ?? "nothing") said, \(found) found")
            }
        }
        let output = totals?["output"]
        compare("tensors", output?["tensors"], made.count)
        for origin in ["copied", "transformed", "initialised"] {
            compare("\(origin) tensors", output?[origin], made.count { $0["origin"]?.string == origin })
        }
        for part in Conversion.Part.allCases {
            let own = inputs.filter { $0["input"]?.string == part.rawValue }
            guard let said = totals?["inputs"]?[part.rawValue] else {
                if !own.isEmpty { problems.append("the \(part.rawValue)'s tensors are not counted") }
                continue
            }
            compare("the \(part.rawValue)'s tensors", said["tensors"], own.count)
            for fate in ["copied", "transformed", "tied", "dropped"] {
                compare("the \(part.rawValue)'s \(fate) tensors", said[fate], own.count { $0["fate"]?.string == fate })
            }
        }
        return problems
    }

    /// Every tensor that was made is there, as it was made, and no other.
    private static func tensors(
        _ made: [JSONValue], _ checkpoint: Checkpoint, _ progress: WorkProgress
    ) throws(CheckpointError) -> [String] {
        var problems: [String] = []
        var expected: [(info: TensorInfo, hash: String)] = []
        var seen: Set<[UInt8]> = []
        for entry in made {
            let name = entry["name"]?.string ?? ""
            guard seen.insert(Array(name.utf8)).inserted else {
                problems.append("\(name) is listed twice")
                continue
            }
            // Of tensors with the same bytes, files may hold one.
            guard let info = checkpoint.tensor(named: name) else {
                if entry["shared_with"] == nil { problems.append("\(name) is not there") }
                continue
            }
            if info.dtype.rawValue != entry["dtype"]?.string
                || info.shape != entry["shape"]?.array?.compactMap(\.integer)
            {
                problems.append("\(name) has another type or shape than it was made with")
            } else if let hash = entry["sha256"]?.string {
                expected.append((info, hash))
            } else {
                problems.append("\(name) has no hash")
            }
        }
        for tensor in checkpoint.tensors where !seen.contains(Array(tensor.name.utf8)) {
            problems.append("\(tensor.name) was not made by the conversion")
        }
        let scans = try checkpoint.scan(
            expected.map(\.info), statistics: false, sha256: true, threads: 2, progress: progress)
        for (tensor, scan) in zip(expected, scans) where scan.sha256.map({ hexadecimal($0) }) != tensor.hash {
            problems.append("the bytes of \(tensor.info.name) are not those that were made")
        }
        return problems
    }

    /// Where the reference has the tensors of an input, what was copied from there has its bytes.
    private static func copies(
        _ made: [JSONValue], inputs: [JSONValue], of reference: Checkpoint, _ progress: WorkProgress
    ) throws(CheckpointError) -> (count: Int, problems: [String]) {
        let names = Set(reference.tensors.map { Array($0.name.utf8) })
        let part = Conversion.Part.allCases.first { part in
            let own = inputs.filter { $0["input"]?.string == part.rawValue }
            return !own.isEmpty && Set(own.map { Array(($0["name"]?.string ?? "").utf8) }) == names
        }
        guard let part else { return (0, []) }
        let copied = made.filter { $0["origin"]?.string == "copied" && $0["input"]?.string == part.rawValue }
        let pairs = copied.compactMap { entry in
            reference.tensor(named: entry["from"]?.string ?? "").map { (entry, $0) }
        }
        let scans = try reference.scan(
            pairs.map(\.1), statistics: false, sha256: true, threads: 2, progress: progress)
        let problems = zip(pairs, scans).filter { pair, scan in
            scan.sha256.map { hexadecimal($0) } != pair.0["sha256"]?.string
        }.map { pair, _ in "\(pair.0["name"]?.string ?? "") is said to be a copy of \(pair.1.name), and is not" }
        return (pairs.count, problems)
    }
}
