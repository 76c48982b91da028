//! Converts a transformer to a student in which one layer keeps attention.
//!
//! The arguments are the transformer's directory and the directory to create for the student.

// snippet.imports
import CheckpointConversion
import CheckpointFiles
import LayerPlanning
import ModelFamilies

// snippet.open
let checkpoint = try Checkpoint.open(CommandLine.arguments[1])
for tensor in checkpoint.tensors.prefix(3) {
    print(tensor.name, tensor.dtype.rawValue, tensor.shape)
}
// snippet.scan
let norms = checkpoint.tensors.filter { $0.name.hasSuffix("layernorm.weight") }
let scans = try checkpoint.scan(norms, statistics: true, sha256: false, threads: 2)
let notFinite = scans.compactMap(\.statistics).reduce(0) { $0 + $1.nans + $1.infinities }
print("\(norms.count) norms with \(notFinite) values that are not finite")
// snippet.recognise
let recognised = try RecognisedModel(checkpoint)
for warning in recognised.warnings { print("warning: \(warning.path): \(warning.message)") }
let teacher = try recognised.description
print("\(teacher.architecture.family) with \(teacher.layers.count) layers")
// snippet.plan
let plan = try LayerPlan(of: teacher, target: .cxa079, .count(1, LayerConditions()), seed: 0)
print("\(plan.target) with attention in layers \(plan.attentionLayers)")
for (number, layer) in plan.layers.enumerated() { print(number, layer.kind.rawValue, layer.reason) }
// snippet.describe
let options = ConversionOptions(
    to: .directory(path: CommandLine.arguments[2], shardByteCount: 5_000_000_000))
let conversion = try Conversion(of: ConversionInput(recognised), plan: plan, options: options)
print("\(conversion.totals.copied) tensors are copied, \(conversion.totals.initialised) are new")
// snippet.write
let hashes = try conversion.write(replaces: false, threads: 2, planHash: nil, version: "example")
print("\(hashes.count) tensors are written")
