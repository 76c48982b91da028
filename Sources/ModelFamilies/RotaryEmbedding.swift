package import CheckpointFiles
public import CheckpointJSON

/// The rotation of queries and keys by position: as config.json gives it, whichever keys that transformers has used.
public struct RotaryEmbedding: Sendable, Hashable {
    /// The base of the wavelengths.
    public let theta: Double
    /// `default`, `linear`, `llama3`, `yarn`, ...: how wavelengths are stretched.
    public let type: ByteString
    /// The numbers that the type goes by: `factor`, ...
    public let parameters: [ByteString: Double]
    /// Those that it has for each wavelength: `long_factor`, ...
    public let lists: [ByteString: [Double]]

    /// Whether channels 2i and 2i + 1 of a head are turned together, not i and i + R/2.
    public let turnsNeighbours: Bool

    /// Those that can be computed.
    public static let knownTypes: Set<ByteString> = ["default", "linear", "dynamic", "llama3", "yarn", "longrope"]

    /// The rotation without anything stretched.
    public var plain: RotaryEmbedding {
        let part = parameters["partial_rotary_factor"].map { ["partial_rotary_factor" as ByteString: $0] }
        return RotaryEmbedding(
            theta: theta, type: "default", parameters: part ?? [:], lists: [:], turnsNeighbours: turnsNeighbours)
    }

    /// The rotation as time mixing has it: where neighbours are turned, all channels of a head, i with i + N/2.
    ///
    /// The published classes of such students do not know any other (RWKVInside, rwkv_inside/TimeMixer.py).
    public var ofTimeMixing: RotaryEmbedding {
        guard turnsNeighbours else { return self }
        var parameters = parameters
        parameters["partial_rotary_factor"] = nil
        return RotaryEmbedding(theta: theta, type: type, parameters: parameters, lists: lists, turnsNeighbours: false)
    }

    private init(
        theta: Double, type: ByteString, parameters: [ByteString: Double], lists: [ByteString: [Double]],
        turnsNeighbours: Bool
    ) {
        (self.theta, self.type, self.parameters, self.lists) = (theta, type, parameters, lists)
        self.turnsNeighbours = turnsNeighbours
    }

    /// All of it, in one line.
    package var text: String {
        let numbers = parameters.sorted { $0.key < $1.key }.map { " \($0.key) \($0.value)" }.joined()
        let lists = lists.sorted { $0.key < $1.key }.map { " \($0.key) \($0.value)" }.joined()
        return "\(theta) \(type)\(numbers)\(lists)\(turnsNeighbours ? " of neighbours" : "")"
    }

    /// Wavelengths by theta alone.
    public init(theta: Double) {
        self.init(theta: theta, type: "default", parameters: [:], lists: [:], turnsNeighbours: false)
    }

    /// The rotation that a configuration speaks of; nil where it gives none.
    ///
    /// - Parameters:
    ///   - configuration: in whatever form.
    ///   - body: what its family assumes where it says nothing.
    ///   - layerType: the kind of layers that it is of, where those have rotations of their own.
    ///   - thetaKey: where older files keep the base.
    ///   - assumedTheta: the base where nothing says it; nil for what the family assumes.
    /// - Throws: ``CheckpointError`` of category `malformed`.
    package init?(
        _ configuration: ModelConfiguration, of body: DecoderBody, layerType: String = "full_attention",
        thetaKey: String = "rope_theta", assumedTheta: Double? = nil
    ) throws(CheckpointError) {
        let root = configuration.root
        // transformers 5 keeps all in rope_parameters, those before it theta apart from rope_scaling, which still counts.
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
                    // Older files scale layers of full attention alone; newer ones have a rotation for each kind.
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
        turnsNeighbours = body.turnsNeighbours
        let type = members["rope_type"] ?? members["type"] ?? .string("default")
        guard let written = type.string else { throw configuration.malformed("rope_type", expected: "text") }
        let name = body.rotaryTypeAliases[written] ?? written
        self.type = name
        var parameters = members.compactMapValues { $0.double ?? $0.bool.map { $0 ? 1 : 0 } }
        parameters["rope_theta"] = nil
        // As Python has it, null is no truth.
        if members["truncate"] == .null { parameters["truncate"] = 0 }
        let said = [members["partial_rotary_factor"], root["partial_rotary_factor"]].compactMap { $0 }.first ?? .null
        let part = said == .null && body.assumedRotaryPart != 1 ? .number(body.assumedRotaryPart) : said
        if part != .null, !((part.double ?? 0) > 0 && (part.double ?? 0) <= 1) {
            throw configuration.malformed("partial_rotary_factor", expected: "a number above zero, and 1 at the most")
        }
        parameters["partial_rotary_factor"] = part.double
        if parameters["partial_rotary_factor"] == 1 { parameters["partial_rotary_factor"] = nil }
        // Some keep these beside the rotation; the lengths of pretraining count more there.
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
                    .malformed, path: configuration.path, "the rotation of type \"\(name)\" has no \(parameter)",
                    expected: "a number above zero", found: members[parameter]?.description)
            }
        }
        if name == "llama3", let low = parameters["low_freq_factor"], let high = parameters["high_freq_factor"],
            low >= high
        {
            throw CheckpointError(
                .malformed, path: configuration.path,
                "the rotation of type \"llama3\" has a low_freq_factor that is not below its high_freq_factor",
                found: "\(low) and \(high)")
        }
        self.parameters = parameters
        var lists: [ByteString: [Double]] = [:]
        for key: ByteString in name == "longrope" ? ["short_factor", "long_factor"] : [] {
            let list = members[key]?.array?.compactMap(\.double) ?? []
            guard !list.isEmpty, list.count == members[key]?.array?.count, list.allSatisfy({ $0 > 0 && $0.isFinite })
            else {
                throw CheckpointError(
                    .malformed, path: configuration.path, "the rotation of type \"\(name)\" has no \(key)",
                    expected: "numbers above zero", found: members[key]?.description)
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
