public import CheckpointFiles
public import CheckpointJSON

/// A config.json, which provides what tensors do not show.
public struct ModelConfiguration: Sendable {
    /// The path of the file.
    public let path: String
    /// The whole document.
    package let whole: JSONValue
    /// The text model's configuration: the whole document, or `text_config` with some keys of the whole document.
    public let root: JSONValue

    /// Reads a config.json.
    ///
    /// - Throws: ``CheckpointError``: `notFound`, `inputOutput`, or `malformed`.
    public init(path: String) throws(CheckpointError) {
        self.path = path
        let root = try JSONValue(contentsOf: path)
        guard case .object = root else {
            throw CheckpointError(.malformed, path: path, "config.json is not a JSON object", found: root.description)
        }
        whole = root
        self.root = Self.textConfiguration(root)
    }

    /// Creates a configuration that was not read from a file; errors name `path`.
    package init(path: String, root: JSONValue) {
        self.path = path
        self.root = root
        whole = root
    }

    /// Reads the file `name` in a checkpoint's directory; nil if there is none.
    ///
    /// - Throws: ``CheckpointError`` if the file exists but cannot be read.
    public init?(beside checkpoint: Checkpoint, named name: String = "config.json") throws(CheckpointError) {
        do throws(CheckpointError) {
            try self.init(path: checkpoint.directory + name)
        } catch  where error.category == .notFound {
            return nil
        }
    }

    /// Reads a config.json that describes a model without weights; nil if `path` is a checkpoint or a shard index.
    ///
    /// - Throws: ``CheckpointError``: `malformed` if the file is JSON but neither an index nor a config.json;
    ///   `notFound` or `inputOutput`.
    public init?(alone path: String) throws(CheckpointError) {
        guard try isSmallDocument(path) else { return nil }
        try self.init(path: path)
        if root["weight_map"] != nil { return nil }
    }

    /// The name of the model's architecture: a student's `rwkv_architecture`, otherwise `model_type`.
    public var name: ByteString? { root["rwkv_architecture"]?.string ?? modelType }

    /// Returns whether the configuration's name is one of an architecture's names.
    func names(_ architecture: Architecture) -> Bool {
        architecture.configurationNames.contains { name == ByteString($0) }
    }

    /// Returns whether the body is this teacher's, by `teacher_model_type` or because the configuration is its own.
    func namesBody(_ teacher: Architecture) -> Bool {
        let name = root["teacher_model_type"]?.string ?? (root["rwkv_architecture"] == nil ? modelType : nil)
        return teacher.isTeacher && teacher.configurationNames.contains { name == ByteString($0) }
    }

    /// The architecture's name with its key and file, as a clause.
    var evidence: String {
        let key = root["rwkv_architecture"] == nil ? "model_type" : "rwkv_architecture"
        return "\(path): \(key) \"\(name ?? "")\""
    }

    /// Hugging Face's `model_type`.
    public var modelType: ByteString? { root["model_type"]?.string }

    func malformed(_ key: String, expected: String, found: String? = nil) -> CheckpointError {
        CheckpointError(
            .malformed, path: path, "invalid value for \"\(key)\"", expected: expected,
            found: found ?? root[key]?.description)
    }

    /// Returns the Boolean at `key`; nil if it is missing or null.
    func flag(_ key: String) throws(CheckpointError) -> Bool? {
        guard let value = root[key], value != .null else { return nil }
        guard let flag = value.bool else { throw malformed(key, expected: "true or false") }
        return flag
    }

    /// Returns the integer at `key`, which must be in ``Dimension/plausible``; nil if it is missing or null.
    func size(_ key: String) throws(CheckpointError) -> Int? {
        guard let value = root[key], value != .null else { return nil }
        guard let size = value.integer, Dimension.plausible ~= size else {
            throw malformed(key, expected: "an integer from 1 to 16777216")
        }
        return size
    }

    /// Returns the number at `key`, which must be positive and finite as float32; nil if it is missing or null.
    func positive(_ key: String) throws(CheckpointError) -> Double? {
        guard let value = root[key], value != .null else { return nil }
        guard let number = value.double, Float(number) > 0, Float(number).isFinite else {
            throw malformed(key, expected: "a positive number in the range of float32")
        }
        return number
    }

    /// Returns the count at `key`, which may be zero; `assumed` if it is missing or null.
    func count(_ key: String, assumed: Int) throws(CheckpointError) -> Int {
        guard let value = root[key], value != .null else { return assumed }
        guard let count = value.integer, 0...Dimension.plausible.upperBound ~= count else {
            throw malformed(key, expected: "an integer from 0 to 16777216")
        }
        return count
    }

    /// Returns the softcap at `key`; `assumed` if the key is missing, nil if the value is null.
    func cap(_ key: String, assumed: Double?) throws(CheckpointError) -> Double? {
        root[key] == nil ? assumed : try positive(key)
    }

    /// Returns the word at `key`, which must be one of `words`; nil if it is missing or null.
    func choice(_ key: String, of words: [String]) throws(CheckpointError) -> ByteString? {
        guard let value = root[key], value != .null else { return nil }
        guard let word = value.string, words.contains(where: { word == ByteString($0) }) else {
            throw malformed(key, expected: words.joined(separator: " or "))
        }
        return word
    }

    /// Returns the layer indices at `key`, each below `count`; nil if they are missing or null.
    ///
    /// RWKVInside writes [-1] for an empty list.
    func layers(_ key: String, count: Int) throws(CheckpointError) -> Set<Int>? {
        guard let value = root[key], value != .null else { return nil }
        let layers = value.array?.compactMap(\.integer)
        guard let layers, layers.count == value.array?.count, layers == [-1] || layers.allSatisfy({ 0..<count ~= $0 })
        else { throw malformed(key, expected: "a list of layer indices below \(count)") }
        return layers == [-1] ? [] : Set(layers)
    }

    /// Returns whether a layer has a sliding window according to `layer_types`.
    ///
    /// - Parameters:
    ///   - layer: the layer's index.
    ///   - otherwise: the result if `layer_types` is missing or null.
    /// - Returns: true if the layer has a window.
    /// - Throws: ``CheckpointError`` of category `malformed` if `layer_types` has the wrong number of layers or an
    ///   unknown type.
    func isWindowed(layer: Int, otherwise: Bool) throws(CheckpointError) -> Bool {
        guard let value = root["layer_types"], value != .null else { return otherwise }
        let kinds = value.array?.map(\.string) ?? []
        let count = try size("num_hidden_layers") ?? kinds.count
        guard !kinds.isEmpty, kinds.count == count else {
            throw malformed(
                "layer_types", expected: "one type for each of \(count) layers",
                found: value.array.map { "\($0.count) types" })
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

    /// Returns the number of tokens that a query sees in layers with a window, including its own.
    ///
    /// - Parameter assumed: the window if `sliding_window` is missing; nil to require the key.
    /// - Returns: 1 or more.
    /// - Throws: ``CheckpointError`` of category `malformed` if `sliding_window` is required but missing, is null, or
    ///   is not a number of tokens.
    func window(assumed: Int? = nil) throws(CheckpointError) -> Int {
        guard let window = try root["sliding_window"] == nil ? assumed : size("sliding_window") else {
            throw malformed("sliding_window", expected: "a number of tokens, because layers have a window")
        }
        return window
    }

    /// Returns the text model's configuration if `root` describes a multimodal model; otherwise `root` itself.
    private static func textConfiguration(_ root: JSONValue) -> JSONValue {
        guard case .object(let whole) = root, case .object(var text)? = root["text_config"] else { return root }
        // transformers reads tie_word_embeddings from the whole model's configuration (models/gemma3).
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

    /// Returns the sizes that the configuration gives for an architecture, completed with transformers' defaults.
    func dimensions(of architecture: Architecture) throws(CheckpointError) -> Dimensions {
        var sizes: [Dimension: Int] = [:]
        for (dimension, key) in architecture.dimensionKeys { sizes[dimension] = try size(key) }
        for (dimension, other) in architecture.impliedSizes { sizes[dimension] = sizes[dimension] ?? sizes[other] }
        sizes.merge(architecture.body.assumedSizes) { said, _ in said }
        if architecture.attention != nil {
            sizes[.keyValueHeads] = sizes[.keyValueHeads] ?? sizes[.heads]
            if sizes[.headSize] == nil, let width = sizes[.width], let heads = sizes[.heads] {
                guard width % heads == 0 else {
                    throw CheckpointError(
                        .malformed, path: path,
                        "hidden_size is not a multiple of num_attention_heads, and head_dim is missing",
                        found: "\(width) and \(heads)")
                }
                sizes[.headSize] = width / heads
            }
        }
        var dimensions = Dimensions(sizes)
        for (dimension, other) in architecture.impliedSizes where dimensions[dimension] == nil {
            dimensions[dimension] = dimensions[other]
        }
        return dimensions
    }
}
