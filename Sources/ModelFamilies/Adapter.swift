public import CheckpointFiles
package import CheckpointJSON

/// An adapter: small tensors that are merged into a model's linear weights.
public struct Adapter: Sendable, Hashable {
    /// How it changes a weight.
    public enum Kind: String, Sendable {
        /// W + s B A
        case lora
        /// The same, its rows or columns scaled to a learned length.
        case dora
        /// A block for each part of the input, as Bone and its successor MiSS have it.
        case bone
    }

    /// Who wrote it, which decides what its numbers mean.
    public enum Writer: String, Sendable {
        /// Hugging Face's peft.
        case peft
        /// RWKVInside's trainer, whose scale stands nowhere.
        case rwkvInside = "rwkvinside"
    }

    /// How it changes a weight.
    public let kind: Kind
    /// Who wrote it.
    public let writer: Writer
    /// The ranks that occur, in ascending order.
    public let ranks: [Int]
    /// The last parts of the modules' names: `q_proj`.
    public let targets: [String]
    /// How many modules are changed.
    public let moduleCount: Int
    /// `lora_alpha` of an adapter_config.json; nil where there is none.
    public let alpha: Double?

    /// What a tensor of an adapter is.
    public enum Part: Sendable {
        /// A of W + s B A.
        case down
        /// B of it.
        case up
        /// The lengths of rows or columns.
        case magnitude
        /// Blocks.
        case bone
    }

    private static let parts: [(end: String, part: Part)] = [
        (".lora_A", .down), (".lora_B", .up), (".lora_magnitude_vector", .magnitude), (".lora_M", .magnitude),
        (".bone", .bone), (".bone_block", .bone), (".miss_block", .bone),
    ]

    /// The module and the part that a name belongs to; nil where it is no part of an adapter.
    public static func split(_ name: String) -> (module: Substring, part: Part, isPEFT: Bool)? {
        let isPEFT = name.dropping(prefix: "base_model.") != nil
        var rest = name.dropping(suffix: ".weight") ?? name[...]
        for _ in 0..<2 {
            for (end, part) in parts {
                if let module = rest.dropping(suffix: end) { return (module, part, isPEFT) }
            }
            // peft puts the adapter's name behind the part's.
            guard isPEFT, let dot = rest.utf8.lastIndex(of: UInt8(ascii: ".")) else { return nil }
            rest = rest[..<dot]
        }
        return nil
    }

    /// The last part of a module's name: `q_proj`.
    package static func lastPart(ofModule module: Substring) -> ByteString {
        let dot = module.utf8.lastIndex(of: UInt8(ascii: "."))
        return ByteString(module[(dot.map { module.utf8.index(after: $0) } ?? module.startIndex)...])
    }

    /// The name of a part: peft's, and of bones RWKVInside's.
    public static func name(of part: Part, module: some StringProtocol) -> String {
        switch part {
        case .down: "base_model.model.\(module).lora_A.weight"
        case .up: "base_model.model.\(module).lora_B.weight"
        case .magnitude: "base_model.model.\(module).lora_magnitude_vector"
        case .bone: "\(module).bone"
        }
    }

    static func isPart(_ pattern: NamePattern) -> Bool { split(pattern.text) != nil }

    /// Finds an adapter among a checkpoint's tensors, and what its adapter_config.json says of it; nil where there is none.
    ///
    /// - Throws: ``CheckpointError`` where there is an adapter_config.json that cannot be read.
    public init?(_ checkpoint: Checkpoint) throws(CheckpointError) {
        let tensors = checkpoint.tensors
        guard TensorIndex.sample(checkpoint).contains(where: Self.isPart) else { return nil }
        var modules: Set<ByteString> = []
        var ranks: Set<Int> = []
        var (hasMagnitude, hasBone, isPEFT) = (false, false, false)
        for tensor in tensors {
            guard let (module, part, isOfPEFT) = Self.split(tensor.name) else { continue }
            modules.insert(ByteString(module))
            isPEFT = isPEFT || isOfPEFT
            switch part {
            case .down: if let rank = tensor.shape.first { ranks.insert(rank) }
            case .magnitude: hasMagnitude = true
            case .bone:
                hasBone = true
                // [blocks, r, r] or [r, out].
                if tensor.shape.count > 1 { ranks.insert(tensor.shape.count == 3 ? tensor.shape[1] : tensor.shape[0]) }
            case .up: break
            }
        }
        kind = hasBone ? .bone : hasMagnitude ? .dora : .lora
        writer = isPEFT ? .peft : .rwkvInside
        self.ranks = ranks.sorted()
        targets = Set(modules.map { Self.lastPart(ofModule: $0.text[...]) }).sorted().map(\.text)
        moduleCount = modules.count
        alpha = try ModelConfiguration(beside: checkpoint, named: "adapter_config.json")?.root["lora_alpha"]?.double
    }
}
