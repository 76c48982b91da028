public import CheckpointFiles
package import CheckpointJSON

/// An adapter: small tensors that modify a model's linear weights.
public struct Adapter: Sendable, Hashable {
    /// How an adapter changes a weight W.
    public enum Kind: String, Sendable {
        /// W + s B A
        case lora
        /// W + s B A with rows or columns scaled to a learned norm
        case dora
        /// A block for each part of the input, as in Bone and its successor MiSS.
        case bone
    }

    /// The tool that wrote an adapter; it determines what the adapter's values mean.
    public enum Writer: String, Sendable {
        /// Hugging Face's peft.
        case peft
        /// RWKVInside's trainer, which does not record the scale.
        case rwkvInside = "rwkvinside"
    }

    /// How the adapter changes a weight.
    public let kind: Kind
    /// The tool that wrote the adapter.
    public let writer: Writer
    /// The distinct ranks of the adapter's matrices, in ascending order.
    public let ranks: [Int]
    /// The last parts of the changed modules' names, such as `q_proj`, in ascending order.
    public let targets: [String]
    /// The number of modules that the adapter changes.
    public let moduleCount: Int
    /// `lora_alpha` from adapter_config.json; nil if it is missing.
    public let alpha: Double?

    /// The function of a tensor in an adapter.
    public enum Part: Sendable {
        /// The matrix A of W + s B A.
        case down
        /// The matrix B of W + s B A.
        case up
        /// The learned norms of rows or columns.
        case magnitude
        /// The blocks of Bone or MiSS.
        case bone
    }

    private static let parts: [(end: String, part: Part)] = [
        (".lora_A", .down), (".lora_B", .up), (".lora_magnitude_vector", .magnitude), (".lora_M", .magnitude),
        (".bone", .bone), (".bone_block", .bone), (".miss_block", .bone),
    ]

    /// Returns the module and the part that a tensor's name refers to; nil if the tensor does not belong to an adapter.
    public static func split(_ name: String) -> (module: Substring, part: Part, isPEFT: Bool)? {
        let isPEFT = name.dropping(prefix: "base_model.") != nil
        var rest = name.dropping(suffix: ".weight") ?? name[...]
        for _ in 0..<2 {
            for (end, part) in parts {
                if let module = rest.dropping(suffix: end) { return (module, part, isPEFT) }
            }
            // peft appends the adapter's name to the part's name.
            guard isPEFT, let dot = rest.utf8.lastIndex(of: UInt8(ascii: ".")) else { return nil }
            rest = rest[..<dot]
        }
        return nil
    }

    /// Returns the last part of a module's name, such as `q_proj`.
    package static func lastPart(ofModule module: Substring) -> ByteString {
        let dot = module.utf8.lastIndex(of: UInt8(ascii: "."))
        return ByteString(module[(dot.map { module.utf8.index(after: $0) } ?? module.startIndex)...])
    }

    /// Returns the name of a module's adapter tensor, as peft writes it for LoRA and DoRA and RWKVInside for Bone.
    public static func name(of part: Part, module: some StringProtocol) -> String {
        switch part {
        case .down: "base_model.model.\(module).lora_A.weight"
        case .up: "base_model.model.\(module).lora_B.weight"
        case .magnitude: "base_model.model.\(module).lora_magnitude_vector"
        case .bone: "\(module).bone"
        }
    }

    static func isPart(_ pattern: NamePattern) -> Bool { split(pattern.text) != nil }

    /// Reads an adapter from a checkpoint's tensors and its adapter_config.json; nil if there is none.
    ///
    /// - Throws: ``CheckpointError`` if there is an adapter_config.json that cannot be read.
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
