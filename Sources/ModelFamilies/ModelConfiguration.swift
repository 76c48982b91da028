public import CheckpointFiles
public import CheckpointJSON

/// A config.json: what cannot be told from tensors.
public struct ModelConfiguration: Sendable {
    /// The file that it was read from.
    public let path: String
    /// All of it.
    package let whole: JSONValue
    /// All of it, or of `text_config` where the model is of text and images.
    public let root: JSONValue

    /// Reads a config.json.
    ///
    /// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, or `malformed`.
    public init(path: String) throws(CheckpointError) {
        self.path = path
        let root = try JSONValue(contentsOf: path)
        guard case .object = root else {
            throw CheckpointError(.malformed, path: path, "a config.json is an object", found: root.description)
        }
        whole = root
        self.root = Self.ofText(root)
    }

    /// A configuration that is in no file.
    package init(path: String, root: JSONValue) {
        self.path = path
        self.root = root
        whole = root
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

    /// Whether the body of a student is that of a teacher: by `teacher_model_type`, or because it is the teacher's own.
    func namesBody(_ teacher: Architecture) -> Bool {
        let name = root["teacher_model_type"]?.string ?? (root["rwkv_architecture"] == nil ? modelType : nil)
        return teacher.isTeacher && teacher.configurationNames.contains { name == ByteString($0) }
    }

    /// What it says of the model's name, in words.
    var evidence: String {
        let key = root["rwkv_architecture"] == nil ? "model_type" : "rwkv_architecture"
        return "\(path): \(key) \"\(name ?? "")\""
    }

    /// Hugging Face's `model_type`.
    public var modelType: ByteString? { root["model_type"]?.string }

    func malformed(_ key: String, expected: String, found: String? = nil) -> CheckpointError {
        CheckpointError(
            .malformed, path: path, "\"\(key)\" has a value that it cannot have", expected: expected,
            found: found ?? root[key]?.description)
    }

    /// A truth value; nil where the key is missing or null.
    func flag(_ key: String) throws(CheckpointError) -> Bool? {
        guard let value = root[key], value != .null else { return nil }
        guard let flag = value.bool else { throw malformed(key, expected: "true or false") }
        return flag
    }

    /// A size; nil where the key is missing or null.
    func size(_ key: String) throws(CheckpointError) -> Int? {
        guard let value = root[key], value != .null else { return nil }
        guard let size = value.integer, Dimension.plausible ~= size else { throw malformed(key, expected: "a size") }
        return size
    }

    /// A number above zero, also when rounded to float32; nil where the key is missing or null.
    func positive(_ key: String) throws(CheckpointError) -> Double? {
        guard let value = root[key], value != .null else { return nil }
        guard let number = value.double, Float(number) > 0, Float(number).isFinite else {
            throw malformed(key, expected: "a number above zero, in the range of float32")
        }
        return number
    }

    /// A count, which may be zero.
    func count(_ key: String, assumed: Int) throws(CheckpointError) -> Int {
        guard let value = root[key], value != .null else { return assumed }
        guard let count = value.integer, 0...Dimension.plausible.upperBound ~= count else {
            throw malformed(key, expected: "0 or more")
        }
        return count
    }

    /// A cap; nil where the key is null.
    func cap(_ key: String, assumed: Double?) throws(CheckpointError) -> Double? {
        root[key] == nil ? assumed : try positive(key)
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

    /// Whether a layer sees a window of tokens alone, as `layer_types` says.
    ///
    /// - Parameters:
    ///   - layer: its number.
    ///   - otherwise: the answer where the key is missing or null.
    /// - Returns: true where it has a window.
    /// - Throws: ``CheckpointError`` of category `malformed` where it speaks of another number of layers, or of other kinds.
    func isWindowed(layer: Int, otherwise: Bool) throws(CheckpointError) -> Bool {
        guard let value = root["layer_types"], value != .null else { return otherwise }
        let kinds = value.array?.map(\.string) ?? []
        let count = try size("num_hidden_layers") ?? kinds.count
        guard !kinds.isEmpty, kinds.count == count else {
            throw malformed(
                "layer_types", expected: "a kind for each of \(count) layers",
                found: value.array.map { "\($0.count) kinds" })
        }
        // A checkpoint may have more layers than its configuration says.
        guard kinds.indices.contains(layer) else { return false }
        switch kinds[layer] {
        case "full_attention", "attention": return false
        case "sliding_attention": return true
        case let kind:
            throw malformed(
                "layer_types", expected: "full_attention or sliding_attention",
                found: "\(kind.map { "\"\($0)\"" } ?? "no text") for layer \(layer)")
        }
    }

    /// How many tokens a query sees in layers with a window.
    ///
    /// - Parameter assumed: where the key is missing.
    /// - Returns: 1 or more.
    /// - Throws: ``CheckpointError`` of category `malformed` where it is missing, or not a number of tokens.
    func window(assumed: Int? = nil) throws(CheckpointError) -> Int {
        guard let window = try root["sliding_window"] == nil ? assumed : size("sliding_window") else {
            throw malformed("sliding_window", expected: "a number of tokens, as layers have a window")
        }
        return window
    }

    /// The same configuration for the text model, where it is that of a model of text and images.
    private static func ofText(_ root: JSONValue) -> JSONValue {
        guard case .object(let whole) = root, case .object(var text)? = root["text_config"] else { return root }
        // transformers reads whether the head is tied from the whole model's configuration (models/gemma3).
        text["tie_word_embeddings"] = nil
        for key: ByteString in [
            "tie_word_embeddings", "dtype", "torch_dtype", "quantization_config", "transformers_version",
        ] {
            if let value = whole[key] { text[key] = value }
        }
        for key: ByteString in ["bos_token_id", "eos_token_id", "pad_token_id"] where text[key] == nil {
            text[key] = whole[key]
        }
        return .object(text)
    }

    /// The sizes that the file gives to an architecture, and those that transformers would assume.
    func dimensions(of architecture: Architecture) throws(CheckpointError) -> Dimensions {
        var sizes: [Dimension: Int] = [:]
        for (dimension, key) in architecture.dimensionKeys { sizes[dimension] = try size(key) }
        for (dimension, other) in architecture.equalities { sizes[dimension] = sizes[dimension] ?? sizes[other] }
        sizes.merge(architecture.body.assumedSizes) { said, _ in said }
        if architecture.attention != nil {
            sizes[.keyValueHeads] = sizes[.keyValueHeads] ?? sizes[.heads]
            if sizes[.headSize] == nil, let width = sizes[.width], let heads = sizes[.heads] {
                guard width % heads == 0 else {
                    throw CheckpointError(
                        .malformed, path: path,
                        "the width is not a multiple of the number of heads, and there is no head_dim",
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
