import Bytes

/// A reference to a value in a ``PickleGraph``; small integers and constants are encoded in the reference itself.
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

/// The values that a pickle describes, as inert data.
///
/// Nothing that the pickle names is imported, looked up or called.
///
/// Values refer to each other by number. A value that is used in several places, or that contains itself, is stored
/// only once. The graph never follows references recursively, so deep nesting and sharing do not make it expensive to
/// build, copy or free a graph.
struct PickleGraph: Sendable {
    /// The kind of a value, and its immediate parts.
    enum Content {
        case none
        case bool(Bool)
        case integer(Int)
        /// An integer that does not fit into 64 bits, as the range of its shortest two's-complement form in ``pickle``,
        /// or nil if the pickle contains it in decimal.
        case longInteger(Range<Int>?)
        case float(Double)
        /// Text, as the range of its UTF-8 in ``pickle``; like a Python string, it can contain surrogates.
        case text(Range<Int>)
        /// Text that the pickle stores with escapes or in Latin-1, which is not decoded and cannot be used as a name.
        case undecodedText
        /// Bytes, as their range in ``pickle``.
        case bytes(Range<Int>)
        case byteArray(Range<Int>)
        case tuple(ArraySlice<PickleValue>)
        case list
        case dictionary
        case set
        case frozenSet
        /// A global, as its index in ``globals``.
        case global(Int)
        /// The result of a call, which is represented as a record of the call.
        case object(Object)
        /// A value that is stored outside the pickle, as its identifier.
        case persistent(PickleValue)
    }

    /// The way in which an object is created.
    enum Making {
        case call
        /// A call to the `__new__` method of a class.
        case new
        /// A call to `__new__` with keyword arguments. The object's `arguments` are then a pair: the tuple of
        /// positional arguments, and the dictionary of keyword arguments.
        case newWithKeywords
    }

    /// A call that the pickle describes, and the state and items that the pickle adds to its result.
    struct Object: Sendable {
        var making: Making
        var callable: PickleValue
        var arguments: PickleValue
        var state = PickleValue.absent
        /// Whether the object's items are alternating keys and values.
        fileprivate(set) var holdsPairs = false
        fileprivate var items = ItemList()
    }

    /// The name of a Python class or function, as the ranges of its module and its name in the pickle.
    struct Global: Sendable, Hashable {
        var module: Range<Int>
        var name: Range<Int>
    }

    /// The known effects of calling a global.
    private struct Calls: OptionSet {
        var rawValue: UInt32

        /// A call can copy the contents of the containers that are passed to it.
        static let copy = Calls(rawValue: 1)
        /// The result of a call is not hashable.
        static let makeUnhashable = Calls(rawValue: 2)

        private static let containers: Set<ByteString> = [
            "collections.OrderedDict", "collections.defaultdict", "collections.Counter", "collections.deque",
            "builtins.list", "builtins.dict", "builtins.set", "builtins.bytearray",
            "__builtin__.list", "__builtin__.dict", "__builtin__.set", "__builtin__.bytearray",
        ]
        private static let immutable: Set<ByteString> = [
            "builtins.tuple", "builtins.frozenset", "__builtin__.tuple", "__builtin__.frozenset",
        ]
        private static let otherUnhashable: Set<ByteString> = [
            "argparse.Namespace", "types.SimpleNamespace", "collections.ChainMap",
            "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
        ]

        init(rawValue: UInt32) { self.rawValue = rawValue }

        init(of global: String) {
            let name = ByteString(global)
            self =
                if Self.containers.contains(name) {
                    [.copy, .makeUnhashable]
                } else if Self.immutable.contains(name) || global.dropping(prefix: "torch.") != nil {
                    .copy
                } else if Self.otherUnhashable.contains(name) {
                    .makeUnhashable
                } else {
                    []
                }
        }
    }

    private enum Kind: UInt8 {
        case integer, longInteger, float, text, undecodedText, bytes, byteArray, tuple, list, dictionary, set, frozenSet
        case global, object, persistent
    }

    /// A stored value.
    ///
    /// Depending on the kind, `a` and `b` are the two halves of a number, the start and the count of a range, the first
    /// and the last chunk, or an index into a table and flags.
    private struct Node {
        var kind: Kind
        /// Whether this container, or the containers in this tuple, must not change any more because a call or an
        /// object may have copied them.
        var isSealed = false
        /// Whether this dictionary has already been used as keyword arguments, in which case its keys are known to be
        /// strings.
        var isKeywords = false
        var a: UInt32
        var b: UInt32

        var bits: UInt64 { UInt64(a) << 32 | UInt64(b) }
        var range: Range<Int> { Int(a)..<Int(a) + Int(b) }
    }

    /// A run of items that were appended together, and the number of the next chunk.
    ///
    /// Chunks are numbered from 1, and 0 means that there is no next chunk.
    private struct Chunk {
        var start: UInt32
        var count: UInt32
        var next: UInt32 = 0
    }

    fileprivate struct ItemList: Sendable {
        /// The number of the first chunk, or 0 if the list is empty.
        var first: UInt32 = 0
        /// The number of the last chunk, or 0 if the list is empty.
        var last: UInt32 = 0
    }

    /// The bytes of the pickle.
    let pickle: [UInt8]
    /// The globals in pickle order, with one entry for every time the pickle names a global.
    private(set) var globals: [Global] = []
    /// The identifiers of the persistent values, in pickle order.
    private(set) var persistentIdentifiers: [PickleValue] = []

    private var nodes: [Node] = []
    private var children: [PickleValue] = []
    private var chunks: [Chunk] = []
    /// All calls, in pickle order.
    private(set) var objects: [Object] = []
    private var budget: Int
    private let limit: Int

    /// Creates an empty graph that can take up to `limit` bytes of memory, not counting `pickle`.
    init(_ pickle: [UInt8], limit: Int) {
        self.pickle = pickle
        budget = limit
        self.limit = limit
        // Every node takes at least one byte of the pickle. Memory pages that are never touched cost nothing, whereas a
        // growing array would be copied.
        nodes.reserveCapacity(min(pickle.count, limit / MemoryLayout<Node>.stride))
        children.reserveCapacity(min(pickle.count, limit / MemoryLayout<PickleValue>.stride))
    }

    /// The memory that the graph takes, in bytes, not counting ``pickle``.
    var byteCount: Int { limit - budget }

    /// The memory that the graph can still take, in bytes.
    var availableBytes: Int { budget }

    // MARK: Reading

    /// Returns the content of a value.
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
        case .integer: .integer(Int(Int64(bitPattern: node.bits)))
        case .longInteger: .longInteger(node.range.isEmpty ? nil : node.range)
        case .float: .float(Double(bitPattern: node.bits))
        case .text: .text(node.range)
        case .undecodedText: .undecodedText
        case .bytes: .bytes(node.range)
        case .byteArray: .byteArray(node.range)
        case .tuple: .tuple(children[node.range])
        case .list: .list
        case .dictionary: .dictionary
        case .set: .set
        case .frozenSet: .frozenSet
        case .global: .global(Int(node.a))
        case .object: .object(objects[Int(node.a)])
        case .persistent: .persistent(persistentIdentifiers[Int(node.a)])
        }
    }

    /// Returns the elements of a tuple, or nil for other values.
    func elements(_ value: PickleValue) -> ArraySlice<PickleValue>? {
        if case .tuple(let elements) = content(value) { elements } else { nil }
    }

    /// Returns the range of a text's UTF-8 in ``pickle``, or nil for other values.
    func textRange(_ value: PickleValue) -> Range<Int>? {
        if case .text(let range) = content(value) { range } else { nil }
    }

    /// Returns the value of an integer that fits into 64 bits, or nil for other values.
    func integer(_ value: PickleValue) -> Int? {
        if case .integer(let integer) = content(value) { integer } else { nil }
    }

    /// A position among the items of a value.
    struct Cursor {
        fileprivate var chunk: UInt32 = 0
        fileprivate var rest = 0..<0
        fileprivate var isPairs = false
        /// The number of items that the cursor has passed.
        fileprivate(set) var count = 0
    }

    /// Returns a cursor over the items of a dictionary, a set, or an object whose items are pairs.
    ///
    /// For other values, the cursor has no items.
    func keyCursor(at value: PickleValue) -> Cursor {
        switch content(value) {
        case .dictionary, .set, .frozenSet: cursor(at: value)
        case .object(let object) where object.holdsPairs: cursor(at: value)
        default: Cursor()
        }
    }

    /// Returns a cursor over the elements of a tuple, or the items of a list, a set, a dictionary or an object.
    func cursor(at value: PickleValue) -> Cursor {
        guard let index = value.node else { return Cursor() }
        let node = nodes[index]
        switch node.kind {
        case .tuple: return Cursor(rest: node.range)
        case .list, .set, .frozenSet: return Cursor(chunk: node.a)
        case .dictionary: return Cursor(chunk: node.a, isPairs: true)
        case .object:
            let object = objects[Int(node.a)]
            return Cursor(chunk: object.items.first, isPairs: object.holdsPairs)
        default: return Cursor()
        }
    }

    /// Advances the cursor and returns the next item, with its key if the items are pairs, or nil after the last item.
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

    /// Returns a dictionary's value for a text key, or nil if there is none.
    func value(of dictionary: PickleValue, forKey name: String) -> PickleValue? {
        var cursor = cursor(at: dictionary)
        while let (key, value) = next(&cursor) {
            if let key, case .text(let range) = content(key), pickle[range].elementsEqual(name.utf8) { return value }
        }
        return nil
    }

    /// Returns the text in a range of the pickle.
    func text(_ range: Range<Int>) -> String { String(decoding: pickle[range], as: UTF8.self) }

    /// Returns a global's module and name, joined by a dot.
    func name(ofGlobal number: Int) -> String {
        text(globals[number].module) + "." + text(globals[number].name)
    }

    /// Returns whether calls to `callable` are known to return unhashable results.
    func makesUnhashable(_ callable: PickleValue) -> Bool { calls(of: callable).contains(.makeUnhashable) }

    private func calls(of callable: PickleValue) -> Calls {
        guard let index = callable.node, nodes[index].kind == .global else { return [] }
        return Calls(rawValue: nodes[index].b)
    }

    /// The number of stored values; small integers and constants are not stored.
    var nodeCount: Int { nodes.count }

    /// Returns the value with this number, which must be less than ``nodeCount``.
    func value(numbered number: Int) -> PickleValue { PickleValue(node: number) }

    /// Returns the number of a value, which is less than ``nodeCount``, or nil for small integers and constants.
    func number(of value: PickleValue) -> Int? { value.node }

    // MARK: Building

    mutating func integer(_ value: Int) throws(PickleFailure) -> PickleValue {
        if let small = PickleValue(smallInteger: value) { return small }
        return try add(.integer, bits: UInt64(bitPattern: Int64(value)))
    }

    mutating func longInteger(_ range: Range<Int>?) throws(PickleFailure) -> PickleValue {
        try add(.longInteger, range ?? 0..<0)
    }

    mutating func float(_ value: Double) throws(PickleFailure) -> PickleValue {
        try add(.float, bits: value.bitPattern)
    }

    mutating func text(_ range: Range<Int>) throws(PickleFailure) -> PickleValue { try add(.text, range) }

    mutating func undecodedText() throws(PickleFailure) -> PickleValue { try add(.undecodedText) }

    mutating func bytes(_ range: Range<Int>) throws(PickleFailure) -> PickleValue { try add(.bytes, range) }

    mutating func byteArray(_ range: Range<Int>) throws(PickleFailure) -> PickleValue { try add(.byteArray, range) }

    mutating func list() throws(PickleFailure) -> PickleValue { try add(.list) }

    mutating func dictionary() throws(PickleFailure) -> PickleValue { try add(.dictionary) }

    mutating func set() throws(PickleFailure) -> PickleValue { try add(.set) }

    mutating func frozenSet(_ members: some Collection<PickleValue>) throws(PickleFailure) -> PickleValue {
        var list = ItemList()
        try append(members, to: &list)
        return try add(.frozenSet, list.first, list.last)
    }

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
        return try add(.global, UInt32(globals.count - 1), Calls(of: self.name(ofGlobal: globals.count - 1)).rawValue)
    }

    /// Adds the record of a call, whose `arguments` must be a tuple.
    mutating func object(
        _ callable: PickleValue, _ arguments: PickleValue, _ making: Making = .call
    ) throws(PickleFailure) -> PickleValue {
        switch content(callable) {
        case .global, .object, .persistent: break
        default: throw .other("the pickle calls something that is neither a function nor a class")
        }
        if calls(of: callable).contains(.copy) { sealParts(of: arguments) }
        try spend(MemoryLayout<Object>.stride)
        objects.append(Object(making: making, callable: callable, arguments: arguments))
        return try add(.object, UInt32(objects.count - 1))
    }

    /// Adds the record of a call to `__new__` with keyword arguments.
    mutating func object(
        _ callable: PickleValue, _ arguments: PickleValue, keywords: PickleValue
    ) throws(PickleFailure) -> PickleValue {
        if calls(of: callable).contains(.copy) { sealParts(of: arguments) }
        if let index = keywords.node, !nodes[index].isKeywords {
            var cursor = cursor(at: keywords)
            while let key = next(&cursor)?.key {
                switch content(key) {
                case .text, .undecodedText: break
                default: throw .other("a keyword is not a string")
                }
            }
            nodes[index].isKeywords = true
            nodes[index].isSealed = true
        }
        return try object(callable, tuple([arguments, keywords]), .newWithKeywords)
    }

    /// Seals the containers that are passed to a call, because the call can copy their contents.
    private mutating func sealParts(of tuple: PickleValue) {
        // Many calls can share an argument tuple, so only the first call visits its parts.
        guard let index = tuple.node, nodes[index].kind == .tuple, !nodes[index].isSealed else { return }
        nodes[index].isSealed = true
        for part in children[nodes[index].range] { seal(part) }
    }

    private mutating func seal(_ value: PickleValue) {
        guard let index = value.node, [.list, .dictionary, .set].contains(nodes[index].kind) else { return }
        nodes[index].isSealed = true
    }

    /// Appends `items` to a container or an object.
    mutating func append(
        _ items: some Collection<PickleValue>, to target: PickleValue, _ operation: Appending
    ) throws(PickleFailure) {
        guard let index = target.node else { throw .invalidTarget }
        guard !nodes[index].isSealed else {
            throw .other("the pickle changes a container after passing it to a call or an object")
        }
        switch (nodes[index].kind, operation) {
        case (.list, .elements), (.dictionary, .pairs), (.set, .members):
            var list = ItemList(first: nodes[index].a, last: nodes[index].b)
            try append(items, to: &list)
            (nodes[index].a, nodes[index].b) = (list.first, list.last)
        case (.object, .elements), (.object, .pairs):
            let object = Int(nodes[index].a)
            var list = objects[object].items
            let isPairs = operation == .pairs
            guard list.first == 0 || objects[object].holdsPairs == isPairs else { throw .invalidTarget }
            objects[object].holdsPairs = isPairs
            try append(items, to: &list)
            objects[object].items = list
        default: throw .invalidTarget
        }
    }

    /// The kind of item that an operation appends.
    enum Appending {
        case elements
        case pairs
        case members
    }

    /// Sets the state of an object, which must not have one yet.
    mutating func setState(_ state: PickleValue, of target: PickleValue) throws(PickleFailure) {
        guard let index = target.node, nodes[index].kind == .object, objects[Int(nodes[index].a)].state == .absent
        else {
            throw .invalidTarget
        }
        objects[Int(nodes[index].a)].state = state
        // Python usually copies the attributes from the state, which can also be a pair of attributes and slots.
        if areAttributes(state) { seal(state) }
        if let parts = elements(state), parts.count == 2, parts.allSatisfy({ $0 == .none || areAttributes($0) }) {
            sealParts(of: state)
        }
    }

    private func areAttributes(_ value: PickleValue) -> Bool {
        if case .dictionary = content(value) { true } else { false }
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

    private mutating func add(_ kind: Kind, bits: UInt64) throws(PickleFailure) -> PickleValue {
        try add(kind, UInt32(bits >> 32), UInt32(truncatingIfNeeded: bits))
    }

    private mutating func add(_ kind: Kind, _ range: Range<Int>) throws(PickleFailure) -> PickleValue {
        try add(kind, UInt32(range.lowerBound), UInt32(range.count))
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

    /// Charges memory to the budget before the memory is used.
    mutating func spend(_ byteCount: Int) throws(PickleFailure) {
        guard byteCount <= budget else { throw .outOfMemory }
        budget -= byteCount
    }
}
