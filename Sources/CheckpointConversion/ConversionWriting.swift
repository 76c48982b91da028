public import Bytes
import CheckpointFiles
import Dispatch
import Synchronization

extension Conversion {
    /// Writes the output tensors, the companion files and the manifest.
    ///
    /// The destination keeps its old contents until everything has been written. The result does not depend on the
    /// number of threads. Each tensor is read once, from front to back, through buffers of a few megabytes, except that
    /// weights whose columns an adapter scales are read twice.
    ///
    /// - Parameters:
    ///   - replaces: whether to replace an existing destination, which must be a file, or a directory that an earlier
    ///     conversion wrote.
    ///   - threads: the number of threads to use.
    ///   - planHash: the SHA-256 of the plan document, for the manifest; nil if there is no plan.
    ///   - version: the tool's version, for the manifest.
    ///   - progress: receives the progress after every buffer, and can cancel the work.
    /// - Returns: the SHA-256 of each output tensor's bytes.
    /// - Throws: `CheckpointError`: `inputOutput` if reading or writing fails or there is too little disk space,
    ///   `cannotCreate`, `malformed` (a wrong checksum), `unsupported` (a value that a dtype cannot hold), `notFinite`
    ///   (DoRA of a row of zeros) or `cancelled`.
    public func write(
        replaces: Bool, threads: Int, planHash: String?, version: String, progress: WorkProgress = WorkProgress()
    ) throws(CheckpointError) -> [[UInt8]] {
        try requireRoom(for: isCompressed ? 0 : byteLayout.byteCount, at: options.destination.path)
        switch options.destination {
        case .file(let path, _, let isCompressed):
            let manifestPath = path + ".conversion.json"
            let file = try UnfinishedFile(path: path, replaces: replaces)
            let manifestFile = try UnfinishedFile(path: manifestPath, replaces: replaces, followsLinks: false)
            let writer = try CheckpointWriter(byteLayout, into: file, isCompressed: isCompressed)
            let hashes = try write(with: writer, threads: threads, progress)
            try writeManifest(hashes, planHash, version, to: manifestFile.file)
            // An old manifest does not describe the new file, so remove it first.
            if replaces { try removeFile(manifestPath) }
            try file.commit()
            try manifestFile.commit()
            return hashes
        case .directory(let path, _):
            let directory = try UnfinishedDirectory(path: path, isReplaceable: replaces ? { Self.isOwn($0) } : nil)
            let writer = try CheckpointWriter(byteLayout, into: directory)
            let hashes = try write(with: writer, threads: threads, progress)
            try copyCompanions(into: directory)
            if let configuration { try directory.write(configuration, to: "config.json") }
            let manifestFile = try directory.create(Self.manifestName)
            try writeManifest(hashes, planHash, version, to: manifestFile)
            try manifestFile.finish()
            try directory.commit()
            return hashes
        }
    }

    private var isCompressed: Bool {
        if case .file(_, _, let isCompressed) = options.destination { isCompressed } else { false }
    }

    private func write(
        with writer: CheckpointWriter, threads: Int, _ progress: WorkProgress
    ) throws(CheckpointError) -> [[UInt8]] {
        let run = ConversionRun(self, writer, progress)
        let hashes = try run.run(threads: writer.isSequential ? 1 : max(1, threads))
        try writer.finish()
        return hashes
    }

    private func writeManifest(
        _ hashes: [[UInt8]], _ planHash: String?, _ version: String,
        to file: OutputFile
    ) throws(CheckpointError) {
        var position = 0
        let output = ByteOutput { bytes in
            try file.write(bytes, at: position)
            position += bytes.count
        }
        do {
            try writeManifest(hashes: hashes, planHash: planHash, version: version, to: output)
        } catch let error as CheckpointError {
            throw error
        } catch {
            throw CheckpointError(.inputOutput, path: options.destination.path, "the manifest cannot be written")
        }
    }

    // MARK: Companion files

    static let manifestName = "conversion.json"

    /// The names of the tokenizer files and generation settings that are copied with a model.
    package static let companions: [String] = [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja",
        "chat_template.json", "generation_config.json", "rwkv_vocab_v20230424.txt",
    ]

    /// The paths of the companion files to copy: the source's if it has any, otherwise the teacher's.
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

    /// Returns whether a directory with these entries has a manifest and contains only files that a conversion writes.
    private static func isOwn(_ names: [String]) -> Bool {
        let known = Set(companions + [manifestName, "config.json", CheckpointByteLayout.indexName])
        return names.contains(manifestName)
            && names.allSatisfy { known.contains($0) || CheckpointByteLayout.isShard($0) }
    }
}

/// The state of a conversion that runs on several threads.
private final class ConversionRun: Sendable {
    /// The number of elements to process at once, small enough that they stay in a core's cache.
    ///
    /// When tensors are copied, every four bytes count as one element.
    private static let pieceSize = 1 << 19

    private struct Findings: Sendable {
        var failure: CheckpointError?
        var hashes: [[UInt8]]
    }

    private let conversion: Conversion
    private let writer: CheckpointWriter
    private let progress: WorkProgress
    private let total: Int
    /// The indices of the tensors that do not share the bytes of another tensor, in the order in which they are
    /// computed.
    private let order: [Int]
    private let next = Atomic<Int>(0)
    private let findings: Mutex<Findings>

    init(_ conversion: Conversion, _ writer: CheckpointWriter, _ progress: WorkProgress) {
        self.conversion = conversion
        self.writer = writer
        self.progress = progress
        let tensors = conversion.tensors
        total = writer.order.reduce(0) { $0.adding(clamped: tensors[$1].output.byteCount) }
        // Start with initialised tensors, which take a long time, and then follow the order of the input files.
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
        findings = Mutex(Findings(hashes: tensors.map { _ in [] }))
    }

    /// Computes and writes all tensors, and returns the SHA-256 of each.
    func run(threads: Int) throws(CheckpointError) -> [[UInt8]] {
        let isSequential = conversion.inputs.values.contains { $0.checkpoint.files.contains { $0.source.isSequential } }
        DispatchQueue.concurrentPerform(iterations: isSequential ? 1 : min(threads, max(1, order.count))) { _ in work()
        }
        let found = findings.withLock { $0 }
        if let failure = found.failure { throw failure }
        for input in conversion.inputs.values {
            for file in input.checkpoint.files { try file.source.finish() }
        }
        return conversion.tensors.indices.map { number in
            found.hashes[conversion.tensors[number].output.sharedWith ?? number]
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
