import CRWKVKernels
public import CheckpointFiles
import Dispatch
import Synchronization

extension Conversion {
    /// Makes what was described.
    ///
    /// The place holds what it held before until all is done, and what is made is the same whatever the number of threads. Inputs are
    /// read once, front to back, through buffers of a few megabytes.
    ///
    /// - Parameters:
    ///   - replaces: whether what stands there may be replaced: a file, or a directory that holds what an earlier conversion wrote.
    ///   - threads: how many threads to use.
    ///   - planHash: the SHA-256 of the plan's document, for the manifest.
    ///   - version: the tool's, for the manifest.
    ///   - progress: told of every buffer; can stop the work.
    /// - Returns: the manifest, as it was written beside the result.
    /// - Throws: ``CheckpointError``: `inputOutput` where reading or writing fails or the disk is too small, `cannotCreate`,
    ///   `malformed` (a wrong checksum), `unsupported` (a value that a type cannot hold) or `cancelled`.
    public func write(
        replaces: Bool, threads: Int, planHash: String?, version: String, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> [UInt8] {
        try requireRoom(for: isCompressed ? 0 : outline.byteCount, at: options.destination.path)
        switch options.destination {
        case .file(let path, _, let isCompressed):
            let manifestPath = path + ".conversion.json"
            let file = try UnfinishedFile(path: path, replaces: replaces)
            let manifestFile = try UnfinishedFile(path: manifestPath, replaces: replaces)
            let writer = try CheckpointWriter(outline, into: file, isCompressed: isCompressed)
            let manifest = try write(with: writer, threads: threads, planHash, version, progress)
            try manifestFile.write(manifest)
            // An older one would speak of another file.
            if replaces { try removeFile(manifestPath) }
            try file.commit()
            try manifestFile.commit()
            return manifest
        case .directory(let path, _):
            let directory = try UnfinishedDirectory(path: path, isReplaceable: replaces ? { Self.isOwn($0) } : nil)
            let writer = try CheckpointWriter(outline, into: directory)
            let manifest = try write(with: writer, threads: threads, planHash, version, progress)
            try copyCompanions(into: directory)
            if let configuration { try directory.write(configuration, to: "config.json") }
            try directory.write(manifest, to: Self.manifestName)
            try directory.commit()
            return manifest
        }
    }

    private var isCompressed: Bool {
        if case .file(_, _, let isCompressed) = options.destination { isCompressed } else { false }
    }

    private func write(
        with writer: CheckpointWriter, threads: Int, _ planHash: String?, _ version: String, _ progress: WorkProgress
    ) throws(CheckpointError) -> [UInt8] {
        let run = ConversionRun(self, writer, progress)
        let hashes = try run.run(threads: writer.isSequential ? 1 : max(1, threads))
        try writer.finish()
        return manifest(hashes: hashes, planHash: planHash, version: version)
    }

    // MARK: What goes with a model

    static let manifestName = "conversion.json"

    /// What makes text of tokens and the other way round, and what generation begins with.
    private static let companions: [String] = [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja",
        "chat_template.json", "generation_config.json", "rwkv_vocab_v20230424.txt",
    ]

    /// The files that are carried along: of the source where it has any, else of the teacher.
    public var companionFiles: [String] {
        guard case .directory = options.destination else { return [] }
        for part in [Part.source, .teacher] {
            let found = inputs[part].map { $0.checkpoint.files(beside: Self.companions) } ?? []
            if !found.isEmpty { return found }
        }
        return []
    }

    private func copyCompanions(into directory: borrowing UnfinishedDirectory) throws(CheckpointError) {
        for path in companionFiles { try directory.copy(FileSource(path: path), to: Self.name(of: path)) }
    }

    /// Whether a directory with these files is one that a conversion wrote, and nobody added to.
    private static func isOwn(_ names: [String]) -> Bool {
        let known = Set(companions + [manifestName, "config.json", CheckpointOutline.indexName])
        return names.contains(manifestName)
            && names.allSatisfy { known.contains($0) || CheckpointOutline.isShard($0) }
    }
}

/// The work of a conversion, done by several threads.
private final class ConversionRun: Sendable {
    /// How many elements, or bytes of what is copied, are taken at once: few enough to stay in a core's cache.
    private static let pieceSize = 1 << 19

    private struct Findings: Sendable {
        var failure: CheckpointError?
        var hashes: [String?]
    }

    private let conversion: Conversion
    private let writer: CheckpointWriter
    private let progress: WorkProgress
    private let total: Int
    /// The numbers of tensors that have bytes of their own, in the order in which they are made.
    private let order: [Int]
    private let next = Atomic<Int>(0)
    private let findings: Mutex<Findings>

    init(_ conversion: Conversion, _ writer: CheckpointWriter, _ progress: WorkProgress) {
        self.conversion = conversion
        self.writer = writer
        self.progress = progress
        let tensors = conversion.tensors
        total = writer.order.reduce(0) { $0.adding(clamped: tensors[$1].output.byteCount) }
        // Formulas first, as they take long, then tensors as they lie in their files.
        func key(_ number: Int) -> (Int, Int, Int) {
            guard case .tensor(let input, _) = tensors[number].origin, let info = conversion.info(input) else {
                return (0, 0, 0)
            }
            let part = Conversion.Part.allCases.firstIndex(of: input.part) ?? 0
            return (1 + part, info.file, info.byteRange.lowerBound)
        }
        order =
            writer.isSequential
            ? writer.order : writer.order.map { ($0, key($0)) }.sorted { $0.1 < $1.1 }.map(\.0)
        findings = Mutex(Findings(hashes: tensors.map { _ in nil }))
    }

    /// Gives the SHA-256 of every tensor.
    func run(threads: Int) throws(CheckpointError) -> [String] {
        let isSequential = conversion.inputs.values.contains { $0.checkpoint.files.contains { $0.source.isSequential } }
        DispatchQueue.concurrentPerform(iterations: isSequential ? 1 : min(threads, max(1, order.count))) { _ in work()
        }
        let found = findings.withLock { $0 }
        if let failure = found.failure { throw failure }
        for input in conversion.inputs.values {
            for file in input.checkpoint.files { try file.source.finish() }
        }
        return conversion.tensors.indices.map { number in
            found.hashes[conversion.tensors[number].output.sharedWith ?? number] ?? ""
        }
    }

    private func work() {
        let maker = TensorMaker(conversion, writer, pieceSize: Self.pieceSize) { [progress, total] count in
            progress.advance(by: count, of: total)
            return !progress.isCancelled
        }
        while true {
            let place = next.add(1, ordering: .relaxed).oldValue
            guard place < order.count else { return }
            do throws(CheckpointError) {
                let hash = try maker.make(order[place])
                findings.withLock { $0.hashes[order[place]] = hash }
            } catch {
                findings.withLock { $0.failure = $0.failure ?? error }
                next.store(order.count, ordering: .relaxed)
                return
            }
        }
    }
}

/// Makes tensors one after the other; one thread's.
private final class TensorMaker {
    private let conversion: Conversion
    private let writer: CheckpointWriter
    private let pieceSize: Int
    /// Told how many bytes were written; whether to go on.
    private let advance: (Int) -> Bool
    private let kernels = rwkv_kernels_for(rwkv_best_instruction_set()).pointee
    private let source: UnsafeMutableRawBufferPointer
    private let target: UnsafeMutableRawBufferPointer
    private let floats: UnsafeMutableBufferPointer<Float>

    init(_ conversion: Conversion, _ writer: CheckpointWriter, pieceSize: Int, advance: @escaping (Int) -> Bool) {
        self.conversion = conversion
        self.writer = writer
        self.pieceSize = pieceSize
        self.advance = advance
        source = .allocate(byteCount: 8 * pieceSize, alignment: 64)
        target = .allocate(byteCount: 8 * pieceSize, alignment: 64)
        floats = .allocate(capacity: pieceSize)
    }

    deinit {
        source.deallocate()
        target.deallocate()
        floats.deallocate()
    }

    /// Makes a tensor; gives the SHA-256 of its bytes.
    func make(_ number: Int) throws(CheckpointError) -> String {
        let tensor = conversion.tensors[number]
        var output = try writer.begin(number)
        switch tensor.origin {
        case .initialised(let values): try initialise(tensor, values, &output)
        case .tensor(let input, let steps):
            guard let checkpoint = conversion.inputs[input.part]?.checkpoint else { break }
            var info = checkpoint.tensors[input.position]
            if steps.isTransposed {
                guard let transposed = info.transposed else {
                    throw CheckpointError(
                        .unsupported, path: checkpoint.path, "the matrix cannot be transposed", tensor: info.name)
                }
                info = transposed
            }
            if let merge = steps.merge, let adapter = conversion.inputs[.adapter]?.checkpoint {
                try mergeRows(tensor, info, of: checkpoint, merge, adapter, factor: steps.factor, &output)
            } else if steps.factor == 1, info.dtype == tensor.output.dtype {
                try copy(info, of: checkpoint, &output)
            } else {
                try cast(tensor, info, of: checkpoint, factor: steps.factor, &output)
            }
        }
        return output.finish()
    }

    private func append(_ bytes: UnsafeRawBufferPointer, to output: inout TensorOutput) throws(CheckpointError) {
        try output.append(bytes)
        guard advance(bytes.count) else {
            throw CheckpointError(.cancelled, path: conversion.options.destination.path, "stopped as asked")
        }
    }

    /// The next bytes of a tensor, as they are; they hold until the next are read.
    private func read(
        _ byteCount: Int, from input: inout TensorInput
    ) throws(CheckpointError) -> UnsafeRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer(rebasing: source[..<byteCount])
        try input.read(into: bytes)
        return UnsafeRawBufferPointer(bytes)
    }

    private func copy(
        _ info: TensorInfo, of checkpoint: Checkpoint, _ output: inout TensorOutput
    ) throws(CheckpointError) {
        var input = TensorInput(info, of: checkpoint)
        // Whole elements, whatever their size.
        let step = 4 * pieceSize
        for start in stride(from: 0, to: info.byteCount, by: step) {
            try append(read(min(step, info.byteCount - start), from: &input), to: &output)
        }
        try input.finish()
    }

    private func cast(
        _ tensor: Conversion.Tensor, _ info: TensorInfo, of checkpoint: Checkpoint, factor: Double,
        _ output: inout TensorOutput
    ) throws(CheckpointError) {
        var input = TensorInput(info, of: checkpoint)
        for start in stride(from: 0, to: info.elementCount, by: pieceSize) {
            let count = min(pieceSize, info.elementCount - start)
            let bytes = try read(count * info.dtype.bitWidth / 8, from: &input)
            if factor == 1 {
                try write(bytes, info.dtype, tensor, count: count, &output)
            } else {
                loadFloats(bytes, info, count: count)
                for index in 0..<count { floats[index] *= Float(factor) }
                try write(UnsafeRawBufferPointer(floats), .f32, tensor, count: count, &output)
            }
        }
        try input.finish()
    }

    /// Puts elements into ``floats``.
    private func loadFloats(_ bytes: UnsafeRawBufferPointer, _ info: TensorInfo, count: Int) {
        guard let element = info.dtype.floatElement else { return }
        _ = kernels.cast(element, bytes.baseAddress, RWKV_ELEMENT_F32, floats.baseAddress, count, 0)
    }

    /// Rounds elements to the type that they are to have, and writes them.
    private func write(
        _ bytes: UnsafeRawBufferPointer, _ dtype: DType, _ tensor: Conversion.Tensor, count: Int,
        _ output: inout TensorOutput
    ) throws(CheckpointError) {
        let type = tensor.output.dtype
        guard let from = dtype.floatElement, let to = type.floatElement else { return }
        let saturates = conversion.options.saturates
        let overflows = kernels.cast(from, bytes.baseAddress, to, target.baseAddress, count, saturates ? 1 : 0)
        guard overflows == 0 || saturates else {
            throw CheckpointError(
                .unsupported, path: conversion.options.destination.path,
                "a value is beyond the largest of \(type.rawValue)", tensor: tensor.output.name,
                advice: "--saturate takes that one instead, --dtype-for another type for some roles")
        }
        try append(UnsafeRawBufferPointer(rebasing: target[..<(count * type.bitWidth / 8)]), to: &output)
    }

    private func initialise(
        _ tensor: Conversion.Tensor, _ values: InitialValues, _ output: inout TensorOutput
    ) throws(CheckpointError) {
        let matrix = values.matrix(kernels)
        let count = values.elementCount
        for start in stride(from: 0, to: count, by: pieceSize) {
            let size = min(pieceSize, count - start)
            let doubles = source.bindMemory(to: Double.self)
            for index in 0..<size { doubles[index] = matrix?[start + index] ?? values.value(at: start + index) }
            try write(UnsafeRawBufferPointer(source), .f64, tensor, count: size, &output)
        }
    }

    private func mergeRows(
        _ tensor: Conversion.Tensor, _ info: TensorInfo, of checkpoint: Checkpoint, _ merge: WeightMerge,
        _ adapter: Checkpoint, factor: Double, _ output: inout TensorOutput
    ) throws(CheckpointError) {
        let (rows, columns) = (info.shape[0], info.shape[1])
        var merger = try WeightMerger(merge, of: adapter, columns: columns, kernels)
        // A row of millions of columns has buffers of its own.
        let count = max(1, pieceSize / columns)
        let own = columns > pieceSize ? TensorMaker(conversion, writer, pieceSize: columns, advance: advance) : self
        for isMeasuring in merger.mustMeasure ? [true, false] : [false] {
            var input = TensorInput(info, of: checkpoint)
            for row in stride(from: 0, to: rows, by: count) {
                let count = min(count, rows - row) * columns
                own.loadFloats(try own.read(count * info.dtype.bitWidth / 8, from: &input), info, count: count)
                let values = UnsafeMutableBufferPointer(rebasing: own.floats[..<count])
                if isMeasuring {
                    try merger.measure(values, from: row)
                    continue
                }
                try merger.merge(into: values, from: row)
                if factor != 1 {
                    for index in values.indices { values[index] *= Float(factor) }
                }
                try own.write(UnsafeRawBufferPointer(values), .f32, tensor, count: count, &output)
            }
            try input.finish()
        }
    }
}
