import Bytes
import CheckpointConversion
import CheckpointFiles
import Foundation
import LayerPlanning
import ModelFamilies
import TestSupport
import Testing

/// Opens a fixture or an absolute path as the input of a conversion.
func input(_ path: String, config: String? = nil) throws -> ConversionInput {
    let checkpoint = try Checkpoint.open(path.hasPrefix("/") ? path : Repository.fixture(path))
    let configuration =
        try config.map { try ModelConfiguration(path: Repository.fixture($0)) }
        ?? ModelConfiguration(beside: checkpoint)
    guard case .model(let model) = try ModelRecognition.recognize(checkpoint, configuration: configuration) else {
        return ConversionInput(checkpoint, model: nil, configuration: configuration)
    }
    return ConversionInput(checkpoint, model: model, configuration: configuration)
}

/// Creates a plan for a student in which the given layers keep attention.
func plan(for teacher: ConversionInput, _ target: Architecture, keeping layers: Set<Int>, seed: Int = 0) throws
    -> LayerPlan
{
    let model = try #require(teacher.model)
    return try #require(LayerPlan(of: model, target: target, LayerSelection(layers, reason: "test"), seed: seed))
}

extension Conversion {
    /// Writes the result of the conversion and opens it.
    @discardableResult
    func run(threads: Int = 2) throws -> Checkpoint {
        _ = try write(replaces: false, threads: threads, planHash: nil, version: "test")
        return try Checkpoint.open(options.destination.path)
    }
}

extension ConversionOptions {
    static func directory(_ url: URL, shardByteCount: Int = 5_000_000_000) -> ConversionOptions {
        ConversionOptions(to: .directory(path: url.path(percentEncoded: false), shardByteCount: shardByteCount))
    }

    static func file(
        _ url: URL, _ container: CheckpointByteLayout.Container, isCompressed: Bool = false
    ) -> ConversionOptions {
        ConversionOptions(
            to: .file(path: url.path(percentEncoded: false), container: container, isCompressed: isCompressed))
    }

    func with(_ change: (inout ConversionOptions) -> Void) -> ConversionOptions {
        var options = self
        change(&options)
        return options
    }
}

extension Checkpoint {
    /// Returns the dtype, shape and hash of every tensor, keyed by name.
    func contents() throws -> [String: TensorContents] {
        let hashes = try scan(Array(tensors), statistics: false, sha256: true, threads: 2).map(\.sha256)
        return Dictionary(
            uniqueKeysWithValues: zip(tensors, hashes).map { tensor, hash in
                // Names that differ only by normalisation would be equal as strings, so use hexadecimal digits for
                // them.
                let isASCII = tensor.name.utf8.allSatisfy { $0 < 0x80 }
                return (
                    isASCII ? tensor.name : hexadecimal(tensor.name.utf8),
                    TensorContents(dtype: tensor.dtype, shape: tensor.shape, hash: hash ?? [])
                )
            })
    }

    func values(_ name: String) throws -> [Double] {
        let tensor = try #require(self.tensor(named: name))
        var bytes = [UInt8](repeating: 0, count: tensor.byteCount)
        try bytes.withUnsafeMutableBytes { buffer in
            var span = MutableRawSpan(_unsafeBytes: buffer)
            try read(tensor, at: 0, into: &span)
        }
        return bytes.withUnsafeBytes { buffer in
            switch tensor.dtype {
            case .f64: buffer.bindMemory(to: Double.self).map { $0 }
            case .f32: buffer.bindMemory(to: Float.self).map { Double($0) }
            case .f16: buffer.bindMemory(to: Float16.self).map { Double($0) }
            case .bf16: buffer.bindMemory(to: UInt16.self).map { Double(Float(bitPattern: UInt32($0) << 16)) }
            default: []
            }
        }
    }
}

struct TensorContents: Equatable {
    let dtype: DType
    let shape: [Int]
    let hash: [UInt8]
}

/// Returns the ``CheckpointError`` that `body` throws; nil if it throws nothing or another error.
func failure(_ body: () throws -> Void) -> CheckpointError? {
    do {
        try body()
        return nil
    } catch let error as CheckpointError {
        return error
    } catch {
        return nil
    }
}

extension Checkpoint {
    /// Writes the checkpoint's tensors to a safetensors file, with some of them left out, changed or renamed.
    func write(
        to url: URL, without names: Set<String> = [], changing changed: Set<String> = [],
        renaming rename: (String) -> String = { $0 }
    ) throws {
        let kept = tensors.filter { !names.contains($0.name) }
        try writeSafetensors(
            kept.map { tensor in
                var bytes = [UInt8](repeating: 0, count: tensor.byteCount)
                try bytes.withUnsafeMutableBytes { buffer in
                    var span = MutableRawSpan(_unsafeBytes: buffer)
                    try read(tensor, at: 0, into: &span)
                }
                if changed.contains(tensor.name) { bytes[0] ^= 1 }
                return (rename(tensor.name), tensor.dtype, tensor.shape, Data(bytes))
            }, to: url)
    }
}

/// Copies a fixture's config.json to a directory and changes one member.
func writeConfiguration(of fixture: String, to directory: URL, _ key: String, _ value: String) throws {
    let text = try String(contentsOfFile: Repository.fixture(fixture + "/config.json"), encoding: .utf8)
    let lines = text.split(separator: "\n").map { line in
        line.contains("\"\(key)\":") ? "  \"\(key)\": \(value)\(line.hasSuffix(",") ? "," : "")" : String(line)
    }
    #expect(lines.joined(separator: "\n") != text.trimmingCharacters(in: .newlines))
    try lines.joined(separator: "\n").write(
        to: directory.appending(path: "config.json"), atomically: false, encoding: .utf8)
}
