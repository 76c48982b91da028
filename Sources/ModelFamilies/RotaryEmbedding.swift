public import Bytes
import CheckpointFiles
import CheckpointJSON

/// The parameters of a rotary position embedding (RoPE).
///
/// They can be read from the config.json keys of any version of transformers.
public struct RotaryEmbedding: Sendable, Hashable {
    /// The base of the rotation frequencies.
    public let theta: Double
    /// The type of RoPE scaling, such as `default`, `linear`, `llama3` or `yarn`.
    public let type: ByteString
    /// The scalar parameters, such as `factor`.
    public let parameters: [ByteString: Double]
    /// The parameters that have one value for each rotated pair of channels, such as `long_factor`.
    public let lists: [ByteString: [Double]]

    /// Whether RoPE rotates channels 2i and 2i + 1 of a head as a pair.
    ///
    /// Otherwise it pairs channels i and i + R/2, where R is the number of rotated channels.
    public let isInterleaved: Bool

    /// The types of RoPE scaling that are implemented.
    public static let knownTypes: Set<ByteString> = ["default", "linear", "dynamic", "llama3", "yarn", "longrope"]

    /// The same rotary embedding without RoPE scaling.
    public var plain: RotaryEmbedding {
        let part = parameters["partial_rotary_factor"].map { ["partial_rotary_factor" as ByteString: $0] }
        return RotaryEmbedding(
            theta: theta, type: "default", parameters: part ?? [:], lists: [:], isInterleaved: isInterleaved)
    }

    /// The rotary embedding that time mixing uses in place of this one.
    ///
    /// If this rotary embedding is interleaved, time mixing instead rotates the entire head and pairs channel i with
    /// channel i + N/2. The published student classes implement no other pairing (RWKVInside,
    /// rwkv_inside/TimeMixer.py).
    public var ofTimeMixing: RotaryEmbedding {
        guard isInterleaved else { return self }
        var parameters = parameters
        parameters["partial_rotary_factor"] = nil
        return RotaryEmbedding(theta: theta, type: type, parameters: parameters, lists: lists, isInterleaved: false)
    }

    private init(
        theta: Double, type: ByteString, parameters: [ByteString: Double], lists: [ByteString: [Double]],
        isInterleaved: Bool
    ) {
        (self.theta, self.type, self.parameters, self.lists) = (theta, type, parameters, lists)
        self.isInterleaved = isInterleaved
    }

    /// All parameters on one line, as part of ``ModelDescription/identity``.
    package var text: String {
        let numbers = parameters.sorted { $0.key < $1.key }.map { " \($0.key) \($0.value)" }.joined()
        let lists = lists.sorted { $0.key < $1.key }.map { " \($0.key) \($0.value)" }.joined()
        return "\(theta) \(type)\(numbers)\(lists)\(isInterleaved ? " of neighbours" : "")"
    }

    /// Creates a rotary embedding that rotates all channels of a head, without RoPE scaling.
    public init(theta: Double) {
        self.init(theta: theta, type: "default", parameters: [:], lists: [:], isInterleaved: false)
    }

    /// Reads the rotary embedding from a configuration.
    ///
    /// Returns nil if neither the configuration nor the family specifies a base.
    ///
    /// - Parameters:
    ///   - configuration: a config.json with the keys of any version of transformers.
    ///   - body: the family's body, which provides defaults for values that the configuration does not set.
    ///   - layerType: the layer type, as in `layer_types`, whose rotary embedding is read if each type has its own.
    ///   - thetaKey: the top-level key of the base, which older files use.
    ///   - assumedTheta: the base to use if no key sets it, or nil to use the family's default.
    /// - Throws: `CheckpointError` of category `malformed` if a parameter is missing or invalid.
    package init?(
        _ configuration: ModelConfiguration, of body: DecoderBody, layerType: String = "full_attention",
        thetaKey: String = "rope_theta", assumedTheta: Double? = nil
    ) throws(CheckpointError) {
        let root = configuration.root
        // transformers 5 keeps all parameters in rope_parameters; earlier versions keep theta outside rope_scaling.
        var members: [ByteString: JSONValue] = [:]
        for key in ["rope_parameters", "rope_scaling"] {
            switch root[key] ?? .null {
            case .null: break
            case .object(let object):
                let kinds = ["full_attention", "sliding_attention"].compactMap { object[$0] }
                guard kinds.allSatisfy({ $0 == .null || $0.object != nil }) else {
                    throw configuration.malformed(key, expected: "an object for each kind of layer")
                }
                if let own = object[ByteString(layerType)]?.object {
                    members.merge(own) { $1 }
                } else if layerType == "full_attention" {
                    // In older files, rope_scaling applies only to full-attention layers. Newer files have one object
                    // for each layer type.
                    guard !body.hasRotationsByKind || key == "rope_scaling" || !kinds.isEmpty || object.isEmpty else {
                        throw configuration.malformed(key, expected: "full_attention and sliding_attention")
                    }
                    members.merge(object) { $1 }
                }
            default: throw configuration.malformed(key, expected: "an object")
            }
        }
        let theta = [members["rope_theta"], root[thetaKey]].compactMap { $0 == .null ? nil : $0 }.first
        guard let theta = theta ?? (assumedTheta ?? body.assumedTheta).map({ .number($0) }) else { return nil }
        guard let theta = theta.double, theta > 0, theta.isFinite else {
            throw configuration.malformed(thetaKey, expected: "a number above zero")
        }
        self.theta = theta
        isInterleaved = body.isInterleaved
        let type = members["rope_type"] ?? members["type"] ?? .string("default")
        guard let written = type.string else { throw configuration.malformed("rope_type", expected: "a string") }
        let name = body.ropeTypeAliases[written] ?? written
        self.type = name
        var parameters = members.compactMapValues { $0.double ?? $0.bool.map { $0 ? 1 : 0 } }
        parameters["rope_theta"] = nil
        // null counts as false, as in Python.
        if members["truncate"] == .null { parameters["truncate"] = 0 }
        let said = [members["partial_rotary_factor"], root["partial_rotary_factor"]].compactMap { $0 }.first ?? .null
        let part =
            said == .null && body.assumedPartialRotaryFactor != 1 ? .number(body.assumedPartialRotaryFactor) : said
        if part != .null, !((part.double ?? 0) > 0 && (part.double ?? 0) <= 1) {
            throw configuration.malformed("partial_rotary_factor", expected: "a number above 0 and at most 1")
        }
        parameters["partial_rotary_factor"] = part.double
        if parameters["partial_rotary_factor"] == 1 { parameters["partial_rotary_factor"] = nil }
        // Some files set the original length at the top level, where it takes precedence over rope_scaling.
        let maximum = try configuration.positive("max_position_embeddings")
        if ["dynamic", "longrope"].contains(name) { parameters["max_position_embeddings"] = maximum }
        if ["llama3", "yarn", "longrope"].contains(name) {
            parameters["original_max_position_embeddings"] =
                try configuration.positive("original_max_position_embeddings") ?? body.assumedOriginalLength
                ?? parameters["original_max_position_embeddings"] ?? maximum
        }
        for parameter in Self.requiredParameters[name] ?? [] {
            guard let value = parameters[parameter], value > 0, value.isFinite else {
                throw CheckpointError(
                    .malformed, path: configuration.path, "rope_type \"\(name)\" requires \(parameter)",
                    expected: "a number above zero", found: members[parameter]?.description)
            }
        }
        if name == "llama3", let low = parameters["low_freq_factor"], let high = parameters["high_freq_factor"],
            low >= high
        {
            throw CheckpointError(
                .malformed, path: configuration.path,
                "rope_type \"llama3\" requires a low_freq_factor below its high_freq_factor",
                found: "\(low) and \(high)")
        }
        self.parameters = parameters
        var lists: [ByteString: [Double]] = [:]
        for key: ByteString in name == "longrope" ? ["short_factor", "long_factor"] : [] {
            let list = members[key]?.array?.compactMap(\.double) ?? []
            guard !list.isEmpty, list.count == members[key]?.array?.count, list.allSatisfy({ $0 > 0 && $0.isFinite })
            else {
                throw CheckpointError(
                    .malformed, path: configuration.path, "rope_type \"\(name)\" requires \(key)",
                    expected: "a list of numbers above zero", found: members[key]?.description)
            }
            lists[key] = list
        }
        self.lists = lists
    }

    private static let requiredParameters: [ByteString: [ByteString]] = [
        "linear": ["factor"], "yarn": ["factor", "original_max_position_embeddings"],
        "dynamic": ["factor", "max_position_embeddings"],
        "longrope": ["max_position_embeddings", "original_max_position_embeddings"],
        "llama3": ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
    ]
}
