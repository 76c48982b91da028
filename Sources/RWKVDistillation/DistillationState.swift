import CheckpointFiles
import CheckpointJSON
import RWKVInference

/// What the metadata of a run's state says: where it is, and what it is the state of.
struct DistillationState {
    /// How many steps were done.
    let step: Int
    /// How many of them changed weights.
    let updates: Int
    /// The digest of the student that was saved with it.
    let student: String

    private static let settingsPrefix = "settings."
    private static let (teacherKey, tokensKey, studentKey): (ByteString, ByteString, ByteString) = (
        "teacher", "tokens", "student"
    )
    private static let (stepKey, updatesKey): (ByteString, ByteString) = ("step", "updates")

    /// The name of a tensor: a moment of a weight's gradients.
    static func momentName(_ number: Int, _ name: String) -> String { "moment\(number).\(name)" }

    /// What is written of a run.
    static func metadata(
        of distillation: Distillation<Float>, _ inputs: InputDigests, student: String
    ) -> [ByteString: String] {
        var metadata = [
            teacherKey: inputs.teacher, tokensKey: inputs.tokens, studentKey: student,
            stepKey: "\(distillation.step)", updatesKey: "\(distillation.optimiser.steps)",
        ]
        for (name, value) in distillation.settings.members { metadata[ByteString(settingsPrefix + name)] = value }
        return metadata
    }

    /// Reads what was written of a run.
    ///
    /// - Parameters:
    ///   - file: the state.
    ///   - distillation: which is to go on.
    ///   - inputs: of that.
    /// - Throws: ``CheckpointError``: `unsupported` where the state is that of another run, or `malformed`.
    init(_ file: Checkpoint, of distillation: Distillation<Float>, _ inputs: InputDigests) throws(CheckpointError) {
        let metadata = file.metadata
        try Self.check(file, distillation.settings)
        guard metadata[Self.teacherKey] == inputs.teacher else {
            throw CheckpointError(
                .unsupported, path: distillation.teacher.checkpoint.path,
                "the run was started with another teacher: its weights or its configuration differ")
        }
        guard metadata[Self.tokensKey] == inputs.tokens else {
            throw CheckpointError(
                .unsupported, path: distillation.tokens.path, "the run was started with other tokens")
        }
        guard let step = metadata[Self.stepKey].flatMap({ Int($0) }), 0...distillation.settings.steps ~= step,
            let updates = metadata[Self.updatesKey].flatMap({ Int($0) }), 0...step ~= updates,
            let student = metadata[Self.studentKey],
            file.tensorCount == 2 * distillation.student.parameters.count
        else { throw CheckpointError(.malformed, path: file.path, "it is not the state of such a run") }
        (self.step, self.updates, self.student) = (step, updates, student)
    }

    /// Throws where the run was started with other settings, and says which.
    private static func check(_ file: Checkpoint, _ settings: DistillationSettings) throws(CheckpointError) {
        let saved = file.metadata.sorted { $0.key < $1.key }.compactMap { key, value in
            key.text.dropping(prefix: settingsPrefix).map { Member(name: ByteString($0), value: ByteString(value)) }
        }
        guard !saved.isEmpty else {
            throw CheckpointError(
                .malformed, path: file.path, "it is not the state of a run, or that of another version of this tool",
                advice: "start the run anew with --force")
        }
        let own = settings.members.map { Member(name: ByteString($0.name), value: ByteString($0.value)) }
        let (expected, found) = (saved.filter { !own.contains($0) }, own.filter { !saved.contains($0) })
        guard expected.isEmpty, found.isEmpty else {
            throw CheckpointError(
                .unsupported, path: file.path, "the run was started with other settings",
                expected: expected.map(\.text).joined(separator: ", "),
                found: found.map(\.text).joined(separator: ", "))
        }
    }

    private struct Member: Equatable {
        let name: ByteString
        let value: ByteString

        var text: String { "\(name) \(value)" }
    }
}
