import CheckpointConversion
public import CheckpointFiles
import RWKVEvaluation
import RWKVInference
import RWKVNumerics

// A run as a model directory: the student, what it needs to go on, and its log. What was trained is F32, as it was trained.
extension Distillation where Element == Float {
    private static var modelName: String { "model.safetensors" }
    private static var stateName: String { "training.safetensors" }
    private static var logName: String { "log.jsonl" }
    private static var settingsKey: String { "settings" }

    private static func momentName(_ number: Int, _ tensor: TensorInfo) -> String { "moment\(number).\(tensor.name)" }

    /// Writes the student, and where steps are left to do what they need.
    ///
    /// The place holds what it held before until all is written.
    ///
    /// - Parameters:
    ///   - path: of a directory.
    ///   - log: of all steps so far, a line of JSON each.
    ///   - replaces: whether what an earlier run wrote there may be replaced.
    /// - Throws: ``CheckpointError``: `cannotCreate`, or `inputOutput` where reading or writing fails or the disk is too small.
    public func save(to path: String, log: [UInt8], replaces: Bool) throws(CheckpointError) {
        let directory = try UnfinishedDirectory(path: path, isReplaceable: replaces ? { Self.isOwn($0) } : nil)
        try writeModel(into: directory)
        if !isDone { try writeState(into: directory) }
        for file in student.model.checkpoint.files(beside: Self.companions) {
            try directory.copy(FileSource(path: file), to: Conversion.name(of: file))
        }
        try directory.write(log, to: Self.logName)
        try directory.commit()
    }

    /// Throws where a run cannot be saved.
    ///
    /// - Parameters:
    ///   - path: of a directory.
    ///   - replaces: whether what an earlier run wrote there may be replaced.
    /// - Throws: ``CheckpointError`` of category `cannotCreate`.
    public func checkPlace(_ path: String, replaces: Bool) throws(CheckpointError) {
        _ = try UnfinishedDirectory(path: path, isReplaceable: replaces ? { Self.isOwn($0) } : nil)
    }

    private static var companions: [String] { Conversion.companions + ["config.json"] }

    /// Whether a directory with these files is one that a run wrote, and nobody added to.
    private static func isOwn(_ names: [String]) -> Bool {
        names.contains(logName) && Set(companions + [modelName, stateName, logName]).isSuperset(of: names)
    }

    private func writeModel(into directory: borrowing UnfinishedDirectory) throws(CheckpointError) {
        let source = student.model.checkpoint
        let trained = Dictionary(uniqueKeysWithValues: student.parameters.map { ($0.tensor.name, $0.values) })
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

    private func writeState(into directory: borrowing UnfinishedDirectory) throws(CheckpointError) {
        let moments = zip(student.parameters, optimiser.moments).flatMap { parameter, moments in
            [(1, parameter.tensor, moments.first), (2, parameter.tensor, moments.second)]
        }
        var tensors: [OutputTensor] = []
        for (number, tensor, _) in moments {
            tensors.append(try output(Self.momentName(number, tensor), .f32, tensor.shape))
        }
        let outline = try CheckpointOutline(
            tensors, container: .safetensors, name: Self.stateName,
            metadata: [
                Self.settingsKey: settings.text, "step": "\(step)", "updates": "\(optimiser.steps)",
                "skipped": "\(optimiser.skipped)",
            ])
        let writer = try CheckpointWriter(outline, into: directory)
        for (number, moment) in moments.enumerated() {
            var output = try writer.begin(number)
            try output.append(moment.2)
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
    /// - Parameter path: of the directory.
    /// - Returns: its log so far.
    /// - Throws: ``CheckpointError``: `notFound` or `inputOutput`, `malformed` where it is not what such a run saves, or `unsupported`
    ///   where its settings were others.
    public mutating func resume(from path: String) throws(CheckpointError) -> [UInt8] {
        let state: Checkpoint
        do throws(CheckpointError) {
            state = try Checkpoint.open(path + "/" + Self.stateName)
        } catch  where error.category == .notFound {
            throw CheckpointError(.notFound, path: path, "there is no unfinished run")
        }
        let metadata = Dictionary(uniqueKeysWithValues: state.metadata.map { ($0.key, $0.value) })
        guard metadata[Self.settingsKey] == settings.text else {
            throw CheckpointError(
                .unsupported, path: state.path, "the run was begun with other settings",
                expected: metadata[Self.settingsKey], found: settings.text)
        }
        guard let done = metadata["step"].flatMap({ Int($0) }), 0..<settings.steps ~= done,
            let updates = metadata["updates"].flatMap({ Int($0) }), 0...done ~= updates,
            let skipped = metadata["skipped"].flatMap({ Int($0) }), state.tensors.count == 2 * student.parameters.count
        else { throw CheckpointError(.malformed, path: state.path, "it is not the state of such a run") }
        for (parameter, moments) in zip(student.parameters, optimiser.moments) {
            for (number, moment) in [(1, moments.first), (2, moments.second)] {
                let name = Self.momentName(number, parameter.tensor)
                guard let tensor = state.tensor(named: name), tensor.dtype == .f32,
                    tensor.shape == parameter.tensor.shape
                else {
                    throw CheckpointError(
                        .malformed, path: state.path, "it is not the state of such a run", tensor: name)
                }
                try moment.read(tensor, of: state)
            }
        }
        let log = try FileSource(path: path + "/" + Self.logName)
        skip(to: done)
        (optimiser.steps, optimiser.skipped) = (updates, skipped)
        return try log.bytes(0..<log.count)
    }
}

extension Distillation.Settings {
    /// All that a run depends on, but for its models and its tokens.
    var text: String {
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
        let rules = (rules ?? stage.rules).rules.map { rule in
            rule.training.map { "\(rule.pattern)=\($0.rateScale)/\($0.weightDecay)" } ?? "-\(rule.pattern)"
        }
        return
            "\(what), steps \(steps), batch \(batch), context \(context), accumulate \(accumulate), rate \(rate.initial) to "
            + "\(rate.final) by \(rate.schedule.rawValue), warm-up \(rate.warmUp), clip \(clip), seed \(seed), trains "
            + rules.joined(separator: ",")
    }
}

extension Matrix<Float> {
    fileprivate func read(_ tensor: TensorInfo, of checkpoint: Checkpoint) throws(CheckpointError) {
        var numbers = [Float](repeating: 0, count: tensor.elementCount)
        var span = numbers.mutableSpan
        var bytes = span.mutableBytes
        try checkpoint.read(tensor, at: 0, into: &bytes)
        replaceRows(from: 0, by: Matrix(numbers, columns: columns))
    }
}
