public import CheckpointJSON

/// The tensors of one model, in one or more files.
///
///     let checkpoint = try Checkpoint.open("Qwen3-8B")
///     for tensor in checkpoint.tensors { print(tensor.name, tensor.dtype.rawValue, tensor.shape) }
///
/// Opening reads and validates all headers; it reads tensor data only to verify small PyTorch archives or to unpack
/// compressed files. After that, data is read on demand, one buffer at a time; the files stay open as long as the value
/// lives.
///
/// Whatever the bytes, opening returns a checkpoint or throws a ``CheckpointError``, in time linear in the bytes read
/// and in bounded memory: at most a safetensors header's length plus 64 MB, or 128 MB for any other file. Nothing in a
/// file, not even a pickle, is executed, imported or looked up, and no path in a file leads out of its directory. A
/// file has one meaning: a file that readers could interpret differently (an archive with two directories, two entries
/// with one name, bytes that belong to nothing) is refused. Pickles whose globals are certainly meant to run code are
/// refused too, unless the caller asks to inspect them.
public struct Checkpoint: Sendable {
    /// The path as given when the checkpoint was opened.
    public let path: String
    /// The format of the first file; safetensors if there are no files.
    public let format: FileFormat
    /// The path of the shard index, if there is one.
    public let indexPath: String?
    /// The files, in the order in which the index first names them.
    public let files: [CheckpointFile]
    /// Problems that do not prevent reading the checkpoint but that the user should know about.
    public private(set) var warnings: [CheckpointWarning]

    private let index: ShardIndex?
    /// The position of each file's first tensor, then the total number of tensors.
    private let firstTensors: [Int]

    /// Opens a safetensors file, a file written by `torch.save`, a shard index (`*.index.json`) or a directory that
    /// contains one of them.
    ///
    /// The format of a file is recognised from its bytes. In a directory, the first of these files that exists is
    /// opened: `model.safetensors.index.json`, `model.safetensors`, `pytorch_model.bin.index.json`,
    /// `pytorch_model.bin`, `adapter_model.safetensors`, `adapter_model.bin`. Symbolic links are followed.
    ///
    /// - Parameters:
    ///   - path: the file or directory.
    ///   - limits: limits on what the files may contain and require.
    ///   - temporaryDirectory: the directory for unnamed files that hold unpacked PyTorch files without random access.
    ///   - refusesDangerous: whether to throw ``danger`` for pickles with dangerous globals instead of opening them.
    /// - Returns: the checkpoint, with all headers validated.
    /// - Throws: ``CheckpointError`` with the file, and with the tensor and byte offset if they are known.
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
                    advice: "the checkpoint is incomplete")
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

    /// The directory of the files, with a trailing slash; empty if their path has none.
    package var directory: String { directoryPart(of: indexPath ?? files.first?.path ?? "") }

    /// Returns the paths of the files in `names` that exist in the checkpoint's directory.
    public func files(beside names: [String]) -> [String] {
        names.map { directory + $0 }.filter { PathKind($0) == .file }
    }

    /// Returns whether `path` leads to one of the checkpoint's files, under any name.
    public func isFile(at path: String) -> Bool {
        guard let identity = FileSource.Identity(path) else { return false }
        return files.contains { FileSource.Identity($0.path) == identity }
    }

    // MARK: Tensors

    /// All tensors, file by file, in the order of their data; each ``TensorInfo`` is built on access.
    public var tensors: Tensors { Tensors(checkpoint: self) }

    /// A checkpoint's tensors as a collection.
    public struct Tensors: RandomAccessCollection, Sendable {
        let checkpoint: Checkpoint

        /// Zero.
        public var startIndex: Int { 0 }
        /// The number of tensors.
        public var endIndex: Int { checkpoint.tensorCount }
        /// The tensor at `position`, built on access.
        public subscript(position: Int) -> TensorInfo { checkpoint.tensor(at: position) }
    }

    /// The number of tensors.
    public var tensorCount: Int { firstTensors[files.count] }

    /// Returns the tensor with this name, compared by bytes; nil if there is none.
    public func tensor(named name: String) -> TensorInfo? {
        position(ofTensorNamed: name).map(tensor)
    }

    /// Returns the position in ``tensors`` of the tensor with this name, compared by bytes; nil if there is none.
    public func position(ofTensorNamed name: String) -> Int? { position(ofTensor: Array(name.utf8)[...]) }

    /// Returns the position in ``tensors`` of the tensor with this UTF-8 name; nil if there is none.
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

    /// Returns the UTF-8 name of the tensor at a position in ``tensors``.
    func name(at number: Int) -> ArraySlice<UInt8> {
        let file = file(ofTensor: number)
        return files[file].contents.name(at: number - firstTensors[file])
    }

    /// Fills `buffer` with the tensor's bytes that begin at `offset`: row-major and little-endian, whatever their order
    /// in the file.
    ///
    /// If the tensor is not contiguous, `offset` and the buffer's size must be multiples of the element size. Bytes
    /// with a recorded checksum are verified before any of them are returned. A zstd frame is verified only once it has
    /// been read to its end, which ``ByteSource/finish()`` does for every frame that has been read in part.
    ///
    /// - Throws: ``CheckpointError``: `inputOutput` when the bytes cannot be read, or `malformed` when their checksum
    ///   is wrong.
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

    /// Returns whether a tensor has the same dtype, shape and bytes as a tensor of another checkpoint.
    ///
    /// - Throws: the same errors as ``read(_:at:into:)``.
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

    /// Totals over the tensors of one dtype.
    public struct DTypeTotal: Sendable {
        /// The dtype.
        public let dtype: DType
        /// The number of tensors.
        public fileprivate(set) var tensorCount = 0
        /// The number of elements, clamped to `Int.max`.
        public fileprivate(set) var parameterCount = 0
        /// The size in bytes, clamped to `Int.max`.
        public fileprivate(set) var byteCount = 0
    }

    /// Totals for each dtype that occurs, largest size in bytes first.
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

    /// The globals that the files' pickles name, without duplicates, sorted by name; none is ever executed.
    public var globals: [PickleGlobal] {
        var globals: [ByteString: PickleGlobal] = [:]
        for global in files.flatMap(\.contents.globals) { globals[ByteString(global.name)] = global }
        return globals.sorted { $0.key < $1.key }.map(\.value)
    }

    /// The error for the first file with dangerous globals; nil if no global is known to be dangerous.
    public var danger: CheckpointError? {
        for file in files {
            let names = file.contents.globals.filter { $0.kind == .dangerous }.map(\.name)
            guard let first = names.first else { continue }
            return CheckpointError(
                .dangerous, path: file.path,
                "loading this file with Python would run arbitrary code: its pickle names \(first)"
                    + (names.count > 1 ? " and \(names.count - 1) more" : ""),
                advice: "nothing was run here; do not load it with pickle or torch.load(weights_only=False)")
        }
        return nil
    }

    /// Named tensors that are not stored as plain elements, such as sparse ones.
    public var otherTensors: [OtherTensor] { files.flatMap(\.contents.otherTensors) }

    /// Groups of names whose tensors are tied: they use the same elements of one storage.
    public var tiedTensors: [[String]] {
        files.flatMap { file in
            file.contents.tied.map { $0.map { String(decoding: file.contents.name(at: $0), as: UTF8.self) } }
        }
    }

    /// The key-value pairs of `__metadata__`; where files disagree, the first file's value.
    public var metadata: [ByteString: String] {
        files.reduce(into: [:]) { $0.merge($1.contents.metadata) { first, _ in first } }
    }

    fileprivate func tensor(at number: Int) -> TensorInfo {
        let file = file(ofTensor: number)
        return files[file].contents.tensor(at: number - firstTensors[file], file: file)
    }

    /// Returns the index of the file that holds a tensor: the last file that begins at or before its position, since
    /// files may be empty.
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
                expected: "at most \(limits.indexBytes) bytes", found: "\(source.count)")
        }
        let text = try source.bytes(0..<source.count)
        do throws(MalformedInput) {
            return try ShardIndex(text, limits: limits)
        } catch {
            throw CheckpointError(error, path: source.path)
        }
    }

    /// Checks the index against the headers: every listed tensor must be in its file, and none may be in two files.
    ///
    /// A tensor that the index does not list is kept, with a warning, because loaders that read file by file use it.
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
        // Store positions, not names: copies of a million long names would take too much memory.
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
                    CheckpointWarning(
                        path: file.path, "its metadata \"\(name)\" differs from that of \"\(earlier.path)\"")
                ]
            }
        }
        return []
    }
}
