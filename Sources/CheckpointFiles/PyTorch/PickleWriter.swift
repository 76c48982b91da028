/// A writer for the pickle of a state dictionary in protocol 2, as `torch.save` writes it.
///
/// `torch.load` accepts the pickle with `weights_only=True`.
struct PickleWriter {
    private var bytes: [UInt8] = [0x80, 2]
    /// The memo indices of the strings and classes that are written only once.
    private var memo: [String: Int] = [:]

    /// Returns the pickle of a dictionary that maps names to CPU tensors.
    ///
    /// The keys of storages are consecutive numbers, starting at 0. Tensors that share bytes share a storage.
    static func stateDictionary(_ tensors: [OutputTensor]) -> [UInt8] {
        var writer = PickleWriter()
        writer.write("}")
        var keys: [Int] = []
        var count = 0
        // Set the items of the dictionary in batches of a thousand, as Python's pickler does.
        for (position, tensor) in tensors.enumerated() {
            if position % 1000 == 0 { writer.write(position == 0 ? "(" : "u(") }
            keys.append(tensor.sharedWith.map { keys[$0] } ?? count)
            if tensor.sharedWith == nil { count += 1 }
            writer.write(text: tensor.name)
            writer.write(tensor, key: keys[position])
        }
        writer.write(tensors.isEmpty ? "." : "u.")
        return writer.bytes
    }

    private mutating func write(_ opcodes: String) { bytes += opcodes.utf8 }

    private mutating func write(text: String) {
        bytes.append(UInt8(ascii: "X"))
        bytes.append(littleEndian: UInt32(text.utf8.count))
        bytes += text.utf8
    }

    /// Writes and memoises a value the first time, and recalls it from the memo after that.
    private mutating func write(once name: String, _ write: (inout PickleWriter) -> Void) {
        if let number = memo[name] {
            bytes += [UInt8(ascii: "h"), UInt8(number)]
            return
        }
        write(&self)
        bytes += [UInt8(ascii: "q"), UInt8(memo.count)]
        memo[name] = memo.count
    }

    private mutating func write(class module: String, _ name: String) {
        write(once: "class \(module).\(name)") { $0.write("c\(module)\n\(name)\n") }
    }

    private mutating func write(integer value: Int) {
        switch value {
        case 0...0xFF: bytes += [UInt8(ascii: "K"), UInt8(value)]
        case 0...0xFFFF:
            bytes.append(UInt8(ascii: "M"))
            bytes.append(littleEndian: UInt16(value))
        case 0...0x7FFF_FFFF:
            bytes.append(UInt8(ascii: "J"))
            bytes.append(littleEndian: UInt32(value))
        default:
            bytes += [0x8A, 8]
            bytes.append(littleEndian: Int64(value))
        }
    }

    private mutating func write(tuple: [Int]) {
        write("(")
        for value in tuple { write(integer: value) }
        write("t")
    }

    private mutating func write(_ tensor: OutputTensor, key: Int) {
        let storage = TorchTypes.storageNames[tensor.dtype]
        var shape = tensor.shape
        // torch counts two 4-bit elements as one.
        if tensor.dtype == .f4E2M1, let last = shape.indices.last { shape[last] /= 2 }
        write(class: "torch._utils", storage == nil ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2")
        write("((")
        write(once: "storage") { $0.write(text: "storage") }
        if let storage {
            write(class: "torch", storage)
        } else {
            write(class: "torch.storage", "UntypedStorage")
        }
        write(text: "\(key)")
        write(once: "cpu") { $0.write(text: "cpu") }
        write(integer: storage == nil ? tensor.byteCount : shape.reduce(1, *))
        write("tQK\u{0}")
        write(tuple: shape)
        write(tuple: Self.strides(of: shape))
        // `requires_grad` is false, and the dictionary of backward hooks is empty.
        bytes.append(0x89)
        write(class: "collections", "OrderedDict")
        write(")R")
        if storage == nil { write(class: "torch", TorchTypes.names[tensor.dtype] ?? "") }
        write("tR")
    }

    /// Returns the strides of a row-major tensor, in elements.
    private static func strides(of shape: [Int]) -> [Int] {
        var stride = 1
        return shape.reversed().map { size in
            defer { stride *= max(1, size) }
            return stride
        }.reversed()
    }
}
