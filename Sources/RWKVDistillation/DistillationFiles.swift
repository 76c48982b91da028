import CheckpointConversion
public import CheckpointFiles
import CheckpointJSON
import ModelFamilies
import RWKVEvaluation
import RWKVInference
public import RWKVNumerics

// A run as a model directory: the student, what it needs to go on, and its log. What was trained is F32, as it was trained.
extension Distillation where Element == Float {
    private static var modelName: String { "model.safetensors" }
    private static var stateName: String { "training.safetensors" }
    private static var logName: String { "log.jsonl" }
    private static var settingsKey: ByteString { "settings" }
    private static var inputsKey: ByteString { "inputs" }

    private static func momentName(_ number: Int, _ name: String) -> String { "moment\(number).\(name)" }

    /// Writes the student, and where something is left to do what it needs.
    ///
    /// The place holds what it held before until all is written.
    ///
    /// - Parameters:
    ///   - path: of a directory.
    ///   - log: of all steps so far.
    ///   - pages: what else is said about the run, for people.
    ///   - configuration: the config.json that the student was read with; nil for the one beside it.
    ///   - replaces: whether what an earlier run wrote there may be replaced.
    ///   - isComplete: whether nothing is left to do but steps.
    /// - Throws: ``CheckpointError``: `cannotCreate`, or `inputOutput` where reading or writing fails or the disk is too small.
    public func save(
        to path: String, log: DistillationLog, pages: [DistillationPage: String] = [:],
        configuration: String? = nil, replaces: Bool, isComplete: Bool = true
    ) throws(CheckpointError) {
        let directory = try UnfinishedDirectory(path: path, isReplaceable: replaces ? { Self.isOwn($0) } : nil)
        try writeModel(into: directory)
        if let adapters = settings.adapters { try write(adapters, into: directory) }
        if !isDone || !isComplete { try writeState(into: directory) }
        let beside = student.model.checkpoint.files(beside: Self.companions)
        for file in beside where configuration == nil || Conversion.name(of: file) != Self.configurationName {
            try directory.copy(FileSource(path: file), to: Conversion.name(of: file))
        }
        if let configuration { try directory.copy(FileSource(path: configuration), to: Self.configurationName) }
        for (page, text) in pages { try directory.write(Array(text.utf8), to: page.rawValue) }
        try directory.write(log.bytes, to: Self.logName)
        try directory.commit()
    }

    /// Throws where a run cannot be saved.
    ///
    /// - Parameters:
    ///   - path: of a directory.
    ///   - replaces: whether what an earlier run wrote there may be replaced.
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    public func checkPlace(_ path: String, replaces: Bool) throws(CheckpointError) {
        if !replaces, (try? FileSource(path: path + "/" + Self.stateName)) != nil {
            throw CheckpointError(
                .cannotCreate, path: path, "there is an unfinished run",
                advice: "--resume goes on with it, --force replaces it")
        }
        _ = try UnfinishedDirectory(path: path, isReplaceable: replaces ? { Self.isOwn($0) } : nil)
    }

    private static var configurationName: String { "config.json" }
    private static var companions: [String] { Conversion.companions + [configurationName] }

    /// Whether a directory with these files is one that a run wrote, and nobody added to.
    private static func isOwn(_ names: [String]) -> Bool {
        let pages = DistillationPage.allCases.map(\.rawValue)
        let own = companions + [modelName, stateName, logName] + TrainedAdapters.files + pages
        return names.contains(logName) && Set(own).isSuperset(of: names)
    }

    private func writeModel(into directory: borrowing UnfinishedDirectory) throws(CheckpointError) {
        let source = student.model.checkpoint
        let own = student.parameters.filter { !$0.isOfAdapter }
        let trained = Dictionary(uniqueKeysWithValues: own.map { ($0.name, $0.values) })
        var tensors: [OutputTensor] = []
        for tensor in source.tensors {
            tensors.append(try output(tensor.name, trained[tensor.name] == nil ? tensor.dtype : .f32, tensor.shape))
        }
        let outline = try CheckpointOutline(
            tensors, container: .safetensors, name: Self.modelName, metadata: ["format": "pt"])
        let writer = try CheckpointWriter(outline, into: directory)
        for (number, tensor) in source.tensors.enumerated() {
            var output = try writer.begin(number)
            if let values = trained[tensor.name] {
                try output.append(values)
            } else {
                for part in tensor.byteCount.parts(of: 1 << 22) {
                    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: part.count, alignment: 64)
                    defer { buffer.deallocate() }
                    var span = MutableRawSpan(_unsafeBytes: buffer)
                    try source.read(tensor, at: part.lowerBound, into: &span)
                    try output.append(UnsafeRawBufferPointer(buffer))
                }
            }
            _ = output.finish()
        }
        try writer.finish()
    }

    private func write(
        _ adapters: TrainedAdapters, into directory: borrowing UnfinishedDirectory
    ) throws(CheckpointError) {
        try write(
            student.parameters.filter(\.isOfAdapter).map { ($0.name, $0.shape, $0.values) },
            to: TrainedAdapters.fileName, metadata: ["format": "pt"], into: directory)
        if let configuration = adapters.configuration(of: student.parameters) {
            try directory.write(configuration, to: TrainedAdapters.configurationName)
        }
    }

    private func writeState(into directory: borrowing UnfinishedDirectory) throws(CheckpointError) {
        let moments = zip(student.parameters, optimiser.moments).flatMap { parameter, moments in
            [
                (Self.momentName(1, parameter.name), parameter.shape, moments.first),
                (Self.momentName(2, parameter.name), parameter.shape, moments.second),
            ]
        }
        try write(
            moments, to: Self.stateName,
            metadata: [
                Self.settingsKey: settings.text, Self.inputsKey: inputs, "step": "\(step)",
                "updates": "\(optimiser.steps)",
            ], into: directory)
    }

    private func write(
        _ matrices: [(name: String, shape: [Int], values: Matrix<Float>)], to name: String,
        metadata: [ByteString: String], into directory: borrowing UnfinishedDirectory
    ) throws(CheckpointError) {
        var tensors: [OutputTensor] = []
        for matrix in matrices { tensors.append(try output(matrix.name, .f32, matrix.shape)) }
        let outline = try CheckpointOutline(tensors, container: .safetensors, name: name, metadata: metadata)
        let writer = try CheckpointWriter(outline, into: directory)
        for (number, matrix) in matrices.enumerated() {
            var output = try writer.begin(number)
            try output.append(matrix.values)
            _ = output.finish()
        }
        try writer.finish()
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

    /// Goes on with a run that was saved, whose student this one was begun with.
    ///
    /// - Parameters:
    ///   - path: of the directory.
    ///   - kernels: what it is computed with.
    /// - Returns: its log so far.
    /// - Throws: ``CheckpointError``: `notFound` or `inputOutput`, `malformed` where it is not what such a run saves, or `unsupported`
    ///   where its settings were others.
    public mutating func resume(from path: String, _ kernels: Kernels<Float>) throws(CheckpointError) -> DistillationLog
    {
        let state: Checkpoint
        do throws(CheckpointError) {
            state = try Checkpoint.open(path + "/" + Self.stateName)
        } catch  where error.category == .notFound {
            throw CheckpointError(.notFound, path: path, "there is no unfinished run")
        }
        let metadata = state.metadata
        let (own, begun) = (settings.text, metadata[Self.settingsKey] ?? "")
        guard begun == own else {
            // What is the same would push what is not out of sight.
            func parts(of text: String, without other: String) -> String {
                let others = other.split(separator: ",")
                return text.split(separator: ",").filter { !others.contains($0) }.joined(separator: ",")
            }
            throw CheckpointError(
                .unsupported, path: state.path, "the run was begun with other settings",
                expected: parts(of: begun, without: own), found: parts(of: own, without: begun))
        }
        guard metadata[Self.inputsKey] == inputs else {
            throw CheckpointError(
                .unsupported, path: state.path, "the run was begun with another teacher or other tokens")
        }
        guard let done = metadata["step"].flatMap({ Int($0) }), 0...settings.steps ~= done,
            let updates = metadata["updates"].flatMap({ Int($0) }), 0...done ~= updates,
            state.tensors.count == 2 * student.parameters.count
        else { throw CheckpointError(.malformed, path: state.path, "it is not the state of such a run") }
        let adapter = try settings.adapters.map { _ throws(CheckpointError) in
            try Checkpoint.open(path + "/" + TrainedAdapters.fileName)
        }
        for (parameter, moments) in zip(student.parameters, optimiser.moments) {
            for (number, moment) in [(1, moments.first), (2, moments.second)] {
                try moment.read(Self.momentName(number, parameter.name), parameter.shape, of: state)
            }
            if parameter.isOfAdapter, let adapter {
                try parameter.values.read(parameter.name, parameter.shape, of: adapter)
            }
        }
        let log = try DistillationLog(contentsOf: path + "/" + Self.logName)
        guard log.steps.count == done else {
            throw CheckpointError(
                .malformed, path: path + "/" + Self.logName, "it is not the log of these steps", expected: "\(done)",
                found: "\(log.steps.count)")
        }
        try skip(to: done, kernels)
        optimiser.steps = updates
        return log
    }
}

/// What is said about a run beside its log.
public enum DistillationPage: String, Sendable, CaseIterable {
    /// The loss, and what was seen on held-out tokens, over steps.
    case curve = "curve.svg"
    /// All figures, on a page that needs no other file.
    case report = "report.html"
}

extension Distillation.Settings {
    /// All that a run depends on, but for its models and its tokens.
    package var text: String {
        let rate = learningRate
        let what =
            switch stage {
            case .alignment(let alignment):
                "stage 1, loss \(alignment.loss.rawValue), first values "
                    + (alignment.passesFirstValues ? "joined" : "detached")
            case .divergence(let divergence, let temperatures):
                "stage 2, temperatures \(temperatures) of \(divergence.divides.rawValue), cross entropy "
                    + "\(divergence.crossEntropyWeight), first values "
                    + (divergence.passesFirstValues ? "joined" : "detached")
            }
        let adapters = adapters.map { ", adapters \($0.kind.rawValue):\($0.rank)" } ?? ""
        let rules = rules.rules.map { rule in
            rule.training.map { "\(rule.pattern)=\($0.rateScale)/\($0.weightDecay)" } ?? "-\(rule.pattern)"
        }
        return
            "\(what), steps \(steps), batch \(batch), context \(context), accumulate \(accumulate), rate \(rate.initial) to "
            + "\(rate.final) by \(rate.schedule.rawValue), warm-up \(rate.warmUp), clip \(clip), seed \(seed), trains "
            + rules.joined(separator: ",") + adapters
    }
}

extension Matrix<Float> {
    fileprivate func read(_ name: String, _ shape: [Int], of checkpoint: Checkpoint) throws(CheckpointError) {
        guard let tensor = checkpoint.tensor(named: name), tensor.dtype == .f32, tensor.shape == shape else {
            throw CheckpointError(
                .malformed, path: checkpoint.path, "it is not the state of such a run", tensor: name)
        }
        var numbers = [Float](repeating: 0, count: tensor.elementCount)
        var span = numbers.mutableSpan
        var bytes = span.mutableBytes
        try checkpoint.read(tensor, at: 0, into: &bytes)
        replaceRows(from: 0, by: Matrix(numbers, columns: columns))
    }
}
