import Bytes
import CheckpointFiles
import RWKVInference
import TokenFiles

/// The metadata of a saved run: its progress, and digests of the student and the optimiser's moments.
struct DistillationState {
    /// The number of completed steps.
    let step: Int
    /// The number of completed steps that changed the weights.
    let updates: Int
    /// The digest of the student that was saved with the state.
    let student: String
    /// The digest of the optimiser's moments and of its number of updates.
    let moments: String

    /// The version of the format, which each saved state records.
    private static let format = "2"

    private static let settingsPrefix = "settings."
    private static let (teacherKey, tokensKey, studentKey): (ByteString, ByteString, ByteString) = (
        "teacher", "tokens", "student"
    )
    private static let (stepKey, updatesKey): (ByteString, ByteString) = ("step", "updates")
    private static let (formatKey, momentsKey): (ByteString, ByteString) = ("format", "moments")

    /// Returns the name of the tensor that contains the first (1) or second (2) moment of a parameter.
    static func momentName(_ number: Int, _ name: String) -> String { "moment\(number).\(name)" }

    /// Returns the metadata to save with the state of a run.
    static func metadata(
        of distillation: Distillation<Float>, _ inputs: InputDigests, student: String, moments: [TensorDigest]
    ) -> [ByteString: String] {
        var metadata = [
            teacherKey: inputs.teacher, tokensKey: inputs.tokens, studentKey: student,
            stepKey: "\(distillation.step)", updatesKey: "\(distillation.optimiser.steps)", formatKey: format,
            momentsKey: digest(of: moments, updates: distillation.optimiser.steps),
        ]
        for (name, value) in distillation.settings.members { metadata[ByteString(settingsPrefix + name)] = value }
        return metadata
    }

    /// Returns the digest of the optimiser's moments and of its number of updates.
    static func digest(of moments: [TensorDigest], updates: Int) -> String {
        sha256(of: Array((moments.map { hexadecimal($0.sha256) } + ["\(updates)"]).joined(separator: " ").utf8))
    }

    /// Reads the metadata of a saved state, and checks that the state belongs to this run.
    ///
    /// - Parameters:
    ///   - file: the saved state.
    ///   - distillation: the distillation to resume.
    ///   - inputs: the digests of the inputs of the run to resume.
    /// - Throws: `CheckpointError`: `unsupported` if the state belongs to another run, or `malformed`.
    init(_ file: Checkpoint, of distillation: Distillation<Float>, _ inputs: InputDigests) throws(CheckpointError) {
        let metadata = file.metadata
        guard metadata[Self.formatKey] == Self.format else {
            throw CheckpointError(
                .malformed, path: file.path,
                "the file is not the state of a run, or another version of this tool wrote it",
                expected: "format \(Self.format)", found: metadata[Self.formatKey].map { "format \($0)" },
                advice: "start a new run with the model in this directory as STUDENT")
        }
        try Self.check(file, distillation.settings)
        guard metadata[Self.teacherKey] == inputs.teacher else {
            throw CheckpointError(
                .unsupported, path: distillation.teacher.checkpoint.path,
                "the run was started with a different teacher: its weights or its configuration differ")
        }
        guard metadata[Self.tokensKey] == inputs.tokens else {
            throw CheckpointError(
                .unsupported, path: distillation.tokens.path, "the run was started with different tokens")
        }
        guard let step = metadata[Self.stepKey].flatMap({ Int($0) }), 0...distillation.settings.steps ~= step,
            let updates = metadata[Self.updatesKey].flatMap({ Int($0) }), 0...step ~= updates,
            let student = metadata[Self.studentKey], let moments = metadata[Self.momentsKey],
            file.tensorCount == 2 * distillation.student.parameters.count
        else { throw CheckpointError(.malformed, path: file.path, "the state of the run is damaged") }
        (self.step, self.updates, self.student, self.moments) = (step, updates, student, moments)
    }

    /// Checks that the run was started with the same settings; otherwise throws `unsupported` and names the settings
    /// that differ.
    private static func check(_ file: Checkpoint, _ settings: DistillationSettings) throws(CheckpointError) {
        let saved = file.metadata.sorted { $0.key < $1.key }.compactMap { key, value in
            key.text.dropping(prefix: settingsPrefix).map { Member(name: ByteString($0), value: ByteString(value)) }
        }
        let own = settings.members.map { Member(name: ByteString($0.name), value: ByteString($0.value)) }
        let (expected, found) = (saved.filter { !own.contains($0) }, own.filter { !saved.contains($0) })
        guard expected.isEmpty, found.isEmpty else {
            throw CheckpointError(
                .unsupported, path: file.path, "the run was started with different settings",
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
