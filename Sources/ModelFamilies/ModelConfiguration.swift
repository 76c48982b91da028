public import CheckpointFiles
public import CheckpointJSON

/// A config.json: what cannot be told from tensors.
public struct ModelConfiguration: Sendable {
    /// The file that it was read from.
    public let path: String
    /// All of it.
    public let root: JSONValue

    /// Reads a config.json.
    ///
    /// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, or `malformed`.
    public init(path: String) throws(CheckpointError) {
        self.path = path
        root = try JSONValue(contentsOf: path)
        guard case .object = root else {
            throw CheckpointError(.malformed, path: path, "a config.json is an object", found: root.description)
        }
    }

    /// The config.json that stands beside a checkpoint's files; nil where there is none.
    ///
    /// - Throws: ``CheckpointError`` where there is one that cannot be read.
    public init?(beside checkpoint: Checkpoint, named name: String = "config.json") throws(CheckpointError) {
        do throws(CheckpointError) {
            try self.init(path: checkpoint.directory + name)
        } catch  where error.category == .notFound {
            return nil
        }
    }

    /// A config.json that describes a model without weights; nil if the file at `path` is a checkpoint or a shard index.
    ///
    /// - Throws: ``CheckpointError``: `malformed` where the file is JSON, but neither an index nor a config.json; `notFound` or
    ///   `inputOutput`.
    public init?(alone path: String) throws(CheckpointError) {
        guard try isSmallDocument(path) else { return nil }
        try self.init(path: path)
        if root["weight_map"] != nil { return nil }
    }

    /// What the model is called: `rwkv_architecture` of students, else `model_type`.
    public var name: ByteString? { root["rwkv_architecture"]?.string ?? modelType }

    /// Whether it calls the model one of an architecture.
    func names(_ architecture: Architecture) -> Bool {
        architecture.configurationNames.contains { name == ByteString($0) }
    }

    /// What it says of the model's name, in words.
    var evidence: String {
        let key = root["rwkv_architecture"] == nil ? "model_type" : "rwkv_architecture"
        return "\(path): \(key) \"\(name ?? "")\""
    }

    /// Hugging Face's `model_type`.
    public var modelType: ByteString? { root["model_type"]?.string }

    func malformed(_ key: String, expected: String) -> CheckpointError {
        CheckpointError(
            .malformed, path: path, "\"\(key)\" has a value that it cannot have", expected: expected,
            found: root[key]?.description)
    }

    /// A size; nil where the key is missing or null.
    func size(_ key: String) throws(CheckpointError) -> Int? {
        guard let value = root[key], value != .null else { return nil }
        guard let size = value.integer, Dimension.plausible ~= size else { throw malformed(key, expected: "a size") }
        return size
    }

    /// A number above zero; nil where the key is missing or null.
    func positive(_ key: String) throws(CheckpointError) -> Double? {
        guard let value = root[key], value != .null else { return nil }
        guard let number = value.double, number > 0, number.isFinite else {
            throw malformed(key, expected: "a number above zero")
        }
        return number
    }

    /// One of some words; nil where the key is missing or null.
    func choice(_ key: String, of words: [String]) throws(CheckpointError) -> ByteString? {
        guard let value = root[key], value != .null else { return nil }
        guard let word = value.string, words.contains(where: { word == ByteString($0) }) else {
            throw malformed(key, expected: words.joined(separator: " or "))
        }
        return word
    }

    /// Numbers of layers; nil where the key is missing or null.
    ///
    /// RWKVInside writes [-1] for none.
    func layers(_ key: String, count: Int) throws(CheckpointError) -> Set<Int>? {
        guard let value = root[key], value != .null else { return nil }
        let layers = value.array?.compactMap(\.integer)
        guard let layers, layers.count == value.array?.count, layers == [-1] || layers.allSatisfy({ 0..<count ~= $0 })
        else { throw malformed(key, expected: "numbers of layers below \(count)") }
        return layers == [-1] ? [] : Set(layers)
    }

    /// Keys with values that change the equations to what is not described.
    func undescribed(
        in architecture: Architecture, _ rotary: RotaryEmbedding?
    ) -> [(key: String, value: String)] {
        var found: [(key: String, value: String)] = []
        func refuse(_ key: String, if isOdd: (JSONValue) -> Bool) {
            if let value = root[key], value != .null, isOdd(value) { found.append((key, value.description)) }
        }
        if architecture.attention != nil {
            refuse("use_sliding_window") { $0 == .bool(true) }
            refuse("layer_types") { $0.array?.contains { $0 != .string("full_attention") } ?? true }
            if let rotary, !RotaryEmbedding.knownTypes.contains(rotary.type) {
                found.append(("rope_type", rotary.type.text))
            }
            if let part = rotary?.parameters["partial_rotary_factor"] {
                found.append(("partial_rotary_factor", "\(part)"))
            }
        }
        if architecture.timeMix?.rotary == .teacher { refuse("nope_in_rwkv") { $0 == .bool(true) } }
        if architecture.feedForward == .swiGLU {
            refuse("hidden_act") { $0 != .string("silu") }
            refuse("mlp_bias") { $0 == .bool(true) }
        }
        if architecture.feedForward == .channelMix { refuse("hidden_act") { $0 != .string("sqrelu") } }
        return found
    }

    /// The sizes that the file gives to an architecture, and those that transformers would assume.
    func dimensions(of architecture: Architecture) throws(CheckpointError) -> Dimensions {
        var sizes: [Dimension: Int] = [:]
        for (dimension, key) in architecture.dimensionKeys { sizes[dimension] = try size(key) }
        for (dimension, other) in architecture.equalities { sizes[dimension] = sizes[dimension] ?? sizes[other] }
        sizes.merge(architecture.assumedSizes) { said, _ in said }
        if architecture.attention != nil {
            sizes[.keyValueHeads] = sizes[.keyValueHeads] ?? sizes[.heads]
            if sizes[.headSize] == nil, let width = sizes[.width], let heads = sizes[.heads] {
                guard width % heads == 0 else {
                    throw CheckpointError(
                        .malformed, path: path,
                        "the width is no multiple of the number of heads, and there is no head_dim",
                        found: "\(width) and \(heads)")
                }
                sizes[.headSize] = width / heads
            }
        }
        var dimensions = Dimensions(sizes)
        for (dimension, other) in architecture.equalities where dimensions[dimension] == nil {
            dimensions[dimension] = dimensions[other]
        }
        return dimensions
    }
}
