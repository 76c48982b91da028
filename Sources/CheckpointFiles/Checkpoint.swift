public import Bytes
import CheckpointJSON

/// The tensors of a model, stored in one or more files.
///
///     let checkpoint = try Checkpoint.open("Qwen3-8B")
///     for tensor in checkpoint.tensors { print(tensor.name, tensor.dtype.rawValue, tensor.shape) }
///
/// Opening a checkpoint reads and validates all headers. It reads tensor data only to verify small PyTorch archives and
/// to unpack compressed files. After that, tensor data is read on demand, one buffer at a time. The files stay open for
/// as long as the value exists.
///
/// For any input, opening either returns a checkpoint or throws a `CheckpointError`, in time linear in the number of
/// bytes read. It uses bounded memory: at most the length of a safetensors header plus 64 MB, or 128 MB for any other
/// file. Nothing in a file, not even a pickle, is executed or imported, and no path in a file can lead outside its
/// directory.
///
/// Files that different readers could interpret differently are rejected, such as an archive with two central
/// directories, with two entries of the same name, or with bytes that belong to no entry. Pickles that name globals
/// known to run code are rejected too, unless the caller sets `refusesDangerous` to false.
public struct Checkpoint: Sendable {
    /// The path as given when the checkpoint was opened.
    public let path: String
    /// The format of the first file; safetensors if there are no files.
    public let format: FileFormat
    /// The path of the shard index; nil if there is none.
    public let indexPath: String?
    /// The files, in the order in which the index first names them.
    public let files: [CheckpointFile]
    /// Problems that do not prevent the checkpoint from being read but that the user should know about.
    public private(set) var warnings: [CheckpointWarning]

    private let index: ShardIndex?
    /// The position of each file's first tensor, followed by the total number of tensors.
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
    ///   - limits: limits on the contents of the files, and on the resources needed to read them.
    ///   - temporaryDirectory: the directory for unnamed temporary files. They contain unpacked PyTorch files whose
    ///     compressed form does not allow random access.
    ///   - refusesDangerous: whether to throw ``danger`` if a pickle names dangerous globals.
    /// - Returns: the checkpoint, whose headers have all been validated.
    /// - Throws: `CheckpointError`, which gives the file and, if known, the tensor and the byte offset.
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
        let source = try checkpointSource(path: file)
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

    /// The directory that contains the files, with a trailing slash; empty if their path has no directory part.
    package var directory: String { directoryPart(of: indexPath ?? files.first?.path ?? "") }

    /// Returns the paths of the files in the checkpoint's directory that have one of the given names.
    public func files(beside names: [String]) -> [String] {
        names.map { directory + $0 }.filter { PathKind($0) == .file }
    }

    /// Returns whether `path` refers to one of the checkpoint's files, directly or through links.
    public func isFile(at path: String) -> Bool {
        guard let identity = FileSource.Identity(path) else { return false }
        return files.contains { FileSource.Identity($0.path) == identity }
    }

    // MARK: Tensors

    /// All tensors, ordered by file and then by the position of their data.
    ///
    /// Each ``TensorInfo`` is created on access.
    public var tensors: Tensors { Tensors(checkpoint: self) }

    /// A collection of a checkpoint's tensors.
    public struct Tensors: RandomAccessCollection, Sendable {
        let checkpoint: Checkpoint

        /// The position of the first tensor, which is always 0.
        public var startIndex: Int { 0 }
        /// The position after the last tensor, which is the number of tensors.
        public var endIndex: Int { checkpoint.tensorCount }
        /// The tensor at the given position.
        public subscript(position: Int) -> TensorInfo { checkpoint.tensor(at: position) }
    }

    /// The number of tensors in all files.
    public var tensorCount: Int { firstTensors[files.count] }

    /// Returns the tensor with the given name, compared byte by byte; nil if there is none.
    public func tensor(named name: String) -> TensorInfo? {
        position(ofTensorNamed: name).map(tensor)
    }

    /// Returns the position in ``tensors`` of the tensor with the given name, compared byte by byte; nil if there is
    /// none.
    public func position(ofTensorNamed name: String) -> Int? { position(ofTensor: Array(name.utf8)[...]) }

    /// Returns the position in ``tensors`` of the tensor with the given UTF-8 name; nil if there is none.
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

    /// Returns the UTF-8 name of the tensor at the given position in ``tensors``.
    func name(at number: Int) -> ArraySlice<UInt8> {
        let file = file(ofTensor: number)
        return files[file].contents.name(at: number - firstTensors[file])
    }

    /// Fills `buffer` with the tensor's bytes, starting at `offset`.
    ///
    /// The bytes are little-endian and in row-major order, even if the file stores the elements in another order.
    ///
    /// If the tensor is not contiguous, `offset` and the buffer's size must be multiples of the element size. If a
    /// checksum of the bytes is recorded, it is verified before any of them are returned. A zstd frame is verified only
    /// when it has been read to its end; `ByteSource.finish()` reads the rest of every frame that has been read in
    /// part.
    ///
    /// - Throws: `CheckpointError`: `inputOutput` when the bytes cannot be read, or `malformed` when their checksum
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

    /// The totals for the tensors of one dtype.
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

    /// The totals for each dtype in the checkpoint, in descending order of size in bytes.
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

    /// The globals that the files' pickles name, without duplicates and sorted by name.
    ///
    /// They are never imported or executed.
    public var globals: [PickleGlobal] {
        var globals: [ByteString: PickleGlobal] = [:]
        for global in files.flatMap(\.contents.globals) { globals[ByteString(global.name)] = global }
        return globals.sorted { $0.key < $1.key }.map(\.value)
    }

    /// The error for the first file whose pickle names dangerous globals; nil if there is no such file.
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

    /// Named tensors that are not stored as plain elements, such as sparse tensors.
    public var otherTensors: [OtherTensor] { files.flatMap(\.contents.otherTensors) }

    /// The names of tied tensors, in groups that share the same elements of one storage.
    public var tiedTensors: [[String]] {
        files.flatMap { file in
            file.contents.tied.map { $0.map { String(decoding: file.contents.name(at: $0), as: UTF8.self) } }
        }
    }

    /// The key-value pairs in the files' `__metadata__`.
    ///
    /// If files have different values for a key, the value in the first file is used.
    public var metadata: [ByteString: String] {
        files.reduce(into: [:]) { $0.merge($1.contents.metadata) { first, _ in first } }
    }

    fileprivate func tensor(at number: Int) -> TensorInfo {
        let file = file(ofTensor: number)
        return files[file].contents.tensor(at: number - firstTensors[file], file: file)
    }

    /// Returns the index of the file that contains the tensor at the given position.
    ///
    /// Files can be empty, so this is the last file that starts at or before the position.
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
                : "specify a file: \(others.prefix(3).joined(separator: ", "))\(others.count > 3 ? ", …" : "")")
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

    /// Checks that the index matches the headers: each listed tensor is in the file that the index names, and no tensor
    /// is in two files.
    ///
    /// Tensors that are not in the index are kept, with a warning, because programs that load all files use them too.
    private mutating func checkIndex(_ index: ShardIndex, path: String) throws(CheckpointError) {
        func misplaced(_ name: ArraySlice<UInt8>, _ other: Int, _ number: Int) -> CheckpointError {
            let isInBoth = files[other].contents.position(of: name) != nil
            return CheckpointError(
                .malformed, path: path,
                isInBoth
                    ? "the tensor is in two files, \"\(index.files[other])\" and \"\(index.files[number])\""
                    : "the index places the tensor in \"\(index.files[other])\", but it is in \"\(index.files[number])\"",
                tensor: excerpt(name))
        }
        var isFound = [Bool](repeating: false, count: index.count)
        var foundCount = 0
        // Store positions instead of names, because copying a million long names would take too much memory.
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
                "the index lists \(index.count - foundCount) tensor\(index.count - foundCount == 1 ? "" : "s") that the files do not contain; it places the first in \"\(index.files[index.file(at: position)])\"",
                tensor: index.name(at: position))
        }
        let first = unlisted.min { name(at: Int($0)).lexicographicallyPrecedes(name(at: Int($1))) }
        if let first = first.map({ Int($0) }) {
            warnings.append(
                CheckpointWarning(
                    path: path,
                    "\(unlisted.count) tensor\(unlisted.count == 1 ? " is" : "s are") in the files but not in the index\(unlisted.count == 1 ? ":" : ", such as") \"\(excerpt(name(at: first)))\" in \"\(index.files[file(ofTensor: first)])\""
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
                        path: file.path,
                        "its value for the metadata key \"\(name)\" differs from that in \"\(earlier.path)\"")
                ]
            }
        }
        return []
    }
}
