public import Bytes
import CheckpointJSON

/// A tensor to write to a checkpoint.
public struct OutputTensor: Sendable, Hashable {
    /// The name of the tensor.
    public let name: String
    /// The type of the elements.
    public let dtype: DType
    /// The dimensions, outermost first.
    public let shape: [Int]
    /// The total size of the elements in bytes.
    public let byteCount: Int
    /// The index of an earlier tensor with the same bytes, which are then stored only once, or nil if there is none.
    public let sharedWith: Int?

    /// Creates a tensor to write to a checkpoint.
    ///
    /// - Parameters:
    ///   - name: the name of the tensor.
    ///   - dtype: the type of the elements.
    ///   - shape: the dimensions, outermost first.
    ///   - sharedWith: the index of an earlier tensor with the same bytes, or nil if there is none.
    /// - Throws: ``DType/SizeError`` if the size of the elements overflows or is not a whole number of bytes.
    public init(name: String, dtype: DType, shape: [Int], sharedWith: Int? = nil) throws(DType.SizeError) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.sharedWith = sharedWith
        byteCount = try dtype.byteCount(of: shape)
    }
}

/// The files of a checkpoint and their byte layouts, computed before anything is written.
public struct CheckpointByteLayout: Sendable {
    /// A file format that this library can write.
    public enum Container: String, Sendable {
        case safetensors
        /// A zip archive in the format of `torch.save`.
        case pyTorch = "pytorch"
    }

    struct File: Sendable {
        let name: String
        let byteLayout: any FileByteLayout
        /// The indices in ``CheckpointByteLayout/tensors`` of the tensors whose bytes are in this file, in the order of
        /// ``FileByteLayout/ranges``.
        let tensors: [Int]
    }

    /// All tensors of the checkpoint.
    public let tensors: [OutputTensor]
    let files: [File]
    /// The shard index in the format of transformers, or nil if there is only one file.
    let shardIndex: [UInt8]?

    /// The index of each tensor's file, and the position of the tensor in that file.
    private let places: [(file: Int, place: Int)]

    /// The total uncompressed size of all files in bytes, including the shard index.
    public var byteCount: Int { files.reduce(shardIndex?.count ?? 0) { $0.adding(clamped: $1.byteLayout.byteCount) } }

    /// The names of the files that contain tensors, in order.
    public var fileNames: [String] { files.map(\.name) }

    /// Returns the index in ``fileNames`` of the file that contains a tensor.
    public func file(ofTensor number: Int) -> Int { places[number].file }

    /// Returns the index of a tensor's file, and the position of the tensor in that file.
    func place(ofTensor number: Int) -> (file: Int, place: Int) { places[number] }

    /// Creates the layout of a checkpoint in a single file.
    ///
    /// - Parameters:
    ///   - tensors: the tensors, which a PyTorch file lists in this order.
    ///   - container: the file format.
    ///   - name: the name of the file.
    ///   - metadata: the `__metadata__` of a safetensors file.
    /// - Throws: `CheckpointError` of category `unsupported` if the file format cannot hold the tensors.
    public init(
        _ tensors: [OutputTensor], container: Container, name: String, metadata: [ByteString: String] = [:]
    ) throws(CheckpointError) {
        try Self.checkSize(of: tensors, path: name)
        try self.init(tensors, container: container, metadata, groups: [(name, Array(tensors.indices))])
    }

    /// Creates the layout of a safetensors checkpoint: `model.safetensors`, or shards and an index if one file would be
    /// too large.
    ///
    /// The tensors are split in the same way as in transformers 5. They are added to a shard in the natural order of
    /// their names, and a new shard begins when the next tensor would make the shard too large.
    ///
    /// - Parameters:
    ///   - tensors: the tensors, in any order.
    ///   - shardByteCount: the maximum total size of the tensors in a file, in bytes; a larger tensor gets its own
    ///     file.
    ///   - metadata: the `__metadata__` of each file.
    /// - Throws: `CheckpointError` of category `unsupported` if safetensors files cannot hold the tensors, or if
    ///   there would be too many shards.
    public init(
        _ tensors: [OutputTensor], shardByteCount: Int, metadata: [ByteString: String] = [:]
    ) throws(CheckpointError) {
        try Self.checkSize(of: tensors, path: "model.safetensors")
        let order = tensors.indices.map { ($0, Array(tensors[$0].name.utf8)) }
            .sorted { naturallyPrecedes($0.1, $1.1) }.map(\.0)
        var shards: [[Int]] = []
        var current: [Int] = []
        var size = 0
        for number in order where tensors[number].sharedWith == nil {
            let byteCount = tensors[number].byteCount
            if byteCount > shardByteCount {
                shards.append([number])
                continue
            }
            if size.adding(clamped: byteCount) > shardByteCount {
                shards.append(current)
                (current, size) = ([], 0)
            }
            current.append(number)
            size += byteCount
        }
        if !current.isEmpty || shards.isEmpty { shards.append(current) }
        guard shards.count <= Self.shardLimit else {
            throw CheckpointError(
                .unsupported, path: "model.safetensors",
                "the checkpoint would have more shards than this library reads",
                expected: "at most \(Self.shardLimit)", found: "\(shards.count)")
        }
        var shardOfTensor: [Int: Int] = [:]
        for (index, shard) in shards.enumerated() {
            for number in shard { shardOfTensor[number] = index }
        }
        // A tensor that shares another's bytes is recorded in the shard that contains those bytes.
        for (number, tensor) in tensors.enumerated() {
            if let other = tensor.sharedWith, let shard = shardOfTensor[other] { shards[shard].append(number) }
        }
        let count = Self.fiveDigits(shards.count)
        try self.init(
            tensors, container: .safetensors, metadata,
            groups: shards.enumerated().map { index, shard in
                let suffix = shards.count == 1 ? "" : "-\(Self.fiveDigits(index + 1))-of-\(count)"
                return ("model\(suffix).safetensors", shard)
            })
    }

    private init(
        _ tensors: [OutputTensor], container: Container, _ metadata: [ByteString: String],
        groups: [(name: String, tensors: [Int])]
    ) throws(CheckpointError) {
        for tensor in tensors where !container.holds(tensor) {
            throw CheckpointError(
                .unsupported, path: groups[0].name,
                "a \(container.rawValue) file cannot hold a tensor of this dtype, shape and name",
                tensor: tensor.name, found: "\(tensor.dtype.rawValue) \(tensor.shape)")
        }
        var files: [File] = []
        var places = tensors.map { _ in (file: 0, place: 0) }
        for (name, numbers) in groups {
            var own = numbers.filter { tensors[$0].sharedWith == nil }
            let byteLayout: any FileByteLayout
            switch container {
            case .safetensors:
                own = SafetensorsByteLayout.sorted(own, of: tensors)
                // Record the names of dropped duplicates in the metadata, as the safetensors library does.
                let dropped = numbers.compactMap { number in
                    tensors[number].sharedWith.map { (tensors[number].name, tensors[$0].name) }
                }
                var pairs = metadata.merging(["format": "pt"]) { own, _ in own }
                for (name, other) in dropped { pairs[ByteString(name)] = other }
                byteLayout = try SafetensorsByteLayout(own.map { tensors[$0] }, metadata: pairs, path: name)
            case .pyTorch: byteLayout = PyTorchByteLayout(numbers.map { tensors[$0] })
            }
            for (place, number) in own.enumerated() { places[number] = (files.count, place) }
            files.append(File(name: name, byteLayout: byteLayout, tensors: own))
        }
        for (number, tensor) in tensors.enumerated() {
            if let other = tensor.sharedWith { places[number] = places[other] }
        }
        shardIndex = files.count > 1 ? Self.index(of: files, tensors) : nil
        self.tensors = tensors
        self.files = files
        self.places = places
    }

    /// The maximum total size of the tensors in bytes.
    ///
    /// The limit is larger than any disk, but small enough that adding the other bytes of a file cannot overflow.
    private static let byteLimit = 1 << 62

    private static func checkSize(of tensors: [OutputTensor], path: String) throws(CheckpointError) {
        let byteCount = tensors.reduce(0) { $0.adding(clamped: $1.byteCount) }
        guard byteCount <= byteLimit else {
            throw CheckpointError(
                .unsupported, path: path, "the tensors take more bytes than any disk can hold",
                expected: "at most \(byteLimit)", found: byteCount == .max ? "more than \(Int.max)" : "\(byteCount)")
        }
    }

    private static let shardLimit = ReadLimits.standard.shards

    /// The file name of the shard index.
    public static let indexName = "model.safetensors.index.json"

    /// Returns whether a file name is `model.safetensors` or the name of one of its shards.
    public static func isShard(_ name: String) -> Bool {
        var pattern = ""
        for character in name { pattern.append(character.isWholeNumber && character.isASCII ? "#" : character) }
        return pattern == "model.safetensors" || pattern == "model-#####-of-#####.safetensors"
    }

    private static func fiveDigits(_ number: Int) -> String {
        String(repeating: "0", count: max(0, 5 - "\(number)".count)) + "\(number)"
    }

    private static func index(of files: [File], _ tensors: [OutputTensor]) -> [UInt8] {
        let own = files.flatMap(\.tensors).map { tensors[$0] }
        let entries = files.flatMap { file in file.tensors.map { (tensors[$0].name, file.name) } }
            .sorted { $0.0.utf8.lexicographicallyPrecedes($1.0.utf8) }
        return ByteOutput.bytes { output in
            // Writing to memory cannot fail.
            try? JSONWriter.document(to: output) { json in
                json.object("metadata") { json in
                    let elements = own.map { $0.shape.reduce(1) { $0.multiplied(clamped: $1) } }
                    json.member("total_parameters", elements.reduce(0) { $0.adding(clamped: $1) })
                    json.member("total_size", own.reduce(0) { $0.adding(clamped: $1.byteCount) })
                }
                json.object("weight_map") { json in
                    for (name, file) in entries { json.member(text: name, file) }
                }
            }
        }
    }
}

extension CheckpointByteLayout.Container {
    /// Returns whether a file of this format can hold a tensor.
    func holds(_ tensor: OutputTensor) -> Bool {
        switch self {
        // The name `__metadata__` is reserved. The names of tensors that share bytes become metadata keys, and the key
        // `format` is already in use.
        case .safetensors:
            tensor.dtype.isInSafetensors && tensor.name != "__metadata__"
                && !(tensor.sharedWith != nil && tensor.name == "format")
        // torch stores 4-bit values in pairs, so the last dimension must be even.
        case .pyTorch where tensor.dtype == .f4E2M1: tensor.shape.last.map { $0 % 2 == 0 } ?? false
        // Quantised tensors also need scales, which an `OutputTensor` does not have.
        case .pyTorch: ![.qi8, .qu8, .qi32].contains(tensor.dtype) && TorchTypes.names[tensor.dtype] != nil
        }
    }
}
