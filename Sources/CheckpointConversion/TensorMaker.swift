import Bytes
import CRWKVKernels
import CheckpointFiles
import Synchronization

/// An object that computes and writes output tensors, one at a time, on one thread.
final class TensorMaker {
    private static let turn = Mutex(())

    private let conversion: Conversion
    private let writer: CheckpointWriter
    private let pieceSize: Int
    /// A closure that receives the number of bytes written and returns whether to continue.
    private let advance: (Int) -> Bool
    private let kernels = rwkv_kernels_for(rwkv_best_instruction_set()).pointee
    private let source: UnsafeMutableRawBufferPointer
    private let target: UnsafeMutableRawBufferPointer
    private let floats: UnsafeMutableBufferPointer<Float>

    init(_ conversion: Conversion, _ writer: CheckpointWriter, pieceSize: Int, advance: @escaping (Int) -> Bool) {
        self.conversion = conversion
        self.writer = writer
        self.pieceSize = pieceSize
        self.advance = advance
        source = .allocate(byteCount: 8 * pieceSize, alignment: 64)
        target = .allocate(byteCount: 8 * pieceSize, alignment: 64)
        floats = .allocate(capacity: pieceSize)
    }

    deinit {
        source.deallocate()
        target.deallocate()
        floats.deallocate()
    }

    /// Computes and writes the tensor at the given index, and returns the SHA-256 of its bytes.
    func make(_ number: Int) throws(CheckpointError) -> [UInt8] {
        let tensor = conversion.tensors[number]
        var output = try writer.begin(number)
        switch tensor.origin {
        case .initialised(let values): try initialise(tensor, values, &output)
        case .tensor(let first, let steps):
            for input in [first] + steps.followers { try make(tensor, from: input, steps, &output) }
        }
        return output.finish()
    }

    /// Writes the elements of an input tensor after the given steps.
    private func make(
        _ tensor: Conversion.Tensor, from input: Conversion.InputTensor, _ steps: Conversion.Steps,
        _ output: inout TensorOutput
    ) throws(CheckpointError) {
        guard let checkpoint = conversion.inputs[input.part]?.checkpoint else { return }
        var info = checkpoint.tensors[input.position]
        if let rows = steps.rows {
            guard let part = info.rows(rows) else {
                throw CheckpointError(
                    .unsupported, path: checkpoint.path, "the tensor cannot be split by rows", tensor: info.name)
            }
            info = part
        }
        if steps.isTransposed {
            guard let transposed = info.transposed else {
                throw CheckpointError(
                    .unsupported, path: checkpoint.path, "the matrix cannot be transposed", tensor: info.name)
            }
            info = transposed
        }
        if let blocks = steps.blocks {
            try reorder(blocks, tensor, info, of: checkpoint, steps, &output)
        } else if let merge = steps.merge, let adapter = conversion.inputs[.adapter]?.checkpoint {
            try mergeRows(tensor, info, of: checkpoint, merge, adapter, factor: steps.factor, &output)
        } else if !steps.areComputed, info.dtype == tensor.output.dtype {
            try copy(info, of: checkpoint, &output)
        } else {
            try cast(tensor, info, of: checkpoint, steps, &output)
        }
    }

    /// Writes the rows or columns of a matrix in another order.
    private func reorder(
        _ blocks: Conversion.BlockOrder, _ tensor: Conversion.Tensor, _ info: TensorInfo, of checkpoint: Checkpoint,
        _ steps: Conversion.Steps, _ output: inout TensorOutput
    ) throws(CheckpointError) {
        let count = blocks.order.count
        let refusal = CheckpointError(
            .unsupported, path: checkpoint.path, "the matrix cannot be split into \(count) blocks", tensor: info.name)
        guard let matrix = blocks.isOfColumns ? info.transposed : info.matrix, matrix.shape[0] % count == 0 else {
            throw refusal
        }
        let size = matrix.shape[0] / count
        let parts = blocks.order.compactMap { matrix.rows($0 * size..<($0 + 1) * size) }
        guard parts.count == count else { throw refusal }
        guard blocks.isOfColumns else {
            for part in parts { try cast(tensor, part, of: checkpoint, steps, &output) }
            return
        }
        let columns = parts.compactMap(\.transposed)
        let width = size * info.dtype.bitWidth / 8
        let step = pieceSize / max(1, count * size)
        guard columns.count == count, step > 0 else { throw refusal }
        for start in stride(from: 0, to: matrix.shape[1], by: step) {
            let rows = start..<min(start + step, matrix.shape[1])
            for (number, part) in columns.enumerated() {
                let piece = UnsafeMutableRawBufferPointer(rebasing: target[..<(rows.count * width)])
                var span = MutableRawSpan(_unsafeBytes: piece)
                try checkpoint.read(part, at: start * width, into: &span)
                for row in 0..<rows.count {
                    UnsafeMutableRawBufferPointer(rebasing: source[((row * count + number) * width)...]).copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: piece[(row * width)..<((row + 1) * width)]))
                }
            }
            try write(UnsafeRawBufferPointer(source), info.dtype, tensor, count: rows.count * count * size, &output)
        }
    }

    private func append(_ bytes: UnsafeRawBufferPointer, to output: inout TensorOutput) throws(CheckpointError) {
        try output.append(bytes)
        try check(advance(bytes.count))
    }

    private func check(_ goesOn: Bool) throws(CheckpointError) {
        guard goesOn else {
            throw CheckpointError(.cancelled, path: conversion.options.destination.path, "cancelled")
        }
    }

    /// Reads the next bytes of a tensor without changing them.
    ///
    /// The result is valid until the next call.
    private func read(
        _ byteCount: Int, from input: inout TensorInput
    ) throws(CheckpointError) -> UnsafeRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer(rebasing: source[..<byteCount])
        try input.read(into: bytes)
        return UnsafeRawBufferPointer(bytes)
    }

    private func copy(
        _ info: TensorInfo, of checkpoint: Checkpoint, _ output: inout TensorOutput
    ) throws(CheckpointError) {
        var input = TensorInput(info, of: checkpoint)
        // The step is a multiple of every element size.
        let step = 4 * pieceSize
        for start in stride(from: 0, to: info.byteCount, by: step) {
            try append(read(min(step, info.byteCount - start), from: &input), to: &output)
        }
        try input.finish()
    }

    private func cast(
        _ tensor: Conversion.Tensor, _ info: TensorInfo, of checkpoint: Checkpoint, _ steps: Conversion.Steps,
        _ output: inout TensorOutput
    ) throws(CheckpointError) {
        var input = TensorInput(info, of: checkpoint)
        for start in stride(from: 0, to: info.elementCount, by: pieceSize) {
            let count = min(pieceSize, info.elementCount - start)
            let bytes = try read(count * info.dtype.bitWidth / 8, from: &input)
            if !steps.areComputed {
                try write(bytes, info.dtype, tensor, count: count, &output)
            } else {
                let notFinite = try loadFloats(bytes, info, tensor, count: count)
                if steps.offset != 0 {
                    for index in 0..<count { floats[index] += Float(steps.offset) }
                }
                for index in 0..<count { floats[index] *= Float(steps.factor) }
                try write(floats: count, notFinite, tensor, &output)
            }
        }
        try input.finish()
    }

    /// Converts elements to fp32, stores them in ``floats``, and returns the number of elements that are not finite.
    private func loadFloats(
        _ bytes: UnsafeRawBufferPointer, _ info: TensorInfo, _ tensor: Conversion.Tensor, count: Int
    ) throws(CheckpointError) -> Int {
        guard let element = info.dtype.floatElement else { return 0 }
        let overflows = kernels.cast(element, bytes.baseAddress, RWKV_ELEMENT_F32, floats.baseAddress, count, 0)
        guard overflows == 0 else { throw beyond(.f32, tensor) }
        return notFiniteCount(count)
    }

    private func notFiniteCount(_ count: Int) -> Int { floats[..<count].reduce(0) { $0 + ($1.isFinite ? 0 : 1) } }

    /// Writes the first `count` elements of ``floats``.
    ///
    /// Throws if the computation has increased the number of elements that are not finite.
    private func write(
        floats count: Int, _ notFinite: Int, _ tensor: Conversion.Tensor, _ output: inout TensorOutput
    ) throws(CheckpointError) {
        guard notFiniteCount(count) <= notFinite else { throw beyond(.f32, tensor) }
        try write(UnsafeRawBufferPointer(floats), .f32, tensor, count: count, &output)
    }

    private func beyond(_ type: DType, _ tensor: Conversion.Tensor) -> CheckpointError {
        CheckpointError(
            .unsupported, path: conversion.options.destination.path,
            "a value is out of range for \(type.rawValue)",
            tensor: tensor.output.name,
            advice: type == .f32
                ? nil : "--saturate clamps such values; --dtype-for chooses another dtype for some roles")
    }

    /// Rounds elements to the output tensor's dtype and writes them.
    private func write(
        _ bytes: UnsafeRawBufferPointer, _ dtype: DType, _ tensor: Conversion.Tensor, count: Int,
        _ output: inout TensorOutput
    ) throws(CheckpointError) {
        let type = tensor.output.dtype
        guard let from = dtype.floatElement, let to = type.floatElement else { return }
        let saturates = conversion.options.saturates
        let overflows = kernels.cast(from, bytes.baseAddress, to, target.baseAddress, count, saturates ? 1 : 0)
        guard overflows == 0 || saturates else {
            throw beyond(type, tensor)
        }
        try append(UnsafeRawBufferPointer(rebasing: target[..<(count * type.bitWidth / 8)]), to: &output)
    }

    private func initialise(
        _ tensor: Conversion.Tensor, _ values: InitialValues, _ output: inout TensorOutput
    ) throws(CheckpointError) {
        // The vectors can be large, so only one thread computes them at a time.
        let vectors = try Self.turn.withLock { _ throws(CheckpointError) in
            try values.vectors(kernels) { () throws(CheckpointError) in try check(advance(0)) }
        }
        let count = values.elementCount
        for start in stride(from: 0, to: count, by: pieceSize) {
            let size = min(pieceSize, count - start)
            let doubles = source.bindMemory(to: Double.self)
            for index in 0..<size { doubles[index] = values.value(at: start + index, in: vectors) }
            try write(UnsafeRawBufferPointer(source), .f64, tensor, count: size, &output)
        }
    }

    private func mergeRows(
        _ tensor: Conversion.Tensor, _ info: TensorInfo, of checkpoint: Checkpoint, _ merge: WeightMerge,
        _ adapter: Checkpoint, factor: Double, _ output: inout TensorOutput
    ) throws(CheckpointError) {
        let (rows, columns) = (info.shape[0], info.shape[1])
        var merger = try WeightMerger(merge, of: adapter, into: info, kernels)
        // If a row is longer than the buffers, use a second `TensorMaker` with larger buffers.
        let count = max(1, pieceSize / columns)
        let own = columns > pieceSize ? TensorMaker(conversion, writer, pieceSize: columns, advance: advance) : self
        for isMeasuring in merger.mustMeasure ? [true, false] : [false] {
            var input = TensorInput(info, of: checkpoint)
            for row in stride(from: 0, to: rows, by: count) {
                let count = min(count, rows - row) * columns
                let bytes = try own.read(count * info.dtype.bitWidth / 8, from: &input)
                let notFinite = try own.loadFloats(bytes, info, tensor, count: count)
                let values = UnsafeMutableBufferPointer(rebasing: own.floats[..<count])
                if isMeasuring {
                    try merger.measure(values, from: row)
                    continue
                }
                try merger.merge(into: values, from: row)
                if factor != 1 {
                    for index in values.indices { values[index] *= Float(factor) }
                }
                try own.write(floats: count, notFinite, tensor, &output)
            }
            try input.finish()
        }
    }
}
