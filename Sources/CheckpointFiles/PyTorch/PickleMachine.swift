import Bytes

/// A stack machine that runs pickles of protocols 0 to 5 and returns their values as inert data.
///
/// The machine supports the opcodes in CPython's pickletools.py, but it only builds a ``PickleGraph``: a global is
/// recorded as a name, and a call as its callable and arguments. The machine does not recurse, and it checks every
/// length against the number of remaining bytes before using it.
///
/// The machine rejects extension codes and out-of-band buffers, because their meaning is not in the file. It also
/// rejects persistent identifiers in text form, because torch does not write them.
struct PickleMachine {
    /// The result of running a pickle: its values, the value that was left on the stack, and the offset of the pickle's
    /// end.
    struct Result {
        var graph: PickleGraph
        var value: PickleValue
        var end: Int
    }

    /// The maximum length of a line that an opcode takes as its operand, in bytes.
    private static let lineLimit = 1000
    /// The maximum length of a global's module or name, in bytes.
    private static let nameLimit = 255
    private static let stackLimit = 1_000_000
    private static let markLimit = 10_000

    private let bytes: [UInt8]
    private var position: Int
    private var graph: PickleGraph
    private var stack: [PickleValue] = []
    /// The height of the stack at each open mark.
    private var marks: [Int] = []
    private var memo: [PickleValue] = []
    /// The number of memo entries in use, which is also the index that MEMOIZE uses next.
    private var memoCount = 0
    private var operations = 0
    private var frameEnd = 0

    private init(_ bytes: [UInt8], from start: Int, valueBytes: Int) {
        self.bytes = bytes
        position = start
        graph = PickleGraph(bytes, limit: valueBytes)
    }

    /// Runs the pickle that begins at `start`, with at most `valueBytes` bytes of memory for its values.
    ///
    /// - Throws: `MalformedInput` with an offset in `bytes`, which is `bytes.count` if the bytes end within the
    ///   pickle.
    static func run(_ bytes: [UInt8], from start: Int = 0, valueBytes: Int) throws(MalformedInput) -> Result {
        var machine = PickleMachine(bytes, from: start, valueBytes: valueBytes)
        let value = try machine.run()
        return Result(graph: machine.graph, value: value, end: machine.position)
    }

    private mutating func run() throws(MalformedInput) -> PickleValue {
        while true {
            let start = position
            guard start < bytes.count else { throw MalformedInput("the pickle ends early", at: start) }
            position += 1
            let code = bytes[start]
            guard let operation = PickleOpcode(rawValue: code) else {
                throw MalformedInput("the pickle has the unknown opcode \(code)", at: start)
            }
            operations += 1
            if operation == .stop {
                guard marks.isEmpty, stack.count == 1 else {
                    throw MalformedInput(
                        "the pickle ends with \(stack.count) values on its stack and \(marks.count) open marks",
                        at: start,
                        expected: "1 value and no marks")
                }
                guard position >= frameEnd else { throw MalformedInput("the pickle ends within a frame", at: start) }
                do throws(PickleFailure) {
                    try graph.checkKeys()
                } catch {
                    throw error.malformed(operation, at: start, end: bytes.count)
                }
                return stack[0]
            }
            do throws(PickleFailure) {
                try perform(operation)
            } catch {
                throw error.malformed(operation, at: start, end: bytes.count)
            }
            guard frameEnd <= start || position <= frameEnd else {
                throw MalformedInput("an operation in the pickle crosses the end of its frame", at: start)
            }
        }
    }

    private mutating func perform(_ operation: PickleOpcode) throws(PickleFailure) {
        switch operation {
        case .stop: break
        case .proto:
            let version = try Int(byte())
            guard version <= 5 else { throw .other("the pickle's protocol is \(version)", expected: "at most 5") }
        case .frame:
            guard position > frameEnd else { throw .other("a frame begins within another") }
            let count = try count(bytes: 8)
            guard count <= bytes.count - position else { throw .truncated(count) }
            frameEnd = position + count

        case .none: try push(.none)
        case .newTrue: try push(.true)
        case .newFalse: try push(.false)
        case .binInt1: try push(graph.integer(Int(byte())))
        case .binInt2: try push(graph.integer(Int(unsigned(2))))
        case .binInt: try push(graph.integer(Int(Int32(truncatingIfNeeded: unsigned(4)))))
        case .long1: try long(count: Int(byte()))
        case .long4: try long(count: count(bytes: 4))
        case .binFloat:
            try push(graph.float(Double(bitPattern: unsigned(8).byteSwapped)))
        case .int, .long: try decimal(line(), isLong: operation == .long)
        case .float:
            guard let value = try bytes[line()].floatingPoint else {
                throw .other("a floating-point number is malformed or out of range")
            }
            try push(graph.float(value))

        case .shortBinUnicode: try text(take(Int(byte())))
        case .binUnicode: try text(take(count(bytes: 4)))
        case .binUnicode8: try text(take(count(bytes: 8)))
        case .shortBinString: try text(take(Int(byte())), hasSurrogates: false)
        case .binString: try text(take(count(bytes: 4)), hasSurrogates: false)
        case .string:
            let line = try line()
            guard line.count >= 2, let quote = bytes[line].first, quote == bytes[line].last, [34, 39].contains(quote)
            else { throw .other("a string is not quoted") }
            guard !bytes[line].contains(UInt8(ascii: "\\")) else { throw .other("a string has escape sequences") }
            try text(line.dropFirst().dropLast(), hasSurrogates: false)
        case .unicode: try text(line: line())
        case .shortBinBytes: try push(graph.bytes(take(Int(byte()))))
        case .binBytes: try push(graph.bytes(take(count(bytes: 4))))
        case .binBytes8: try push(graph.bytes(take(count(bytes: 8))))
        case .byteArray8: try push(graph.byteArray(take(count(bytes: 8))))

        case .emptyTuple: try push(graph.tuple([]))
        case .tuple1: try tuple(count: 1)
        case .tuple2: try tuple(count: 2)
        case .tuple3: try tuple(count: 3)
        case .tuple: try tuple(count: stack.count - popMark())
        case .emptyList: try push(graph.list())
        case .emptyDict: try push(graph.dictionary())
        case .emptySet: try push(graph.set())
        case .list, .dict, .frozenSet: try container(operation)
        case .append: try append(1, .elements)
        case .appends: try append(stack.count - popMark(), .elements)
        case .setItem: try append(2, .pairs)
        case .setItems: try append(stack.count - popMark(), .pairs)
        case .addItems: try append(stack.count - popMark(), .members)

        case .mark:
            guard marks.count < Self.markLimit else {
                throw .other("the pickle has more than \(Self.markLimit) open marks")
            }
            marks.append(stack.count)
        case .pop:
            if let mark = marks.last, mark == stack.count { marks.removeLast() } else { _ = try pop() }
        case .popMark: stack.removeSubrange(try popMark()...)
        case .dup: try push(top())
        case .put: try memoize(index(line()))
        case .binPut: try memoize(Int(byte()))
        case .longBinPut: try memoize(count(bytes: 4))
        case .memoize: try memoize(memoCount)
        case .get: try recall(index(line()))
        case .binGet: try recall(Int(byte()))
        case .longBinGet: try recall(count(bytes: 4))

        case .global:
            let (module, name) = try (line(), line())
            try push(global(module, name))
        case .stackGlobal:
            let (name, module) = try (pop(), pop())
            guard case .text(let moduleRange) = graph.content(module), case .text(let nameRange) = graph.content(name)
            else { throw .other("a global's name is not text") }
            try push(global(moduleRange, nameRange))
        case .reduce, .newObj:
            let (arguments, callable) = try (pop(), pop())
            guard case .tuple = graph.content(arguments) else { throw .other("a call's arguments are not a tuple") }
            try push(graph.object(callable, arguments, operation == .reduce ? .call : .new))
        case .newObjEx:
            let (keywords, arguments, callable) = try (pop(), pop(), pop())
            guard case .tuple = graph.content(arguments), case .dictionary = graph.content(keywords) else {
                throw .other("a call's arguments are not a tuple and a dictionary")
            }
            try push(graph.object(callable, arguments, keywords: keywords))
        case .inst:
            let (module, name) = try (line(), line())
            guard bytes[module.lowerBound..<name.upperBound].allSatisfy({ $0 < 0x80 }) else {
                throw .other("the name of a class is not ASCII")
            }
            try tuple(count: stack.count - popMark())
            try instance(of: global(module, name))
        case .obj:
            let mark = try popMark()
            guard mark < stack.count else { throw .other("an object has no class") }
            let callable = stack.remove(at: mark)
            try tuple(count: stack.count - mark)
            try instance(of: callable)
        case .build:
            let state = try pop()
            try graph.setState(state, of: top())
        case .binPersID:
            let identifier = try pop()
            try push(graph.persistent(identifier))
        case .persID:
            throw .other("the pickle has a persistent identifier as text, which torch does not write")
        case .ext1, .ext2, .ext4:
            throw .other("the pickle uses an extension code, whose meaning is not in the file")
        case .nextBuffer, .readOnlyBuffer:
            throw .other("the pickle needs an out-of-band buffer, which is not in the file")
        }
    }
}

// MARK: Operands and values

extension PickleMachine {
    private mutating func byte() throws(PickleFailure) -> UInt8 {
        try bytes[take(1).lowerBound]
    }

    /// Skips `count` bytes and returns their range.
    private mutating func take(_ count: Int) throws(PickleFailure) -> Range<Int> {
        guard count <= bytes.count - position else { throw .truncated(count) }
        position += count
        return position - count..<position
    }

    /// Reads a little-endian integer of `byteCount` bytes.
    private mutating func unsigned(_ byteCount: Int) throws(PickleFailure) -> UInt64 {
        try bytes.bits(at: take(byteCount).lowerBound, count: byteCount)
    }

    /// Reads a length or an index of `byteCount` bytes.
    private mutating func count(bytes byteCount: Int) throws(PickleFailure) -> Int {
        let value = try unsigned(byteCount)
        guard let count = Int(exactly: value) else { throw .truncated(.max) }
        return count
    }

    /// Reads a line and returns the range of its text, without the newline.
    private mutating func line() throws(PickleFailure) -> Range<Int> {
        let window = bytes[position...].prefix(Self.lineLimit + 1)
        guard let end = window.firstIndex(of: UInt8(ascii: "\n")) else {
            if window.count <= Self.lineLimit { throw .truncated(1) }
            throw .other("a line in the pickle is longer than \(Self.lineLimit) bytes")
        }
        defer { position = end + 1 }
        return position..<end
    }

    private mutating func push(_ value: PickleValue) throws(PickleFailure) {
        guard stack.count < Self.stackLimit else {
            throw .other("the pickle has more than \(Self.stackLimit) values on its stack")
        }
        stack.append(value)
    }

    /// Returns the value on top of the stack, which must be above the last mark.
    private func top() throws(PickleFailure) -> PickleValue {
        guard stack.count > marks.last ?? 0, let value = stack.last else { throw .underflow }
        return value
    }

    private mutating func pop() throws(PickleFailure) -> PickleValue {
        let value = try top()
        stack.removeLast()
        return value
    }

    private mutating func popMark() throws(PickleFailure) -> Int {
        guard let mark = marks.popLast() else { throw .other("the pickle has no open mark") }
        return mark
    }

    /// Pops the top `count` values, which must be above the last mark.
    private mutating func popLast(_ count: Int) throws(PickleFailure) -> [PickleValue] {
        guard count <= stack.count - (marks.last ?? 0) else { throw .underflow }
        // A slice would share the stack's buffer, so removing the values would copy the entire stack.
        let values = Array(stack.suffix(count))
        stack.removeLast(count)
        return values
    }

    private mutating func tuple(count: Int) throws(PickleFailure) {
        let values = try popLast(count)
        try push(graph.tuple(values))
    }

    private mutating func container(_ operation: PickleOpcode) throws(PickleFailure) {
        let items = try popLast(stack.count - popMark())
        switch operation {
        case .list:
            try push(graph.list())
            try graph.append(items, to: top(), .elements)
        case .dict:
            guard items.count.isMultiple(of: 2) else { throw .other("a key has no value") }
            try push(graph.dictionary())
            try graph.append(items, to: top(), .pairs)
        default: try push(graph.frozenSet(items))
        }
    }

    /// Pops the arguments and pushes the record of a call to `callable`.
    ///
    /// If there are no arguments, Python creates an instance with `__new__` and does not initialise it.
    private mutating func instance(of callable: PickleValue) throws(PickleFailure) {
        let arguments = try pop()
        let isEmpty = graph.elements(arguments)?.isEmpty ?? true
        try push(graph.object(callable, arguments, isEmpty ? .new : .call))
    }

    private mutating func append(_ count: Int, _ operation: PickleGraph.Appending) throws(PickleFailure) {
        if case .pairs = operation, !count.isMultiple(of: 2) { throw .other("a key has no value") }
        let items = try popLast(count)
        try graph.append(items, to: top(), operation)
    }

    private mutating func memoize(_ index: Int) throws(PickleFailure) {
        // Writers use consecutive indices, starting at 0 or 1, so a valid index never exceeds the number of operations.
        guard index <= operations else {
            throw .other("the memo index \(index) is greater than the number of operations so far")
        }
        if index >= memo.count {
            let missing = index + 1 - memo.count
            try graph.spend(missing * MemoryLayout<PickleValue>.stride)
            memo.append(contentsOf: repeatElement(.absent, count: missing))
        }
        let value = try top()
        if memo[index] == .absent { memoCount += 1 }
        memo[index] = value
    }

    private mutating func recall(_ index: Int) throws(PickleFailure) {
        guard index < memo.count, memo[index] != .absent else {
            throw .other("the memo has no value at index \(index)")
        }
        try push(memo[index])
    }

    private mutating func text(_ range: Range<Int>, hasSurrogates: Bool = true) throws(PickleFailure) {
        guard bytes[range].isUTF8 || hasSurrogates && bytes[range].isUTF8WithSurrogates else {
            throw .other("a string is not UTF-8")
        }
        try push(graph.text(range))
    }

    /// Pushes the text of a Latin-1 line that can contain `\u` and `\U` escapes.
    ///
    /// Only ASCII without backslashes is kept. Any other text is not decoded, so it cannot be a name.
    private mutating func text(line: Range<Int>) throws(PickleFailure) {
        guard bytes[line].hasWholeEscapes else { throw .other("a string has an incomplete escape sequence") }
        let isPlain = bytes[line].allSatisfy { $0 < 0x80 && $0 != UInt8(ascii: "\\") }
        try push(isPlain ? graph.text(line) : graph.undecodedText())
    }

    /// Reads a little-endian two's-complement integer of `count` bytes and pushes it.
    private mutating func long(count: Int) throws(PickleFailure) {
        let range = try take(count)
        var count = count
        // Drop bytes that only repeat the sign.
        while count > 8 {
            let (last, before) = (bytes[range.lowerBound + count - 1], bytes[range.lowerBound + count - 2])
            guard last == (before < 0x80 ? 0 : 0xFF) else { break }
            count -= 1
        }
        guard count <= 8 else { return try push(graph.longInteger(range.prefix(count))) }
        let unused = 64 - 8 * count
        let value = Int64(bitPattern: bytes.bits(at: range.lowerBound, count: count) << unused) >> unused
        try push(graph.integer(Int(value)))
    }

    /// Pushes the integer in a line of decimal text, or a Boolean if the line is `00` or `01` and `isLong` is false.
    private mutating func decimal(_ line: Range<Int>, isLong: Bool) throws(PickleFailure) {
        let text = bytes[line]
        if !isLong, text.elementsEqual("00".utf8) { return try push(.false) }
        if !isLong, text.elementsEqual("01".utf8) { return try push(.true) }
        let digits = isLong && text.last == UInt8(ascii: "L") ? text.dropLast() : text
        guard digits.isInteger else { throw .other("an integer in the pickle is not decimal") }
        if let value = Int(String(decoding: digits, as: UTF8.self)) {
            try push(graph.integer(value))
        } else {
            try push(graph.longInteger(nil))
        }
    }

    private func index(_ line: Range<Int>) throws(PickleFailure) -> Int {
        guard let index = Int(String(decoding: bytes[line], as: UTF8.self)), index >= 0 else {
            throw .other("invalid memo index")
        }
        return index
    }

    private mutating func global(_ module: Range<Int>, _ name: Range<Int>) throws(PickleFailure) -> PickleValue {
        for part in [module, name] {
            guard part.count <= Self.nameLimit else {
                throw .other("the name of a global is longer than \(Self.nameLimit) bytes")
            }
            guard !part.isEmpty, bytes[part].allSatisfy({ $0 > 0x20 && $0 != 0x7F }),
                bytes[part].isUTF8
            else {
                throw .other("the name of a global is empty, not UTF-8, or contains white space or control characters")
            }
        }
        return try graph.global(module: module, name: name)
    }
}

/// An error in an operation of a pickle.
enum PickleFailure: Error {
    /// The operation needs this many bytes, but fewer are left.
    case truncated(Int)
    case underflow
    case invalidTarget
    case outOfMemory
    case other(String, expected: String? = nil)

    func malformed(_ operation: PickleOpcode, at start: Int, end: Int) -> MalformedInput {
        switch self {
        case .truncated(let count):
            MalformedInput(
                "the pickle ends early", at: end, expected: "\(count) more bytes (operation at byte \(start))")
        case .underflow: MalformedInput("pickle stack underflow", at: start)
        case .invalidTarget:
            MalformedInput("the pickle adds items or a state to a value that cannot take them", at: start)
        case .outOfMemory: MalformedInput("the pickle's values take more memory than the limit allows", at: start)
        case .other(let problem, let expected): MalformedInput(problem, at: start, expected: expected)
        }
    }
}
