public import Bytes
import CheckpointJSON
public import CheckpointFiles

/// An adapter, such as LoRA, whose small tensors modify the linear weights of a model.
public struct Adapter: Sendable, Hashable {
    /// The way in which an adapter changes a weight W.
    public enum Kind: String, Sendable {
        /// W + s B A
        case lora
        /// W + s B A, with its rows or columns scaled to learned norms.
        case dora
        /// W plus small blocks and, in some forms, their products with W, as in Bone and its successor MiSS.
        case bone
    }

    /// The tool that wrote an adapter, which determines how its values are interpreted.
    public enum Writer: String, Sendable {
        /// Hugging Face's peft.
        case peft
        /// RWKVInside's trainer, which does not record the LoRA scale.
        case rwkvInside = "rwkvinside"
    }

    /// The way in which the adapter changes weights.
    public let kind: Kind
    /// The tool that wrote the adapter.
    public let writer: Writer
    /// The distinct ranks of the adapter's matrices, in ascending order.
    public let ranks: [Int]
    /// The last components of the changed modules' names, such as `q_proj`, in ascending order.
    public let targets: [String]
    /// The number of modules that the adapter changes.
    public let moduleCount: Int
    /// The value of `lora_alpha` in adapter_config.json, or nil if it is missing.
    public let alpha: Double?

    /// The role of a tensor within an adapter.
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

    /// Splits the name of an adapter tensor into its module and part, or returns nil for any other tensor.
    ///
    /// The result also states whether peft wrote the tensor.
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

    /// Returns the last component of a module's name, such as `q_proj`.
    package static func lastPart(ofModule module: Substring) -> ByteString {
        let dot = module.utf8.lastIndex(of: UInt8(ascii: "."))
        return ByteString(module[(dot.map { module.utf8.index(after: $0) } ?? module.startIndex)...])
    }

    /// Returns the name of a module's adapter tensor.
    ///
    /// The names are those that peft writes for LoRA and DoRA, and that RWKVInside writes for Bone.
    public static func name(of part: Part, module: some StringProtocol) -> String {
        switch part {
        case .down: "base_model.model.\(module).lora_A.weight"
        case .up: "base_model.model.\(module).lora_B.weight"
        case .magnitude: "base_model.model.\(module).lora_magnitude_vector"
        case .bone: "\(module).bone"
        }
    }

    static func isPart(_ pattern: NamePattern) -> Bool { split(pattern.text) != nil }

    /// Reads the properties of an adapter from its tensors and adapter_config.json.
    ///
    /// Returns nil if the checkpoint does not contain an adapter.
    ///
    /// - Throws: `CheckpointError` if adapter_config.json exists but cannot be read.
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
                // The shape is [blocks, r, r] or [r, out].
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
