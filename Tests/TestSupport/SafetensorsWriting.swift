import CRWKVKernels
package import CheckpointFiles
package import Foundation

/// Writes a safetensors file that consists of a header, which can be invalid, and data.
package func writeSafetensors(header: String, data: Data = Data(), to url: URL) throws {
    try (withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) } + Data(header.utf8) + data)
        .write(to: url)
}

/// Writes a sparse safetensors file whose tensors are bf16 zeros.
///
/// The zeros take no disk space.
package func writeSafetensors(_ tensors: [(name: String, shape: [Int])], to url: URL) throws {
    var offset = 0
    var members: [String] = []
    for (name, shape) in tensors {
        let end = offset + 2 * shape.reduce(1, *)
        members.append(#""\#(name)":{"dtype":"BF16","shape":\#(shape),"data_offsets":[\#(offset),\#(end)]}"#)
        offset = end
    }
    let header = "{\(members.joined(separator: ","))}"
    try writeSafetensors(header: header, to: url)
    let file = try FileHandle(forWritingTo: url)
    try file.truncate(atOffset: UInt64(8 + header.utf8.count + offset))
    try file.close()
}

/// Writes a safetensors file with the given tensors.
package func writeSafetensors(
    _ tensors: [(name: String, dtype: DType, shape: [Int], data: Data)], to url: URL
) throws {
    var (members, data): ([String], Data) = ([], Data())
    for tensor in tensors {
        members.append(
            #""\#(tensor.name)":{"dtype":"\#(tensor.dtype.rawValue)","shape":\#(tensor.shape),"data_offsets":[\#(data.count),\#(data.count + tensor.data.count)]}"#
        )
        data += tensor.data
    }
    // The header is padded so that the data is aligned, as the safetensors library does.
    var header = "{\(members.joined(separator: ","))}"
    while header.utf8.count % 8 != 0 { header += " " }
    try writeSafetensors(header: header, data: data, to: url)
}

/// Writes a safetensors file with the given fp32 tensors.
package func writeFloats(_ tensors: [(name: String, shape: [Int], values: [Float])], to url: URL) throws {
    try writeSafetensors(
        tensors.map { ($0.name, .f32, $0.shape, $0.values.withUnsafeBytes { Data($0) }) }, to: url)
}

/// Returns the contents of a safetensors file after changing its header.
package func editHeader(ofSafetensors bytes: [UInt8], _ change: (inout String) throws -> Void) rethrows -> [UInt8] {
    let end = 8 + (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
    var text = String(decoding: bytes[8..<end], as: UTF8.self)
    try change(&text)
    let count = text.utf8.count
    return (0..<8).map { UInt8(count >> (8 * $0) & 0xFF) } + Array(text.utf8) + bytes[end...]
}

/// A model with fp32 weights, which can be changed and then written to another directory.
package struct EditableModel {
    package private(set) var names: [String] = []
    package var shapes: [String: [Int]] = [:]
    private var values: [String: [Float]] = [:]
    private var configuration: [String: Any]

    /// Creates a model from a directory in fixtures/, whose tensors are widened to fp32.
    package init(fixture: String) throws {
        let path = Repository.fixture(fixture)
        let checkpoint = try Checkpoint.open(path)
        for tensor in checkpoint.tensors {
            guard let element = tensor.dtype.kernelElement else { continue }
            names.append(tensor.name)
            shapes[tensor.name] = tensor.shape
            let bytes = try [UInt8](unsafeUninitializedCapacity: tensor.byteCount) { buffer, initializedCount in
                var span = MutableRawSpan(_unsafeBytes: UnsafeMutableRawBufferPointer(buffer))
                try checkpoint.read(tensor, at: 0, into: &span)
                initializedCount = tensor.byteCount
            }
            let count = tensor.elementCount
            values[tensor.name] = [Float](unsafeUninitializedCapacity: count) { buffer, initializedCount in
                _ = rwkv_kernels_for(rwkv_best_instruction_set()).pointee.cast(
                    element, bytes, RWKV_ELEMENT_F32, buffer.baseAddress, count, 0)
                initializedCount = count
            }
        }
        let document = try Data(contentsOf: URL(filePath: path).appending(path: "config.json"))
        configuration = try JSONSerialization.jsonObject(with: document) as? [String: Any] ?? [:]
    }

    /// The elements of a tensor in row-major order.
    package subscript(name: String) -> [Float] {
        get { values[name] ?? [] }
        set { values[name] = newValue }
    }

    /// Adds a tensor to the model.
    package mutating func add(_ name: String, _ shape: [Int], _ numbers: [Float]) {
        names.append(name)
        shapes[name] = shape
        values[name] = numbers
    }

    /// Removes a tensor from the model.
    package mutating func remove(_ name: String) { names.removeAll { $0 == name } }

    /// Sets the value of a key in config.json.
    package mutating func configure(_ key: String, _ value: Any) { configuration[key] = value }

    /// Writes the model to a directory, with its weights converted to `dtype`.
    package func write(to directory: URL, as dtype: DType = .f32) throws {
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        guard let element = dtype.kernelElement else { return }
        let tensors = names.map { name -> (name: String, dtype: DType, shape: [Int], data: Data) in
            let floats = self[name]
            var data = Data(count: floats.count * dtype.bitWidth / 8)
            data.withUnsafeMutableBytes { target in
                floats.withUnsafeBytes { source in
                    _ = rwkv_kernels_for(rwkv_best_instruction_set()).pointee.cast(
                        RWKV_ELEMENT_F32, source.baseAddress, element, target.baseAddress, floats.count, 1)
                }
            }
            return (name, dtype, shapes[name] ?? [], data)
        }
        try writeSafetensors(tensors, to: directory.appending(path: "model.safetensors"))
        try JSONSerialization.data(withJSONObject: configuration).write(to: directory.appending(path: "config.json"))
    }
}
