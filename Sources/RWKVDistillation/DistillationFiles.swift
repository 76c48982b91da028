import Bytes
import CheckpointConversion
import CheckpointFiles
import ModelFamilies
import RWKVEvaluation
import RWKVInference
import RWKVNumerics

// A run is saved as a model directory that contains the student, the log, and if the run is unfinished, the state for
// resuming it. Trained tensors are saved as F32, because training uses fp32.
extension DistillationRun {
    private static var modelName: String { "model.safetensors" }
    private static var stateName: String { "training.safetensors" }
    private static var logName: String { "log.jsonl" }

    private var student: TrainedModel<Float> { distillation.student }

    /// Saves the student and the log, and if the run is unfinished, the state for resuming it.
    ///
    /// The directory keeps its previous contents until all files have been written.
    ///
    /// - Parameters:
    ///   - inputs: the digests of the run's inputs.
    ///   - isComplete: whether all evaluations that are due have been done. If not, the state is saved even if all
    ///     steps have been completed.
    /// - Throws: `CheckpointError`: `cannotCreate`, or `inputOutput` if reading or writing fails or the disk is full.
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

    /// Checks that a run can be saved in a directory.
    ///
    /// - Parameters:
    ///   - path: the path of the directory.
    ///   - replaces: whether to replace files from an earlier run.
    /// - Throws: `CheckpointError` of category `cannotCreate` if a run cannot be saved in the directory.
    static func checkDirectory(_ path: String, replaces: Bool) throws(CheckpointError) {
        if !replaces, (try? FileSource(path: path + "/" + stateName)) != nil {
            throw CheckpointError(
                .cannotCreate, path: path, "the directory holds an unfinished run",
                advice: "--resume continues it, --force replaces it")
        }
        _ = try UnfinishedDirectory(path: path, isReplaceable: replaces ? { isOwn($0) } : nil)
    }

    private static var configurationName: String { "config.json" }
    private static var companions: [String] { Conversion.companions + [configurationName] }

    /// Returns whether the entries of a directory are all files that a run writes, and include a log.
    private static func isOwn(_ names: [String]) -> Bool {
        let pages = DistillationPage.allCases.map(\.rawValue)
        let own = companions + [modelName, stateName, logName] + TrainedAdapters.files + pages
        return names.contains(logName) && Set(own).isSuperset(of: names)
    }

    private func writeModel(into directory: borrowing UnfinishedDirectory) throws(CheckpointError) -> [TensorDigest] {
        let model = student.model
        let source = model.checkpoint
        // Weights that share a tensor are either all trained or all frozen, and their parameters are in row order.
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
        let byteLayout = try CheckpointByteLayout(tensors, container: .safetensors, name: name, metadata: metadata)
        let writer = try CheckpointWriter(byteLayout, into: directory)
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
                .unsupported, path: student.model.checkpoint.path, "a tensor is too large for a file",
                tensor: name)
        }
    }

    /// Restores the unfinished run that is saved in the directory.
    ///
    /// - Parameters:
    ///   - inputs: the digests of this run's inputs, which must equal those of the saved run.
    ///   - kernels: the kernels to use.
    ///   - progress: an object that the caller can use to cancel the work.
    /// - Throws: `CheckpointError`: `notFound` if there is no unfinished run, `inputOutput`, `malformed` if the saved
    ///   run is not valid, `unsupported` if its settings or inputs were different, or `cancelled`.
    mutating func resume(
        _ inputs: InputDigests, _ kernels: Kernels<Float>, _ progress: WorkProgress
    ) throws(CheckpointError) {
        let file: Checkpoint
        do throws(CheckpointError) {
            file = try Checkpoint.open(path + "/" + Self.stateName)
        } catch  where error.category == .notFound {
            throw CheckpointError(.notFound, path: path, "the directory holds no unfinished run")
        }
        let state = try DistillationState(file, of: distillation, inputs)
        let adapter = try distillation.settings.adapters.map { _ throws(CheckpointError) in
            try Checkpoint.open(path + "/" + TrainedAdapters.fileName)
        }
        let model = student.model
        guard model.checkpoint.isFile(at: path + "/" + Self.modelName) else {
            throw CheckpointError(
                .unsupported, path: model.checkpoint.path, "to resume a run, use the student in the run's directory",
                expected: path)
        }
        var tensors = try model.checkpoint.digests(threads: kernels.threads, progress: progress)
        if let adapter { tensors += try adapter.digests(threads: kernels.threads, progress: progress) }
        guard digest(of: tensors, model.description) == state.student else {
            throw CheckpointError(
                .unsupported, path: path, "the student differs from the one that was saved with the run's state")
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
                .malformed, path: path + "/" + Self.logName, "the log does not match the steps of the saved state",
                expected: "\(state.step)", found: "\(log.steps.count)")
        }
        guard !log.arithmetics.isEmpty else {
            throw CheckpointError(
                .malformed, path: path + "/" + Self.logName, "the log does not record the arithmetic of its steps")
        }
        for parameter in student.parameters where parameter.isOfAdapter {
            if let adapter { try parameter.values.read(parameter.name, parameter.shape, of: adapter) }
        }
        try distillation.skip(to: state.step, updates: state.updates, kernels)
    }
}

/// A page about a run, which is saved in the run's directory.
public enum DistillationPage: String, Sendable, CaseIterable {
    /// A chart of the loss and the results on held-out tokens by step.
    case curve = "curve.svg"
    /// A self-contained HTML page with all results of the run.
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
