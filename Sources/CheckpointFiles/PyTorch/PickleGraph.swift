import CheckpointJSON

/// A reference to a value of a ``PickleGraph``; small integers and constants are their own reference.
struct PickleValue: Sendable, Hashable {
    private let bits: UInt32

    static let absent = PickleValue(bits: 0x8000_0000)
    static let none = PickleValue(bits: 0x8000_0001)
    static let `false` = PickleValue(bits: 0x8000_0002)
    static let `true` = PickleValue(bits: 0x8000_0003)

    private init(bits: UInt32) { self.bits = bits }

    fileprivate init(node: Int) { bits = UInt32(node) }

    fileprivate init?(smallInteger: Int) {
        guard 0..<0x4000_0000 ~= smallInteger else { return nil }
        bits = 0x4000_0000 | UInt32(smallInteger)
    }

    fileprivate var node: Int? { bits >> 30 == 0 ? Int(bits) : nil }
    fileprivate var smallInteger: Int? { bits >> 30 == 1 ? Int(bits & 0x3FFF_FFFF) : nil }
}

/// What a pickle describes, as inert data: nothing that it names is looked up, called or imported.
///
/// Values refer to each other by number. A value that stands at many places, or in itself, is there once, and nothing here walks
/// from value to value: neither depth nor sharing can make building, copying or freeing a graph expensive.
struct PickleGraph: Sendable {
    /// One value, taken apart.
    enum Content {
        case none
        case bool(Bool)
        case integer(Int)
        /// An integer of more than 64 bits, or a floating-point number: nothing that a tensor is made of.
        case number
        /// Where its UTF-8 stands in ``pickle``.
        case text(Range<Int>)
        case bytes
        case tuple(ArraySlice<PickleValue>)
        case list
        case dictionary
        case set
        /// The number in ``globals``.
        case global(Int)
        /// What a call would give, were it made.
        case object(Object)
        /// What the writer left to the file around the pickle.
        case persistent(PickleValue)
    }

    /// A call that was asked for, and what was to be done with its result.
    struct Object: Sendable {
        var callable: PickleValue
        var arguments: PickleValue
        var state = PickleValue.absent
        /// Whether what was put into it are keys and values by turns.
        fileprivate(set) var holdsPairs = false
        fileprivate var items = ItemList()
    }

    /// The name of something in Python: a module, and a name in it.
    struct Global: Sendable, Hashable {
        var module: Range<Int>
        var name: Range<Int>
    }

    private enum Kind: UInt8 {
        case integer, number, text, bytes, tuple, list, dictionary, set, global, object, persistent
    }

    /// What `a` and `b` mean depends on the kind: the halves of an integer, a start and a count, a number in one of the tables.
    private struct Node {
        var kind: Kind
        var a: UInt32
        var b: UInt32
    }

    /// Items that were appended together, and the number of the next ones; 0 is none.
    private struct Chunk {
        var start: UInt32
        var count: UInt32
        var next: UInt32 = 0
    }

    fileprivate struct ItemList: Sendable {
        /// Numbers of chunks, from 1; 0 is none.
        var first: UInt32 = 0
        var last: UInt32 = 0
    }

    /// The bytes that were read.
    let pickle: [UInt8]
    /// Everything that was named, in the order of the pickle, the same name as often as the pickle gives it.
    private(set) var globals: [Global] = []
    /// What the persistent values are known by, in the order of the pickle.
    private(set) var persistentIdentifiers: [PickleValue] = []

    private var nodes: [Node] = []
    private var children: [PickleValue] = []
    private var chunks: [Chunk] = []
    /// All calls, in the order of the pickle.
    private(set) var objects: [Object] = []
    private var budget: Int
    private let limit: Int

    /// An empty graph that may take `limit` bytes beside those of `pickle`.
    init(_ pickle: [UInt8], limit: Int) {
        self.pickle = pickle
        budget = limit
        self.limit = limit
        // Every node takes a byte of the pickle at least. Pages that are not used cost nothing, growing would copy.
        nodes.reserveCapacity(min(pickle.count, limit / MemoryLayout<Node>.stride))
        children.reserveCapacity(min(pickle.count, limit / MemoryLayout<PickleValue>.stride))
    }

    /// What it takes in memory, beside the bytes of ``pickle``.
    var byteCount: Int { limit - budget }

    // MARK: Reading

    /// Takes a value apart.
    func content(_ value: PickleValue) -> Content {
        if let integer = value.smallInteger { return .integer(integer) }
        guard let index = value.node else {
            return switch value {
            case .true: .bool(true)
            case .false: .bool(false)
            default: .none
            }
        }
        let node = nodes[index]
        return switch node.kind {
        case .integer: .integer(Int(Int64(bitPattern: UInt64(node.a) << 32 | UInt64(node.b))))
        case .number: .number
        case .text: .text(Int(node.a)..<Int(node.a) + Int(node.b))
        case .bytes: .bytes
        case .tuple: .tuple(children[Int(node.a)..<Int(node.a) + Int(node.b)])
        case .list: .list
        case .dictionary: .dictionary
        case .set: .set
        case .global: .global(Int(node.a))
        case .object: .object(objects[Int(node.a)])
        case .persistent: .persistent(persistentIdentifiers[Int(node.a)])
        }
    }

    /// The elements of a tuple; nil for everything else.
    func elements(_ value: PickleValue) -> ArraySlice<PickleValue>? {
        if case .tuple(let elements) = content(value) { elements } else { nil }
    }

    /// Where the text that a value is stands in ``pickle``; nil for everything else.
    func textRange(_ value: PickleValue) -> Range<Int>? {
        if case .text(let range) = content(value) { range } else { nil }
    }

    /// An integer of up to 64 bits; nil for everything else.
    func integer(_ value: PickleValue) -> Int? {
        if case .integer(let integer) = content(value) { integer } else { nil }
    }

    /// A place among the items of a value.
    struct Cursor {
        fileprivate var chunk: UInt32 = 0
        fileprivate var rest = 0..<0
        fileprivate var isPairs = false
        /// How many items were passed.
        fileprivate(set) var count = 0
    }

    /// The place in front of the first element of a tuple, or of what was put into a list, a set, a dictionary or an object.
    func cursor(at value: PickleValue) -> Cursor {
        guard let index = value.node else { return Cursor() }
        let node = nodes[index]
        switch node.kind {
        case .tuple: return Cursor(rest: Int(node.a)..<Int(node.a) + Int(node.b))
        case .list, .set: return Cursor(chunk: node.a)
        case .dictionary: return Cursor(chunk: node.a, isPairs: true)
        case .object:
            let object = objects[Int(node.a)]
            return Cursor(chunk: object.items.first, isPairs: object.holdsPairs)
        default: return Cursor()
        }
    }

    /// The next item, with its key where there are keys; nil behind the last.
    func next(_ cursor: inout Cursor) -> (key: PickleValue?, value: PickleValue)? {
        while cursor.rest.isEmpty {
            guard cursor.chunk != 0 else { return nil }
            let part = chunks[Int(cursor.chunk) - 1]
            cursor.rest = Int(part.start)..<Int(part.start) + Int(part.count)
            cursor.chunk = part.next
        }
        cursor.count += 1
        let start = cursor.rest.lowerBound
        let width = cursor.isPairs ? 2 : 1
        cursor.rest = start + width..<cursor.rest.upperBound
        return cursor.isPairs ? (children[start], children[start + 1]) : (nil, children[start])
    }

    /// The value of a dictionary under a key that is text.
    func value(of dictionary: PickleValue, forKey name: String) -> PickleValue? {
        var cursor = cursor(at: dictionary)
        while let (key, value) = next(&cursor) {
            if let key, case .text(let range) = content(key), pickle[range].elementsEqual(name.utf8) { return value }
        }
        return nil
    }

    /// The text at a place in the pickle.
    func text(_ range: Range<Int>) -> String { String(decoding: pickle[range], as: UTF8.self) }

    /// A global's module and name, with a dot between them.
    func name(ofGlobal number: Int) -> String {
        text(globals[number].module) + "." + text(globals[number].name)
    }

    /// How many values there are that are not their own reference.
    var nodeCount: Int { nodes.count }

    /// The number of a value below ``nodeCount``; nil for small integers and constants.
    func number(of value: PickleValue) -> Int? { value.node }

    // MARK: Building

    mutating func integer(_ value: Int) throws(PickleFailure) -> PickleValue {
        if let small = PickleValue(smallInteger: value) { return small }
        let bits = UInt64(bitPattern: Int64(value))
        return try add(.integer, UInt32(bits >> 32), UInt32(truncatingIfNeeded: bits))
    }

    mutating func number() throws(PickleFailure) -> PickleValue { try add(.number) }

    mutating func bytes() throws(PickleFailure) -> PickleValue { try add(.bytes) }

    mutating func text(_ range: Range<Int>) throws(PickleFailure) -> PickleValue {
        try add(.text, UInt32(range.lowerBound), UInt32(range.count))
    }

    mutating func list() throws(PickleFailure) -> PickleValue { try add(.list) }

    mutating func dictionary() throws(PickleFailure) -> PickleValue { try add(.dictionary) }

    mutating func set() throws(PickleFailure) -> PickleValue { try add(.set) }

    mutating func tuple(_ elements: some Collection<PickleValue>) throws(PickleFailure) -> PickleValue {
        let start = try addChildren(elements)
        return try add(.tuple, start, UInt32(elements.count))
    }

    mutating func persistent(_ identifier: PickleValue) throws(PickleFailure) -> PickleValue {
        try spend(MemoryLayout<PickleValue>.stride)
        persistentIdentifiers.append(identifier)
        return try add(.persistent, UInt32(persistentIdentifiers.count - 1))
    }

    mutating func global(module: Range<Int>, name: Range<Int>) throws(PickleFailure) -> PickleValue {
        try spend(MemoryLayout<Global>.stride)
        globals.append(Global(module: module, name: name))
        return try add(.global, UInt32(globals.count - 1))
    }

    mutating func object(_ callable: PickleValue, _ arguments: PickleValue) throws(PickleFailure) -> PickleValue {
        try spend(MemoryLayout<Object>.stride)
        objects.append(Object(callable: callable, arguments: arguments))
        return try add(.object, UInt32(objects.count - 1))
    }

    /// Puts `items` behind those that a container or object has; `kinds` are the containers that the operation is for.
    mutating func append(
        _ items: some Collection<PickleValue>, to target: PickleValue, _ operation: Appending
    ) throws(PickleFailure) {
        guard let index = target.node else { throw .unfit }
        switch (nodes[index].kind, operation) {
        case (.list, .elements), (.dictionary, .pairs), (.set, .members):
            var list = ItemList(first: nodes[index].a, last: nodes[index].b)
            try append(items, to: &list)
            (nodes[index].a, nodes[index].b) = (list.first, list.last)
        case (.object, _):
            let object = Int(nodes[index].a)
            var list = objects[object].items
            let isPairs = operation == .pairs
            guard list.first == 0 || objects[object].holdsPairs == isPairs else { throw .unfit }
            objects[object].holdsPairs = isPairs
            try append(items, to: &list)
            objects[object].items = list
        default: throw .unfit
        }
    }

    /// What is appended.
    enum Appending {
        case elements
        case pairs
        case members
    }

    /// Hands an object its state, once.
    mutating func setState(_ state: PickleValue, of target: PickleValue) throws(PickleFailure) {
        guard let index = target.node, nodes[index].kind == .object, objects[Int(nodes[index].a)].state == .absent
        else {
            throw .unfit
        }
        objects[Int(nodes[index].a)].state = state
    }

    private mutating func append(
        _ items: some Collection<PickleValue>, to list: inout ItemList
    ) throws(PickleFailure) {
        guard !items.isEmpty else { return }
        let start = try addChildren(items)
        try spend(MemoryLayout<Chunk>.stride)
        chunks.append(Chunk(start: start, count: UInt32(items.count)))
        let number = UInt32(chunks.count)
        if list.last == 0 { list.first = number } else { chunks[Int(list.last) - 1].next = number }
        list.last = number
    }

    private mutating func add(_ kind: Kind, _ a: UInt32 = 0, _ b: UInt32 = 0) throws(PickleFailure) -> PickleValue {
        try spend(MemoryLayout<Node>.stride)
        nodes.append(Node(kind: kind, a: a, b: b))
        return PickleValue(node: nodes.count - 1)
    }

    private mutating func addChildren(_ values: some Collection<PickleValue>) throws(PickleFailure) -> UInt32 {
        try spend(values.count * MemoryLayout<PickleValue>.stride)
        children.append(contentsOf: values)
        return UInt32(children.count - values.count)
    }

    /// Takes memory from the budget before it is used.
    mutating func spend(_ byteCount: Int) throws(PickleFailure) {
        guard byteCount <= budget else { throw .outOfMemory }
        budget -= byteCount
    }
}
