public import CheckpointJSON

/// One model's tensors, in one file or in many.
///
///     let checkpoint = try Checkpoint.open("Qwen3-8B")
///     for tensor in checkpoint.tensors { print(tensor.name, tensor.dtype.rawValue, tensor.shape) }
///
/// Opening reads headers alone and checks all of them. Data is read when asked for, a buffer at a time; the files stay open as long
/// as the value lives.
///
/// Whatever the bytes are, opening ends in a checkpoint or a ``CheckpointError``, in time linear in what is read, and in memory of a
/// safetensors header's length plus 64 MB, or of 128 MB for any other file, at the most. Nothing in a file is executed, imported or
/// looked up, pickles included, and no path in a file leads out of its directory. A file has one meaning: where readers could see
/// different things in it (two directories of an archive, two entries of one name, bytes that belong to nothing) it is refused.
/// Pickles that name what is certainly meant to run code are refused too, unless the caller wants to look at them.
public struct Checkpoint: Sendable {
    /// The path it was opened by.
    public let path: String
    /// What its files are.
    public let format: FileFormat
    /// The index that names the files, where there is one.
    public let indexPath: String?
    /// The files, in the order of their names in the index.
    public let files: [CheckpointFile]
    /// What the user should know though the checkpoint can be read.
    public private(set) var warnings: [CheckpointWarning]

    private let index: ShardIndex?
    /// The number of the first tensor of each file, and the number of all.
    private let firstTensors: [Int]

    /// Opens a safetensors file, a file of `torch.save`, a shard index (`*.index.json`) or a directory that holds one of them.
    ///
    /// What a file is comes from its bytes. In a directory `model.safetensors.index.json` comes before `model.safetensors`, then
    /// `pytorch_model.bin.index.json` and `pytorch_model.bin`; other files are left alone. Symbolic links are followed.
    ///
    /// - Parameters:
    ///   - path: the file or directory.
    ///   - limits: how much to take from it.
    ///   - temporaryDirectory: where a compressed file of `torch.save` is unpacked, into a file without a name.
    ///   - refusesDangerous: whether pickles with dangerous globals are refused, instead of opened with a ``danger``.
    /// - Returns: the checkpoint, all its headers checked.
    /// - Throws: ``CheckpointError`` with the file, and the tensor and byte where there is one.
    public static func open(
        _ path: String, limits: ReadLimits = .standard, temporaryDirectory: String = "/tmp",
        refusesDangerous: Bool = true
    ) throws(CheckpointError) -> Checkpoint {
        let checkpoint = try read(path, limits: limits, temporaryDirectory: temporaryDirectory)
        if refusesDangerous, let danger = checkpoint.danger { throw danger }
        return checkpoint
    }

    private static func read(
        _ path: String, limits: ReadLimits, temporaryDirectory: String
    ) throws(CheckpointError) -> Checkpoint {
        var limits = limits
        let file = PathKind(path) == .directory ? try modelFile(inDirectory: path) : path
        let source = try FileSource(path: file)
        guard try FileFormat.recognize(source, limits: limits) == .shardIndex else {
            return Checkpoint(
                path: path, files: [try CheckpointFile(source, limits: limits, temporaryDirectory: temporaryDirectory)])
        }
        let index = try readIndex(source, limits: limits)
        let directory = directoryPart(of: file)
        var files: [CheckpointFile] = []
        var identities: [FileSource.Identity: String] = [:]
        for name in index.files {
            let shard: FileSource
            do throws(CheckpointError) {
                shard = try FileSource(path: directory + name)
            } catch  where [.nothing, .danglingLink].contains(PathKind(directory + name)) {
                throw CheckpointError(
                    .malformed, path: file, "the index names the file \"\(name)\", which \(error.problem)",
                    advice: "the checkpoint is not complete")
            }
            if let other = identities.updateValue(name, forKey: shard.identity) {
                throw CheckpointError(
                    .malformed, path: file, "the index names one file twice, as \"\(other)\" and as \"\(name)\"")
            }
            let opened = try CheckpointFile(shard, limits: limits, temporaryDirectory: temporaryDirectory)
            limits.take(opened)
            files.append(opened)
        }
        var checkpoint = Checkpoint(path: path, files: files, index: index, indexPath: file)
        try checkpoint.checkIndex(index, path: file)
        return checkpoint
    }

    private init(path: String, files: [CheckpointFile], index: ShardIndex? = nil, indexPath: String? = nil) {
        self.path = path
        self.format = files.first?.contents.format ?? .safetensors
        self.indexPath = indexPath
        self.files = files
        self.index = index
        self.firstTensors = files.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.tensorCount) }
        self.warnings = files.flatMap { file in
            file.contents.warnings.map { CheckpointWarning(path: file.path, $0) }
        }
        warnings += metadataWarnings()
    }

    /// The directory of its files, with the slash at its end; nothing where they are named without one.
    package var directory: String { directoryPart(of: indexPath ?? files.first?.path ?? "") }

    /// Those of these files that stand beside the checkpoint's, with their directory.
    public func files(beside names: [String]) -> [String] {
        names.map { directory + $0 }.filter { PathKind($0) == .file }
    }

    /// Whether what stands at a path is one of its files.
    public func isFile(at path: String) -> Bool {
        guard let identity = FileSource.Identity(path) else { return false }
        return files.contains { FileSource.Identity($0.path) == identity }
    }

    // MARK: Tensors

    /// All tensors, file by file, in the order of their data; each is put together when it is asked for.
    public var tensors: Tensors { Tensors(checkpoint: self) }

    /// The tensors of a checkpoint.
    public struct Tensors: RandomAccessCollection, Sendable {
        let checkpoint: Checkpoint

        /// Zero.
        public var startIndex: Int { 0 }
        /// How many tensors there are.
        public var endIndex: Int { checkpoint.tensorCount }
        /// The tensor at a place in that order, put together now.
        public subscript(position: Int) -> TensorInfo { checkpoint.tensor(at: position) }
    }

    /// How many tensors there are.
    public var tensorCount: Int { firstTensors[files.count] }

    /// The tensor with this name, compared by bytes.
    public func tensor(named name: String) -> TensorInfo? {
        position(ofTensorNamed: name).map(tensor)
    }

    /// The position in ``tensors`` of the one with this name, compared by bytes.
    public func position(ofTensorNamed name: String) -> Int? { position(ofTensor: Array(name.utf8)[...]) }

    /// The position in ``tensors`` of the one with this name.
    func position(ofTensor name: ArraySlice<UInt8>) -> Int? {
        if let index, let position = index.position(of: name) {
            let file = index.file(at: position)
            return files[file].contents.position(of: name).map { firstTensors[file] + $0 }
        }
        for (number, file) in files.enumerated() {
            if let position = file.contents.position(of: name) { return firstTensors[number] + position }
        }
        return nil
    }

    /// The name of a tensor, as UTF-8.
    func name(at number: Int) -> ArraySlice<UInt8> {
        let file = file(ofTensor: number)
        return files[file].contents.name(at: number - firstTensors[file])
    }

    /// Fills `buffer` with the tensor's bytes from `offset` within it on: row-major, little-endian, whatever its layout in the file.
    ///
    /// Where the tensor is not contiguous, `offset` and the buffer must be whole elements. Bytes that have a checksum are held against
    /// it before any of them is handed out for the first time; those of a zstd file only at the end of a frame, which
    /// ``ByteSource/finish()`` goes to.
    ///
    /// - Throws: ``CheckpointError`` of category `inputOutput` when the file does not give them, `malformed` when their checksum is
    ///   wrong.
    public func read(_ tensor: TensorInfo, at offset: Int, into buffer: inout MutableRawSpan) throws(CheckpointError) {
        precondition(offset >= 0 && offset + buffer.byteCount <= tensor.byteCount, "outside the tensor")
        let file = files[tensor.file]
        try file.contents.verify(tensor, in: file.source)
        if let view = tensor.view {
            try view.read(from: file.source, at: offset, into: &buffer)
        } else {
            try file.source.read(into: &buffer, at: tensor.byteRange.lowerBound + offset)
        }
    }

    /// Whether a tensor has the same type, sizes and bytes as one of another checkpoint.
    ///
    /// - Throws: as ``read(_:at:into:)`` does.
    public func hasSameBytes(
        _ tensor: TensorInfo, as other: TensorInfo, of checkpoint: Checkpoint
    ) throws(CheckpointError) -> Bool {
        guard tensor.dtype == other.dtype, tensor.shape == other.shape else { return false }
        let size = 1 << 20
        let buffers = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * size, alignment: 64)
        defer { buffers.deallocate() }
        for start in stride(from: 0, to: tensor.byteCount, by: size) {
            let count = min(size, tensor.byteCount - start)
            let a = UnsafeMutableRawBufferPointer(rebasing: buffers[..<count])
            let b = UnsafeMutableRawBufferPointer(rebasing: buffers[size..<size + count])
            var first = MutableRawSpan(_unsafeBytes: a)
            var second = MutableRawSpan(_unsafeBytes: b)
            try read(tensor, at: start, into: &first)
            try checkpoint.read(other, at: start, into: &second)
            guard a.elementsEqual(b) else { return false }
        }
        return true
    }

    /// The tensors of one dtype.
    public struct DTypeTotal: Sendable {
        /// The dtype.
        public let dtype: DType
        /// How many tensors have it.
        public fileprivate(set) var tensorCount = 0
        /// How many elements they have.
        public fileprivate(set) var parameterCount = 0
        /// How many bytes they take.
        public fileprivate(set) var byteCount = 0
    }

    /// The dtypes that occur, the one with the most bytes first.
    public var dtypeTotals: [DTypeTotal] {
        var totals: [DType: DTypeTotal] = [:]
        for contents in files.lazy.map(\.contents) {
            for position in 0..<contents.tensorCount {
                let (dtype, byteCount) = contents.size(at: position)
                var total = totals[dtype] ?? DTypeTotal(dtype: dtype)
                total.tensorCount += 1
                total.parameterCount = total.parameterCount.adding(clamped: dtype.elementCount(ofBytes: byteCount))
                total.byteCount = total.byteCount.adding(clamped: byteCount)
                totals[dtype] = total
            }
        }
        return totals.values.sorted { ($1.byteCount, $0.dtype.rawValue) < ($0.byteCount, $1.dtype.rawValue) }
    }

    /// What the files' pickles name, each name once; none of it is ever executed.
    public var globals: [PickleGlobal] {
        var globals: [ByteString: PickleGlobal] = [:]
        for global in files.flatMap(\.contents.globals) { globals[ByteString(global.name)] = global }
        return globals.sorted { $0.key < $1.key }.map(\.value)
    }

    /// The error for what is dangerous in the files; nil where nothing is known to be.
    public var danger: CheckpointError? {
        for file in files {
            let names = file.contents.globals.filter { $0.kind == .dangerous }.map(\.name)
            guard let first = names.first else { continue }
            return CheckpointError(
                .dangerous, path: file.path,
                "loading this file with Python would run foreign code: its pickle names \(first)"
                    + (names.count > 1 ? " and \(names.count - 1) more" : ""),
                advice: "nothing was run here; do not load it with pickle or torch.load(weights_only=False)")
        }
        return nil
    }

    /// Tensors that are named but are not simply elements in a file.
    public var otherTensors: [OtherTensor] { files.flatMap(\.contents.otherTensors) }

    /// Groups of names whose tensors are the same elements of one storage.
    public var tiedTensors: [[String]] {
        files.flatMap { file in
            file.contents.tied.map { $0.map { String(decoding: file.contents.name(at: $0), as: UTF8.self) } }
        }
    }

    /// The pairs of `__metadata__`; where files disagree, the first one's.
    public var metadata: [ByteString: String] {
        files.reduce(into: [:]) { $0.merge($1.contents.metadata) { first, _ in first } }
    }

    fileprivate func tensor(at number: Int) -> TensorInfo {
        let file = file(ofTensor: number)
        return files[file].contents.tensor(at: number - firstTensors[file], file: file)
    }

    /// The last file that begins at this number or before; files may be empty.
    private func file(ofTensor number: Int) -> Int {
        var low = 0
        var high = files.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if firstTensors[middle] <= number { low = middle } else { high = middle }
        }
        return low
    }

    // MARK: Opening

    private static let modelFileNames = [
        "model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin",
        "adapter_model.safetensors", "adapter_model.bin",
    ]

    private static func modelFile(inDirectory directory: String) throws(CheckpointError) -> String {
        let prefix = directory.hasSuffix("/") ? directory : directory + "/"
        for name in modelFileNames where PathKind(prefix + name) != .nothing { return prefix + name }
        let others = namesInDirectory(directory).filter { name in
            [".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".index.json"].contains { name.hasSuffix($0) }
        }
        throw CheckpointError(
            .notFound, path: directory, "the directory holds none of \(modelFileNames.joined(separator: ", "))",
            advice: others.isEmpty
                ? nil
                : "name the file itself: \(others.prefix(3).joined(separator: ", "))\(others.count > 3 ? ", …" : "")")
    }

    private static func readIndex(_ source: FileSource, limits: ReadLimits) throws(CheckpointError) -> ShardIndex {
        guard source.count <= limits.indexBytes else {
            throw CheckpointError(
                .malformed, path: source.path, "the JSON document is too long for a shard index",
                expected: "\(limits.indexBytes) bytes at the most", found: "\(source.count)")
        }
        let text = try source.bytes(0..<source.count)
        do throws(MalformedInput) {
            return try ShardIndex(text, limits: limits)
        } catch {
            throw CheckpointError(error, path: source.path)
        }
    }

    /// Holds the index against the headers: every tensor listed is in its file, and nothing is in two files.
    ///
    /// A tensor that no entry lists is read all the same, with a warning: loaders that go by file use it.
    private mutating func checkIndex(_ index: ShardIndex, path: String) throws(CheckpointError) {
        func misplaced(_ name: ArraySlice<UInt8>, _ other: Int, _ number: Int) -> CheckpointError {
            let isInBoth = files[other].contents.position(of: name) != nil
            return CheckpointError(
                .malformed, path: path,
                isInBoth
                    ? "the tensor is in two files, \"\(index.files[other])\" and \"\(index.files[number])\""
                    : "the tensor is listed in \"\(index.files[other])\" but is in \"\(index.files[number])\"",
                tensor: excerpt(name))
        }
        var isFound = [Bool](repeating: false, count: index.count)
        var foundCount = 0
        // Their numbers among all tensors: a file of some bytes can have a million long names.
        var unlisted: [UInt32] = []
        for (number, file) in files.enumerated() {
            for tensor in 0..<file.tensorCount {
                let name = file.contents.name(at: tensor)
                guard let position = index.position(of: name) else {
                    unlisted.append(UInt32(firstTensors[number] + tensor))
                    continue
                }
                let listed = index.file(at: position)
                guard listed == number else { throw misplaced(name, listed, number) }
                isFound[position] = true
                foundCount += 1
            }
        }
        var names = NameTable(capacity: unlisted.count)
        for id in unlisted.indices {
            guard let earlier = names.insert(UInt32(id), name: { name(at: Int(unlisted[Int($0)])) }) else { continue }
            let number = Int(unlisted[id])
            throw misplaced(name(at: number), file(ofTensor: Int(unlisted[Int(earlier)])), file(ofTensor: number))
        }
        if foundCount < index.count, let position = isFound.firstIndex(of: false) {
            throw CheckpointError(
                .malformed, path: path,
                "the index lists \(index.count - foundCount) tensor\(index.count - foundCount == 1 ? "" : "s") that the files do not hold, the first in \"\(index.files[index.file(at: position)])\"",
                tensor: index.name(at: position))
        }
        let first = unlisted.min { name(at: Int($0)).lexicographicallyPrecedes(name(at: Int($1))) }
        if let first = first.map({ Int($0) }) {
            warnings.append(
                CheckpointWarning(
                    path: path,
                    "\(unlisted.count) tensor\(unlisted.count == 1 ? " is" : "s are") in the files but not in the index, such as \"\(excerpt(name(at: first)))\" in \"\(index.files[file(ofTensor: first)])\""
                ))
        }
        let totalSize = files.reduce(0) { $0.adding(clamped: $1.contents.dataByteCount) }
        if let claimed = index.totalSize, claimed != totalSize {
            warnings.append(
                CheckpointWarning(path: path, "total_size is \(claimed) but the tensors take \(totalSize) bytes"))
        }
    }

    // MARK: Warnings

    private func metadataWarnings() -> [CheckpointWarning] {
        guard files.count > 1 else { return [] }
        var pairs: [ByteString: (value: String, path: String)] = [:]
        for file in files {
            for (key, value) in file.contents.metadata.sorted(by: { $0.key < $1.key }) {
                guard let earlier = pairs.updateValue((value, file.path), forKey: key),
                    !earlier.value.utf8.elementsEqual(value.utf8)
                else { continue }
                let name = excerpt(Array(key.text.utf8)[...])
                return [
                    CheckpointWarning(path: file.path, "its metadata has another \"\(name)\" than \"\(earlier.path)\"")
                ]
            }
        }
        return []
    }
}
