public import CheckpointJSON

/// A tensor to be written.
public struct OutputTensor: Sendable, Hashable {
    /// The name.
    public let name: String
    /// The type of the elements.
    public let dtype: DType
    /// The dimensions, outermost first.
    public let shape: [Int]
    /// The size of the elements in bytes.
    public let byteCount: Int
    /// The index of an earlier tensor with the same bytes, which are then stored only once; nil for most tensors.
    public let sharedWith: Int?

    /// Creates a tensor to be written.
    ///
    /// - Parameters:
    ///   - name: the name.
    ///   - dtype: the type of the elements.
    ///   - shape: the dimensions, outermost first.
    ///   - sharedWith: the index of an earlier tensor with the same bytes.
    /// - Throws: ``DType/SizeError`` if the shape has no size in bytes.
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
    /// A file format that can be written.
    public enum Container: String, Sendable {
        case safetensors
        /// A zip archive as `torch.save` writes it.
        case pyTorch = "pytorch"
    }

    struct File: Sendable {
        let name: String
        let byteLayout: any FileByteLayout
        /// The indices in ``CheckpointByteLayout/tensors`` of this file's tensors, in the order of
        /// ``FileByteLayout/ranges``.
        let tensors: [Int]
    }

    /// All tensors.
    public let tensors: [OutputTensor]
    let files: [File]
    /// The shard index as transformers writes it; nil if there is only one file.
    let shardIndex: [UInt8]?

    /// The index of each tensor's file and the tensor's place in that file.
    private let places: [(file: Int, place: Int)]

    /// The total size of all files, uncompressed, in bytes.
    public var byteCount: Int { files.reduce(shardIndex?.count ?? 0) { $0.adding(clamped: $1.byteLayout.byteCount) } }

    /// The names of the files, in order.
    public var fileNames: [String] { files.map(\.name) }

    /// Returns the index of the file that holds a tensor.
    public func file(ofTensor number: Int) -> Int { places[number].file }

    /// Returns the index of a tensor's file and the tensor's place in that file.
    func place(ofTensor number: Int) -> (file: Int, place: Int) { places[number] }

    /// Lays out a single file.
    ///
    /// - Parameters:
    ///   - tensors: the tensors, in the order in which a PyTorch file lists them.
    ///   - container: the file format.
    ///   - name: the name of the file.
    ///   - metadata: the `__metadata__` of a safetensors file.
    /// - Throws: ``CheckpointError`` of category `unsupported` if the file format cannot hold the tensors.
    public init(
        _ tensors: [OutputTensor], container: Container, name: String, metadata: [ByteString: String] = [:]
    ) throws(CheckpointError) {
        try Self.checkSize(of: tensors, path: name)
        try self.init(tensors, container: container, metadata, groups: [(name, Array(tensors.indices))])
    }

    /// Lays out `model.safetensors`, or an index and shards with at most `shardByteCount` bytes of tensors each.
    ///
    /// Tensors are split as in transformers 5: in the natural order of names, with a new file when one would be too
    /// large.
    ///
    /// - Parameters:
    ///   - tensors: the tensors, in any order.
    ///   - shardByteCount: the maximum number of bytes of tensors in a file; a tensor that is larger gets its own file.
    ///   - metadata: the `__metadata__` of each file.
    /// - Throws: ``CheckpointError`` of category `unsupported` if safetensors files cannot hold the tensors.
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
                .unsupported, path: "model.safetensors", "the checkpoint would have more shards than readers accept",
                expected: "at most \(Self.shardLimit)", found: "\(shards.count)")
        }
        var shardOfTensor: [Int: Int] = [:]
        for (index, shard) in shards.enumerated() {
            for number in shard { shardOfTensor[number] = index }
        }
        // A tensor that shares bytes is recorded in the shard that contains them.
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
                // Record dropped duplicates as the safetensors library does.
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

    /// The maximum total size of the tensors: larger than any disk, but adding a container's bytes cannot overflow.
    private static let byteLimit = 1 << 62

    private static func checkSize(of tensors: [OutputTensor], path: String) throws(CheckpointError) {
        let byteCount = tensors.reduce(0) { $0.adding(clamped: $1.byteCount) }
        guard byteCount <= byteLimit else {
            throw CheckpointError(
                .unsupported, path: path, "the tensors take more bytes than any disk has",
                expected: "at most \(byteLimit)", found: byteCount == .max ? "more than \(Int.max)" : "\(byteCount)")
        }
    }

    private static let shardLimit = ReadLimits.standard.shards

    /// The name of the shard index.
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
        // `__metadata__` is reserved. Names of tensors that share bytes become its keys, and `format` is already one.
        case .safetensors:
            tensor.dtype.isInSafetensors && tensor.name != "__metadata__"
                && !(tensor.sharedWith != nil && tensor.name == "format")
        // torch's element is a pair of 4-bit values.
        case .pyTorch where tensor.dtype == .f4E2M1: tensor.shape.last.map { $0 % 2 == 0 } ?? false
        // Quantised tensors also have scales, which their elements do not include.
        case .pyTorch: ![.qi8, .qu8, .qi32].contains(tensor.dtype) && TorchTypes.names[tensor.dtype] != nil
        }
    }
}
