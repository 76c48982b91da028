import CheckpointConversion
import CheckpointFiles
import CheckpointJSON
import ModelFamilies
import RWKVEvaluation
import RWKVInference
import RWKVNumerics

// A run as a model directory: the student, what it needs to go on, and its log. What was trained is F32, as it was trained.
extension DistillationRun {
    private static var modelName: String { "model.safetensors" }
    private static var stateName: String { "training.safetensors" }
    private static var logName: String { "log.jsonl" }

    private var student: TrainedModel<Float> { distillation.student }

    /// Writes the student, and what it needs to go on where something is left to do.
    ///
    /// The directory holds what it held before until all is written.
    ///
    /// - Parameters:
    ///   - inputs: of the run.
    ///   - isComplete: whether nothing is left to do but steps.
    /// - Throws: ``CheckpointError``: `cannotCreate`, or `inputOutput` where reading or writing fails or the disk is too small.
    mutating func save(_ inputs: InputDigests, isComplete: Bool = true) throws(CheckpointError) {
        let directory = try UnfinishedDirectory(path: path, isReplaceable: ownsDirectory ? { Self.isOwn($0) } : nil)
        var tensors = try writeModel(into: directory)
        if let adapters = distillation.settings.adapters { tensors += try write(adapters, into: directory) }
        if !distillation.isDone || !isComplete {
            try writeState(inputs, student: digest(of: tensors, student.model.description), into: directory)
        }
        let configuration = options.configuration
        let beside = student.model.checkpoint.files(beside: Self.companions)
        for file in beside where configuration == nil || Conversion.name(of: file) != Self.configurationName {
            try directory.copy(FileSource(path: file), to: Conversion.name(of: file))
        }
        if let configuration { try directory.copy(FileSource(path: configuration), to: Self.configurationName) }
        for (page, text) in options.pages(self) { try directory.write(Array(text.utf8), to: page.rawValue) }
        try directory.write(log.bytes, to: Self.logName)
        try directory.commit()
        ownsDirectory = true
    }

    /// Throws where a run cannot be saved.
    ///
    /// - Parameters:
    ///   - path: of a directory.
    ///   - replaces: whether what an earlier run wrote there may be replaced.
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    static func checkDirectory(_ path: String, replaces: Bool) throws(CheckpointError) {
        if !replaces, (try? FileSource(path: path + "/" + stateName)) != nil {
            throw CheckpointError(
                .cannotCreate, path: path, "there is an unfinished run",
                advice: "--resume goes on with it, --force replaces it")
        }
        _ = try UnfinishedDirectory(path: path, isReplaceable: replaces ? { isOwn($0) } : nil)
    }

    private static var configurationName: String { "config.json" }
    private static var companions: [String] { Conversion.companions + [configurationName] }

    /// Whether a directory with these files is one that a run wrote, and nobody added to.
    private static func isOwn(_ names: [String]) -> Bool {
        let pages = DistillationPage.allCases.map(\.rawValue)
        let own = companions + [modelName, stateName, logName] + TrainedAdapters.files + pages
        return names.contains(logName) && Set(own).isSuperset(of: names)
    }

    private func writeModel(into directory: borrowing UnfinishedDirectory) throws(CheckpointError) -> [TensorDigest] {
        let model = student.model
        let source = model.checkpoint
        // Parts of a tensor are trained together, and come in the order of their rows.
        var trained: [Int: [Matrix<Float>]] = [:]
        for parameter in student.parameters where !parameter.isOfAdapter {
            guard let binding = model.description.bindings[parameter.place] else { continue }
            trained[binding.position, default: []].append(parameter.values)
        }
        var tensors: [OutputTensor] = []
        for (position, tensor) in source.tensors.enumerated() {
            tensors.append(try output(tensor.name, trained[position] == nil ? tensor.dtype : .f32, tensor.shape))
        }
        return try write(tensors, to: Self.modelName, metadata: ["format": "pt"], into: directory) {
            (position, output) throws(CheckpointError) in
            if let parts = trained[position] {
                for values in parts { try output.append(values) }
                return
            }
            let tensor = source.tensors[position]
            for part in tensor.byteCount.parts(of: 1 << 22) {
                let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: part.count, alignment: 64)
                defer { buffer.deallocate() }
                var span = MutableRawSpan(_unsafeBytes: buffer)
                try source.read(tensor, at: part.lowerBound, into: &span)
                try output.append(UnsafeRawBufferPointer(buffer))
            }
        }
    }

    private func write(
        _ adapters: TrainedAdapters, into directory: borrowing UnfinishedDirectory
    ) throws(CheckpointError) -> [TensorDigest] {
        if let configuration = adapters.configuration(of: student.parameters) {
            try directory.write(configuration, to: TrainedAdapters.configurationName)
        }
        return try write(
            student.parameters.filter(\.isOfAdapter).map { ($0.name, $0.shape, $0.values) },
            to: TrainedAdapters.fileName, metadata: ["format": "pt"], into: directory)
    }

    private func writeState(
        _ inputs: InputDigests, student digest: String, into directory: borrowing UnfinishedDirectory
    ) throws(CheckpointError) {
        let moments = zip(student.parameters, distillation.optimiser.moments).flatMap { parameter, moments in
            [
                (DistillationState.momentName(1, parameter.name), parameter.shape, moments.first),
                (DistillationState.momentName(2, parameter.name), parameter.shape, moments.second),
            ]
        }
        let digests = moments.map { name, shape, values in
            values.digest(name, shape)
        }
        let metadata = DistillationState.metadata(of: distillation, inputs, student: digest, moments: digests)
        _ = try write(moments, to: Self.stateName, metadata: metadata, into: directory)
    }

    private func write(
        _ matrices: [(name: String, shape: [Int], values: Matrix<Float>)], to name: String,
        metadata: [ByteString: String], into directory: borrowing UnfinishedDirectory
    ) throws(CheckpointError) -> [TensorDigest] {
        var tensors: [OutputTensor] = []
        for matrix in matrices { tensors.append(try output(matrix.name, .f32, matrix.shape)) }
        return try write(tensors, to: name, metadata: metadata, into: directory) {
            (number, output) throws(CheckpointError) in try output.append(matrices[number].values)
        }
    }

    private func write(
        _ tensors: [OutputTensor], to name: String, metadata: [ByteString: String],
        into directory: borrowing UnfinishedDirectory,
        _ append: (_ number: Int, _ output: inout TensorOutput) throws(CheckpointError) -> Void
    ) throws(CheckpointError) -> [TensorDigest] {
        let outline = try CheckpointOutline(tensors, container: .safetensors, name: name, metadata: metadata)
        let writer = try CheckpointWriter(outline, into: directory)
        var digests: [TensorDigest] = []
        for (number, tensor) in tensors.enumerated() {
            var output = try writer.begin(number)
            try append(number, &output)
            digests.append(
                TensorDigest(name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, sha256: output.finish()))
        }
        try writer.finish()
        return digests
    }

    private func output(_ name: String, _ dtype: DType, _ shape: [Int]) throws(CheckpointError) -> OutputTensor {
        do throws(DType.SizeError) {
            return try OutputTensor(name: name, dtype: dtype, shape: shape)
        } catch {
            throw CheckpointError(
                .unsupported, path: student.model.checkpoint.path, "a tensor has more bytes than a file",
                tensor: name)
        }
    }

    /// Goes on with the run that the directory holds.
    ///
    /// - Parameters:
    ///   - inputs: of this run, which must be those of that one.
    ///   - kernels: what it is computed with.
    ///   - progress: can stop the work.
    /// - Throws: ``CheckpointError``: `notFound` or `inputOutput`, `malformed` where it is not what such a run saves, or `unsupported`
    ///   where its settings or its inputs were others.
    mutating func resume(
        _ inputs: InputDigests, _ kernels: Kernels<Float>, _ progress: WorkProgress
    ) throws(CheckpointError) {
        let file: Checkpoint
        do throws(CheckpointError) {
            file = try Checkpoint.open(path + "/" + Self.stateName)
        } catch  where error.category == .notFound {
            throw CheckpointError(.notFound, path: path, "there is no unfinished run")
        }
        let state = try DistillationState(file, of: distillation, inputs)
        let adapter = try distillation.settings.adapters.map { _ throws(CheckpointError) in
            try Checkpoint.open(path + "/" + TrainedAdapters.fileName)
        }
        let model = student.model
        guard model.checkpoint.isFile(at: path + "/" + Self.modelName) else {
            throw CheckpointError(
                .unsupported, path: model.checkpoint.path, "a run is resumed with the student in its directory",
                expected: path)
        }
        var tensors = try model.checkpoint.digests(threads: kernels.threads, progress: progress)
        if let adapter { tensors += try adapter.digests(threads: kernels.threads, progress: progress) }
        guard digest(of: tensors, model.description) == state.student else {
            throw CheckpointError(
                .unsupported, path: path, "the student is not the one that was saved with the state of the run")
        }
        var digests: [TensorDigest] = []
        for (parameter, moments) in zip(student.parameters, distillation.optimiser.moments) {
            for (number, moment) in [(1, moments.first), (2, moments.second)] {
                let name = DistillationState.momentName(number, parameter.name)
                try moment.read(name, parameter.shape, of: file)
                digests.append(moment.digest(name, parameter.shape))
            }
        }
        guard DistillationState.digest(of: digests, updates: state.updates) == state.moments else {
            throw CheckpointError(.malformed, path: file.path, "the state of the run is damaged")
        }
        log = try DistillationLog(contentsOf: path + "/" + Self.logName)
        guard log.steps.count == state.step,
            log.steps.allSatisfy({ $0.tokens == $0.figures.number * distillation.settings.tokens })
        else {
            throw CheckpointError(
                .malformed, path: path + "/" + Self.logName, "it is not the log of these steps",
                expected: "\(state.step)", found: "\(log.steps.count)")
        }
        guard !log.arithmetics.isEmpty else {
            throw CheckpointError(
                .malformed, path: path + "/" + Self.logName, "the log does not say what its steps were computed with")
        }
        for parameter in student.parameters where parameter.isOfAdapter {
            if let adapter { try parameter.values.read(parameter.name, parameter.shape, of: adapter) }
        }
        try distillation.skip(to: state.step, updates: state.updates, kernels)
    }
}

/// What is said about a run beside its log.
public enum DistillationPage: String, Sendable, CaseIterable {
    /// The loss, and what was found on held-out tokens, over steps.
    case curve = "curve.svg"
    /// All figures, on a page that needs no other file.
    case report = "report.html"
}

extension Matrix<Float> {
    fileprivate func digest(_ name: String, _ shape: [Int]) -> TensorDigest {
        TensorDigest(
            name: name, dtype: .f32, shape: shape, sha256: withNumbers { sha256(of: UnsafeRawBufferPointer($0)) })
    }

    fileprivate func read(_ name: String, _ shape: [Int], of checkpoint: Checkpoint) throws(CheckpointError) {
        guard let tensor = checkpoint.tensor(named: name), tensor.dtype == .f32, tensor.shape == shape else {
            throw CheckpointError(
                .malformed, path: checkpoint.path, "the state of the run is damaged", tensor: name)
        }
        var numbers = [Float](repeating: 0, count: tensor.elementCount)
        var span = numbers.mutableSpan
        var bytes = span.mutableBytes
        try checkpoint.read(tensor, at: 0, into: &bytes)
        replaceRows(from: 0, by: Matrix(numbers, columns: columns))
    }
}
