//! Continues a sequence with one model, and verifies a second model against it.
//!
//! The arguments are the directories of the reference and the candidate.

// snippet.imports
import CheckpointFiles
import ModelFamilies
import RWKVEvaluation
import RWKVInference
import RWKVNumerics
import TokenFiles

// snippet.load
guard let kernels = Kernels<Float>(.strict, threads: 2) else { fatalError("unsupported processor") }
let model = try Model<Float>(RecognisedModel(Checkpoint.open(CommandLine.arguments[1])))
// snippet.run
var state = model.start(length: 8)
let prompt = try model.hidden([1, 2, 3], &state, kernels)
let logits = try model.logits(prompt, kernels).row(2)
print("\(logits.count) logits after \(state.position) tokens")
// snippet.step
let saved = state
var likeliest = logits.indices.max { logits[$0] < logits[$1] } ?? 0
var continuation: [Int] = []
while continuation.count < 5 {
    continuation.append(likeliest)
    let hidden = try model.hidden([likeliest], &state, kernels)
    let next = try model.logits(hidden, kernels).row(0)
    likeliest = next.indices.max { next[$0] < next[$1] } ?? 0
}
print("continuation:", continuation)
state = saved  // to continue the prompt again
// snippet.verify
let candidate = try Model<Float>(RecognisedModel(Checkpoint.open(CommandLine.arguments[2])))
let verification = try Verification(
    of: candidate, against: .model(model), on: .seeded(vocabulary: model.vocabulary), kernels)
print("verdict: \(verification.verdict)")
if let divergence = verification.firstDivergence {
    let layer = divergence.layer.map { " of layer \($0)" } ?? ""
    print("first divergence: \(divergence.block)\(layer)")
}
