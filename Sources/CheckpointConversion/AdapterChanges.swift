import Bytes
import CheckpointFiles
import CheckpointJSON
import ModelFamilies

/// The changes that an adapter makes to the tensors of a model.
struct AdapterChanges {
    /// The merges of adapter matrices, keyed by the position of the changed weight in the model's checkpoint.
    private(set) var merges: [Int: WeightMerge] = [:]
    /// The adapter tensors that replace model tensors, keyed by the position of the replaced tensor.
    private(set) var replacements: [Int: Conversion.InputTensor] = [:]

    /// Creates an empty set of changes.
    init() {}

    /// Creates the changes by finding the model tensor that each of the adapter's tensors changes.
    ///
    /// - Parameters:
    ///   - adapter: the adapter's checkpoint, in the format of peft or RWKVInside.
    ///   - source: the model that the adapter was trained on.
    ///   - scale: the LoRA scale s in W + s B A, for adapters without adapter_config.json.
    ///   - mayBeUnused: returns whether the adapter tensor with the given name can be ignored if the model does not
    ///     have the tensor that it changes.
    /// - Throws: `CheckpointError`: `malformed` if shapes, names or settings are invalid, `unsupported` if merging is
    ///   not implemented for this adapter, or `inputOutput` if adapter_config.json cannot be read.
    init(
        _ adapter: Checkpoint, on source: ConversionInput, scale: Double?, mayBeUnused: (String) -> Bool
    ) throws(CheckpointError) {
        let configuration = try PEFTConfiguration(adapter)
        let tensors = adapter.tensors
        var modules: [Int: [Adapter.Part: Int]] = [:]
        /// The weights that peft has saved in full in addition to their LoRA matrices.
        var baseLayers: Set<Int> = []
        for position in tensors.indices {
            let name = tensors[position].name
            let split = Adapter.split(name)
            var weight = split.map { $0.module + ".weight" } ?? name[...]
            // Remove the parts that peft's wrappers add to names: a prefix for the model, and a component for each
            // changed layer.
            weight = weight.dropping(prefix: "base_model.model.") ?? weight
            let bytes = Array(weight.utf8).replacing(".base_layer.".utf8, with: ".".utf8)
            let plain = String(decoding: bytes, as: UTF8.self)
            guard let target = source.position(ofTensor: plain) else {
                if mayBeUnused(name) { continue }
                throw CheckpointError(
                    .malformed, path: adapter.path, "the adapter changes a tensor that the model does not have",
                    tensor: name,
                    expected: "a tensor of \(source.checkpoint.path)", found: plain)
            }
            if let part = split?.part {
                guard modules[target, default: [:]].updateValue(position, forKey: part) == nil else {
                    throw CheckpointError(
                        .malformed, path: adapter.path, "a weight is changed twice", tensor: name)
                }
            } else {
                let new = tensors[position]
                let old = source.checkpoint.tensors[target]
                // Shapes such as [1, 1, n] and [n] describe the same vector.
                guard new.shape.drop(while: { $0 == 1 }) == old.shape.drop(while: { $0 == 1 }) else {
                    throw CheckpointError(
                        .malformed, path: adapter.path, "the adapter replaces a tensor with one of a different shape",
                        tensor: name,
                        expected: "\(old.shape)", found: "\(new.shape)")
                }
                let tensor = Conversion.InputTensor(part: .adapter, position: position)
                guard replacements.updateValue(tensor, forKey: target) == nil else {
                    throw CheckpointError(
                        .malformed, path: adapter.path, "the adapter replaces a tensor twice", tensor: name)
                }
                if weight.utf8.contains(".base_layer.".utf8) { baseLayers.insert(target) }
            }
        }
        if modules.isEmpty, replacements.isEmpty {
            throw CheckpointError(.malformed, path: adapter.path, "the adapter changes nothing")
        }
        for (target, parts) in modules.sorted(by: { $0.key < $1.key }) {
            if let replacement = replacements[target], !baseLayers.contains(target) {
                throw CheckpointError(
                    .malformed, path: adapter.path, "a weight is both replaced and changed",
                    tensor: tensors[replacement.position].name)
            }
            merges[target] = try Self.merge(
                parts, into: source.checkpoint.tensors[target], adapter, configuration, scale: scale)
        }
    }

    private static func merge(
        _ parts: [Adapter.Part: Int], into weight: TensorInfo, _ adapter: Checkpoint,
        _ configuration: PEFTConfiguration?, scale: Double?
    ) throws(CheckpointError) -> WeightMerge {
        let tensors = adapter.tensors
        func error(_ problem: String, _ tensor: TensorInfo) -> CheckpointError {
            CheckpointError(.malformed, path: adapter.path, problem, tensor: tensor.name)
        }
        func shapeError(_ problem: String, _ tensor: TensorInfo, expected: String) -> CheckpointError {
            CheckpointError(
                .malformed, path: adapter.path, problem, tensor: tensor.name, expected: expected,
                found: "\(tensor.shape)")
        }
        let infos = parts.mapValues { tensors[$0] }
        for info in infos.values.sorted(by: { ByteString($0.name) < ByteString($1.name) })
        where info.dtype.floatElement == nil {
            throw CheckpointError(
                .unsupported, path: adapter.path, "the adapter's tensor does not have a floating-point dtype",
                tensor: info.name,
                found: info.dtype.rawValue)
        }
        guard weight.shape.count == 2, weight.shape.allSatisfy({ $0 > 0 }), weight.shape[1] <= WeightMerge.columnLimit,
            weight.dtype.floatElement != nil
        else { throw error("the adapter changes a tensor that is not a floating-point matrix", weight) }
        let (rows, columns) = (weight.shape[0], weight.shape[1])
        for part in [Adapter.Part.down, .bone, .magnitude] {
            guard let info = infos[part], info.elementCount > WeightMerge.elementLimit else { continue }
            throw CheckpointError(
                .unsupported, path: adapter.path, "the tensor is too large to be merged", tensor: info.name,
                expected: "at most \(WeightMerge.elementLimit) elements", found: "\(info.elementCount)")
        }
        func input(_ part: Adapter.Part) -> Conversion.InputTensor? {
            parts[part].map { Conversion.InputTensor(part: .adapter, position: $0) }
        }
        if let bone = infos[.bone], let first = input(.bone) {
            guard parts.count == 1 else { throw error("the adapter changes a weight with both Bone and LoRA", bone) }
            let formula = try boneFormula(bone, rows, columns, configuration, shapeError)
            return WeightMerge(formula: formula, first: first, second: nil, magnitude: nil)
        }
        guard let down = infos[.down], let up = infos[.up], let first = input(.down), let second = input(.up) else {
            let missing = infos[.down] == nil ? "A" : "B"
            throw error(
                "the LoRA matrix \(missing) is missing",
                infos.values.min { ByteString($0.name) < ByteString($1.name) } ?? weight)
        }
        guard down.shape.count == 2, down.shape[1] == columns, 1...min(rows, columns) ~= down.shape[0] else {
            throw shapeError(
                "the shape of the LoRA matrix A does not fit the weight", down,
                expected: "[rank, \(columns)] with a rank of 1 to \(min(rows, columns))")
        }
        let rank = down.shape[0]
        guard up.shape == [rows, rank] else {
            throw shapeError(
                "the shape of the LoRA matrix B does not fit the weight", up, expected: "[\(rows), \(rank)]")
        }
        let own: Float
        if let configuration {
            own = try configuration.scale(of: down.name, rank: rank)
        } else if let scale {
            own = Float(scale)
        } else {
            throw CheckpointError(
                .unsupported, path: adapter.path, "the adapter does not record its LoRA scale", tensor: down.name,
                advice: "set it with --adapter-scale; RWKVInside's trainer uses 0.5 by default")
        }
        guard own.isFinite else { throw error("the LoRA scale does not fit into fp32", down) }
        guard let magnitude = infos[.magnitude] else {
            if configuration?.usesMagnitudes == true { throw error("the DoRA magnitudes are missing", down) }
            return WeightMerge(formula: .lora(scale: own), first: first, second: second, magnitude: nil)
        }
        let isOfRows = configuration != nil
        guard magnitude.elementCount == (isOfRows ? rows : columns) else {
            throw shapeError(
                "the DoRA magnitudes do not match the \(isOfRows ? "rows" : "columns") of the weight", magnitude,
                expected: "\(isOfRows ? rows : columns) elements")
        }
        return WeightMerge(
            formula: isOfRows ? .rowScaled(scale: own) : .columnScaled(scale: own), first: first,
            second: second, magnitude: input(.magnitude))
    }

    private static func boneFormula(
        _ bone: TensorInfo, _ rows: Int, _ columns: Int, _ configuration: PEFTConfiguration?,
        _ shapeError: (String, TensorInfo, String) -> CheckpointError
    ) throws(CheckpointError) -> WeightMerge.Formula {
        if bone.shape.count == 3 {
            let rank = bone.shape[1]
            let blocks = configuration == nil ? columns : rows
            guard rank > 0, rows % rank == 0, columns % rank == 0, bone.shape == [blocks / rank, rank, rank] else {
                throw shapeError("the Bone blocks do not cover the weight", bone, "[\(blocks) / rank, rank, rank]")
            }
            return configuration == nil ? .blocksByColumn : .blocksByRow
        }
        guard configuration != nil, bone.shape.count == 2, 1...columns ~= bone.shape[0], bone.shape[1] > 0,
            rows % bone.shape[1] == 0
        else { throw shapeError("the Bone blocks do not cover the weight", bone, "[rank, \(rows)]") }
        return .blocksAdded
    }
}

extension ConversionInput {
    /// Returns the position of the tensor with the given name, in this checkpoint or in another layout of its model;
    /// nil if there is none.
    func position(ofTensor name: String) -> Int? {
        if let position = checkpoint.position(ofTensorNamed: name) { return position }
        guard let model else { return nil }
        for layout in model.architecture.layouts {
            // Accept only a layout that transposes and fuses the matrix in the same way as this checkpoint's layout.
            for place in layout.places(ofTensor: name)
            where layout.isTransposed(place.role) == model.layout?.isTransposed(place.role)
                && layout.fusion(of: place.role) == model.layout?.fusion(of: place.role)
            {
                if let binding = model.bindings[place] { return binding.position }
            }
        }
        return nil
    }
}

/// The settings in peft's adapter_config.json that merging needs.
private struct PEFTConfiguration {
    private let root: JSONValue
    private let path: String
    let usesMagnitudes: Bool
    private let isRankStabilised: Bool

    /// Creates the configuration from the adapter_config.json next to an adapter, or returns nil if peft did not write
    /// the adapter.
    init?(_ adapter: Checkpoint) throws(CheckpointError) {
        guard adapter.tensors.contains(where: { $0.name.dropping(prefix: "base_model.") != nil }) else { return nil }
        guard let file = try ModelConfiguration(beside: adapter, named: "adapter_config.json") else {
            throw CheckpointError(
                .unsupported, path: adapter.path, "there is no adapter_config.json next to the peft adapter",
                advice: "it records the adapter's scale and form")
        }
        root = file.root
        path = file.path
        let flags = ["use_dora", "use_rslora"].map { file.root[$0] ?? .null }
        guard flags.allSatisfy({ $0 == .null || $0.bool != nil }) else {
            throw CheckpointError(.malformed, path: path, "use_dora and use_rslora must be true or false")
        }
        (usesMagnitudes, isRankStabilised) = (flags[0].bool == true, flags[1].bool == true)
        let type = root["peft_type"]?.string ?? ""
        guard ["LORA", "BONE", "MISS"].contains(type) else {
            throw CheckpointError(
                .unsupported, path: path, "merging is not implemented for this type of adapter", found: type.text)
        }
        // With any other initialisation, peft changes the base model before training, so it differs from the given
        // model.
        let beginnings: [ByteString] = ["gaussian", "eva", "orthogonal", "bat", "mini"]
        for key in ["init_lora_weights", "init_weights"] {
            if let value = root[key]?.string, !beginnings.contains(value) {
                throw CheckpointError(
                    .unsupported, path: path, "the adapter's initialisation changed the base model (\(key))",
                    found: value.text,
                    advice: "have peft save it as an adapter of the original base model")
            }
        }
        // These settings change the formula in ways that the tensors do not show.
        for key in ["fan_in_fan_out", "layer_replication", "alora_invocation_tokens", "arrow_config", "use_bdlora"] {
            let value = root[key] ?? .null
            guard [.null, .bool(false), .array([])].contains(value) else {
                throw CheckpointError(
                    .unsupported, path: path, "merging is not implemented for adapters with \"\(key)\"")
            }
        }
    }

    /// Returns the LoRA scale s in W + s B A: alpha / r, or alpha / sqrt(r) with `use_rslora`.
    func scale(of tensor: String, rank: Int) throws(CheckpointError) -> Float {
        var alpha = root["lora_alpha"]?.double
        if case .object(let patterns) = root["alpha_pattern"] {
            let module = Adapter.split(tensor).map { String($0.module) } ?? tensor
            // peft reads keys as regular expressions but writes plain names. If several keys match, it uses the first
            // one in the file, but `JSONValue` does not keep that order.
            var found: Set<JSONValue> = []
            for (pattern, value) in patterns.sorted(by: { $0.key < $1.key }).map({ ($0.key.text, $0.value) }) {
                guard pattern.utf8.allSatisfy({ $0 == 0x2E || $0 == 0x5F || $0.isAlphanumeric }) else {
                    throw CheckpointError(
                        .unsupported, path: path, "a key of alpha_pattern is not a plain name", found: pattern)
                }
                if let rest = module.dropping(suffix: pattern), rest.isEmpty || rest.utf8.last == UInt8(ascii: ".") {
                    alpha = value.double
                    found.insert(value)
                }
            }
            guard found.count < 2 else {
                throw CheckpointError(
                    .unsupported, path: path, "alpha_pattern has several values for a module", tensor: tensor)
            }
        }
        guard let alpha, alpha.isFinite else {
            throw CheckpointError(
                .malformed, path: path, "the alpha of this module is missing or not a finite number", tensor: tensor)
        }
        return Float(alpha / (isRankStabilised ? Double(rank).squareRoot() : Double(rank)))
    }
}

extension UInt8 {
    /// Whether the byte is an ASCII letter or digit.
    fileprivate var isAlphanumeric: Bool {
        UInt8(ascii: "0")...UInt8(ascii: "9") ~= self || UInt8(ascii: "a")...UInt8(ascii: "z") ~= self | 0x20
    }
}
