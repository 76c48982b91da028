public import Bytes
public import CheckpointFiles
public import CheckpointJSON

/// A model's config.json, which provides information that the tensors do not show.
public struct ModelConfiguration: Sendable {
    /// The path of the file.
    public let path: String
    /// The entire JSON document.
    package let whole: JSONValue
    /// The configuration of the text model.
    ///
    /// This is the entire document or, in a multimodal model, `text_config` with some keys from the top level.
    public let root: JSONValue

    /// Reads a config.json.
    ///
    /// - Throws: `CheckpointError` of category `notFound`, `inputOutput` or `malformed`.
    public init(path: String) throws(CheckpointError) {
        self.path = path
        let root = try JSONValue(contentsOf: path)
        guard case .object = root else {
            throw CheckpointError(.malformed, path: path, "config.json is not a JSON object", found: root.description)
        }
        whole = root
        self.root = Self.textConfiguration(root)
    }

    /// Creates a configuration from a JSON value instead of a file.
    ///
    /// Errors report `path` as the file.
    package init(path: String, root: JSONValue) {
        self.path = path
        self.root = root
        whole = root
    }

    /// Reads a configuration from the checkpoint's directory, or returns nil if there is no file called `name`.
    ///
    /// - Throws: `CheckpointError` if the file exists but cannot be read.
    public init?(beside checkpoint: Checkpoint, named name: String = "config.json") throws(CheckpointError) {
        do throws(CheckpointError) {
            try self.init(path: checkpoint.directory + name)
        } catch  where error.category == .notFound {
            return nil
        }
    }

    /// Reads a config.json that describes a model without weights.
    ///
    /// Returns nil if `path` is a checkpoint or a shard index.
    ///
    /// - Throws: `CheckpointError` of category `malformed` if the file starts like a JSON document but is not a valid
    ///   JSON object, or of category `notFound` or `inputOutput`.
    public init?(alone path: String) throws(CheckpointError) {
        guard try isSmallDocument(path) else { return nil }
        try self.init(path: path)
        if root["weight_map"] != nil { return nil }
    }

    /// The name of the model's architecture, from `rwkv_architecture` in a student and otherwise from `model_type`.
    public var name: ByteString? { root["rwkv_architecture"]?.string ?? modelType }

    /// Returns whether the configuration names an architecture.
    func names(_ architecture: Architecture) -> Bool {
        architecture.configurationNames.contains { name == ByteString($0) }
    }

    /// Whether the configuration names a student, in `rwkv_architecture` or in `model_type`.
    package var namesStudent: Bool {
        root["rwkv_architecture"]?.string != nil
            || ArchitectureRegistry.standard.contains { $0.hasTeachersBody && names($0) }
    }

    /// Returns whether the configuration names a teacher as the source of the model's body.
    ///
    /// A student names its teacher in `teacher_model_type`. Other models name themselves in `model_type`.
    func namesBody(_ teacher: Architecture) -> Bool {
        let name = root["teacher_model_type"]?.string ?? (root["rwkv_architecture"] == nil ? modelType : nil)
        return teacher.isTeacher && teacher.configurationNames.contains { name == ByteString($0) }
    }

    /// A clause that states the architecture's name and the file and key that it comes from.
    var evidence: String {
        let key = root["rwkv_architecture"] == nil ? "model_type" : "rwkv_architecture"
        return "\(path): \(key) \"\(name ?? "")\""
    }

    /// The value of Hugging Face's key `model_type`, or nil if it is missing or not a string.
    public var modelType: ByteString? { root["model_type"]?.string }

    func malformed(_ key: String, expected: String, found: String? = nil) -> CheckpointError {
        CheckpointError(
            .malformed, path: path, "invalid value for \"\(key)\"", expected: expected,
            found: found ?? root[key]?.description)
    }

    /// Returns the Boolean value of a key, or nil if the key is missing or null.
    func flag(_ key: String) throws(CheckpointError) -> Bool? {
        guard let value = root[key], value != .null else { return nil }
        guard let flag = value.bool else { throw malformed(key, expected: "true or false") }
        return flag
    }

    /// Returns the integer value of a key, or nil if the key is missing or null.
    ///
    /// The value must be in ``ModelDimension/plausible``.
    func size(_ key: String) throws(CheckpointError) -> Int? {
        guard let value = root[key], value != .null else { return nil }
        guard let size = value.integer, ModelDimension.plausible ~= size else {
            throw malformed(key, expected: "an integer from 1 to 16777216")
        }
        return size
    }

    /// Returns the numeric value of a key, or nil if the key is missing or null.
    ///
    /// The value must be positive and finite after conversion to fp32.
    func positive(_ key: String) throws(CheckpointError) -> Double? {
        guard let value = root[key], value != .null else { return nil }
        guard let number = value.double, Float(number) > 0, Float(number).isFinite else {
            throw malformed(key, expected: "a positive number in the range of float32")
        }
        return number
    }

    /// Returns the integer value of a key, or `assumed` if the key is missing or null.
    ///
    /// Unlike a size, a count can be zero.
    func count(_ key: String, assumed: Int) throws(CheckpointError) -> Int {
        guard let value = root[key], value != .null else { return assumed }
        guard let count = value.integer, 0...ModelDimension.plausible.upperBound ~= count else {
            throw malformed(key, expected: "an integer from 0 to 16777216")
        }
        return count
    }

    /// Returns the softcap that a key sets, `assumed` if the key is missing, or nil if its value is null.
    func cap(_ key: String, assumed: Double?) throws(CheckpointError) -> Double? {
        root[key] == nil ? assumed : try positive(key)
    }

    /// Returns the string value of a key, or nil if the key is missing or null.
    ///
    /// The value must be one of `words`.
    func choice(_ key: String, of words: [String]) throws(CheckpointError) -> ByteString? {
        guard let value = root[key], value != .null else { return nil }
        guard let word = value.string, words.contains(where: { word == ByteString($0) }) else {
            throw malformed(key, expected: words.joined(separator: " or "))
        }
        return word
    }

    /// Returns the layer indices that a key lists, or nil if the key is missing or null.
    ///
    /// Each index must be less than `count`. RWKVInside writes [-1] for an empty list.
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
    ///   - otherwise: the value to return if `layer_types` is missing or null.
    /// - Returns: true if the layer has a sliding window.
    /// - Throws: `CheckpointError` of category `malformed` if `layer_types` does not have one entry for each layer,
    ///   or if the layer's entry is an unknown type.
    func isWindowed(layer: Int, otherwise: Bool) throws(CheckpointError) -> Bool {
        guard let value = root["layer_types"], value != .null else { return otherwise }
        let kinds = value.array?.map(\.string) ?? []
        let count = try size("num_hidden_layers") ?? kinds.count
        guard !kinds.isEmpty, kinds.count == count else {
            throw malformed(
                "layer_types", expected: "one type for each of \(count) layers",
                found: value.array.map { "\($0.count) types" })
        }
        // A checkpoint can have more layers than its configuration states.
        guard kinds.indices.contains(layer) else { return false }
        switch kinds[layer] {
        case "full_attention", "attention": return false
        case "sliding_attention": return true
        case let kind:
            throw malformed(
                "layer_types", expected: "full_attention or sliding_attention",
                found: "\(kind.map { "\"\($0)\"" } ?? "a value that is not a string") for layer \(layer)")
        }
    }

    /// Returns the length of the sliding window: the number of tokens that a query attends to, including its own.
    ///
    /// - Parameter assumed: the length to use if `sliding_window` is missing, or nil to require the key.
    /// - Returns: the length in tokens, which is at least 1.
    /// - Throws: `CheckpointError` of category `malformed` if `sliding_window` is required but missing, is null, or
    ///   is not a number of tokens.
    func window(assumed: Int? = nil) throws(CheckpointError) -> Int {
        guard let window = try root["sliding_window"] == nil ? assumed : size("sliding_window") else {
            throw malformed("sliding_window", expected: "a number of tokens, because some layers have a sliding window")
        }
        return window
    }

    /// Returns the text model's configuration if `root` describes a multimodal model; otherwise `root` itself.
    private static func textConfiguration(_ root: JSONValue) -> JSONValue {
        guard case .object(let whole) = root, case .object(var text)? = root["text_config"] else { return root }
        // In multimodal models, transformers reads tie_word_embeddings only from the top level (models/gemma3).
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

    /// Returns an architecture's sizes from the configuration, with transformers' defaults for sizes that it does not
    /// set.
    func dimensions(of architecture: Architecture) throws(CheckpointError) -> ModelDimensions {
        var sizes: [ModelDimension: Int] = [:]
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
        var dimensions = ModelDimensions(sizes)
        for (dimension, other) in architecture.impliedSizes where dimensions[dimension] == nil {
            dimensions[dimension] = dimensions[other]
        }
        return dimensions
    }
}
