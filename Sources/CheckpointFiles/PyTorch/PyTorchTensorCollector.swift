import Bytes

/// A collector that finds the tensors in an unpickled object and checks each tensor against its storage.
struct PyTorchTensorCollector {
    /// The result of examining a value.
    private enum Found {
        /// A tensor whose elements can be read, and its kind, which is nil for a plain tensor.
        case tensor(PyTorchTensors.Entry, kind: String?)
        /// The kind of a value whose elements cannot be read.
        case other(String)
    }

    /// A cached result for a value, as an index into the entries of `result` and an index into `kinds`.
    private struct Known {
        static let none = UInt32.max

        var entry = none
        var kind = none
    }

    /// The maximum number of entries in a tensor's metadata; torch uses two, and tensor subclasses use a few.
    private static let metadataLimit = 16
    /// The maximum nesting depth of parameters.
    ///
    /// torch never nests parameters. The limit keeps deep nesting from being expensive, because examining a parameter
    /// visits all the parameters nested in it.
    private static let parameterLimit = 8

    private static let plainClasses: Set<ByteString> = [
        "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer",
    ]

    private let pickle: TorchPickle
    private let graph: PickleGraph
    private let limits: ReadLimits
    private let storages: PyTorchStorages

    private var result = PyTorchTensors()
    private var known: [UInt32: Known] = [:]
    private var kinds: [String] = []
    private var logicalBytes = 0
    private var budget: PickleBudget

    init(_ pickle: TorchPickle, storages: PyTorchStorages, budget: PickleBudget) {
        self.pickle = pickle
        self.storages = storages
        graph = pickle.graph
        limits = pickle.limits
        self.budget = budget
    }

    /// Returns the tensors that `root` contains, whose storages are at `stored` in a file of `fileSize` bytes.
    ///
    /// - Throws: `CheckpointError` of category `malformed`.
    mutating func collect(
        _ root: PickleValue, stored: [StoredBytes], fileSize: Int
    ) throws(CheckpointError) -> PyTorchTensors {
        try walk(root, try TensorLinks(below: root, in: pickle, spending: &budget))
        // A small file can use the same elements any number of times, so limit the total in proportion to the file's
        // size.
        let most = max(fileSize.multiplied(clamped: limits.expandedRatio), limits.expandedBytes)
        guard logicalBytes <= most else {
            throw malformed(
                "tensors that share their elements, or repeat them, take more bytes than the limit allows",
                expected: "at most \(most)", found: "\(logicalBytes)")
        }
        try result.finish(stored: stored, path: pickle.path)
        return result
    }

    /// The warnings for the user, which are complete after the tensors have been collected.
    var warnings: [String] {
        var isUsed = [Bool](repeating: false, count: storages.all.count)
        for entry in result.entries { isUsed[entry.storage] = true }
        let count = isUsed.count { !$0 }
        guard count > 0, result.others.isEmpty else { return [] }
        return ["\(count) storage\(count == 1 ? " belongs" : "s belong") to no listed tensor"]
    }

    private func malformed(
        _ problem: String, tensor: [UInt8]? = nil, expected: String? = nil, found: String? = nil
    ) -> CheckpointError {
        pickle.malformed(problem, tensor: tensor.map { $0[...] }, expected: expected, found: found)
    }

    // MARK: Naming

    /// Lists each tensor once for every path that leads to it.
    private mutating func walk(_ root: PickleValue, _ links: TensorLinks) throws(CheckpointError) {
        struct Place {
            /// The links that have not been followed yet.
            var links: Range<Int>
            var nameCount: Int
            /// Whether the name has a component yet, and whether all keys in it are text or integers.
            var isNamed, isWritable: Bool
        }
        guard let rootNumber = graph.number(of: root), let first = links.range(of: rootNumber) else { return }
        var name: [UInt8] = []
        if pickle.isTensor(root) { try list(root, rootNumber, name, isWritable: true) }
        var places = [Place(links: first, nameCount: 0, isNamed: false, isWritable: true)]
        while let place = places.last {
            guard !place.links.isEmpty else {
                places.removeLast()
                continue
            }
            let link = links[place.links.lowerBound]
            places[places.count - 1].links.removeFirst()
            guard let number = graph.number(of: link.value), let next = links.range(of: number) else { continue }
            name.removeSubrange(place.nameCount...)
            var (isNamed, isWritable) = (place.isNamed, place.isWritable)
            var component: [UInt8]?
            switch link.step {
            case .nothing: break
            case .index(let index): component = Array("\(index)".utf8)
            case .key(let key):
                switch graph.content(key) {
                case .text(let range): component = Array(graph.pickle[range])
                case .integer(let integer): component = Array("\(integer)".utf8)
                default:
                    component = [UInt8(ascii: "?")]
                    isWritable = false
                }
            }
            if let component {
                if isNamed { name.append(UInt8(ascii: ".")) }
                name += component
                isNamed = true
            }
            try budget.spend(work: 10 + name.count)
            guard name.count <= limits.nameBytes else {
                throw malformed("a name is longer than \(limits.nameBytes) bytes", tensor: name)
            }
            if pickle.isTensor(link.value) { try list(link.value, number, name, isWritable: isWritable) }
            places.append(Place(links: next, nameCount: name.count, isNamed: isNamed, isWritable: isWritable))
        }
    }

    /// Lists, under `name`, the tensor that `value` describes, and records its kind if it is not a plain tensor.
    private mutating func list(
        _ value: PickleValue, _ number: Int, _ name: [UInt8], isWritable: Bool
    ) throws(CheckpointError) {
        guard result.entries.count + result.others.count < limits.tensors else {
            throw malformed("there are more than \(limits.tensors) tensors")
        }
        switch try find(value, number, name) {
        case .tensor(let entry, let kind):
            guard isWritable else {
                return try append("tensor under a key that is neither text nor an integer", name, isListed: false)
            }
            // Charge for the entry, its name and its slots in the name tables.
            try budget.spend(of: PyTorchTensors.Entry.self)
            try budget.spend(memory: 2 * name.count + PyTorchTensors.tableByteCount)
            if known[UInt32(number)] == nil {
                let kind = kind == nil ? Known.none : UInt32(kinds.count - 1)
                known[UInt32(number)] = Known(entry: UInt32(result.entries.count), kind: kind)
            }
            result.append(entry, name: name)
            let shape = result.shape(of: entry)
            logicalBytes = logicalBytes.adding(clamped: shape.reduce(entry.elementSize) { $0.multiplied(clamped: $1) })
            if let kind { try append(kind, name, isListed: true) }
        case .other(let kind): try append(kind, name, isListed: false)
        }
    }

    /// Records a tensor that is not stored as plain elements.
    private mutating func append(_ kind: String, _ name: [UInt8], isListed: Bool) throws(CheckpointError) {
        try budget.spend(of: OtherTensor.self)
        try budget.spend(memory: PickleBudget.text(name.count))
        result.others.append(OtherTensor(name: String(decoding: name, as: UTF8.self), kind: kind, isListed: isListed))
    }

    /// Examines a value, or returns the cached result if the value has already been examined under another name.
    private mutating func find(
        _ value: PickleValue, _ number: Int, _ name: [UInt8]
    ) throws(CheckpointError) -> Found {
        if let earlier = known[UInt32(number)] {
            let kind = earlier.kind == Known.none ? nil : kinds[Int(earlier.kind)]
            if earlier.entry != Known.none { return .tensor(result.entries[Int(earlier.entry)], kind: kind) }
            if let kind { return .other(kind) }
        }
        let found = try find(value, name)
        try budget.spend(memory: PickleBudget.dictionaryEntry(UInt32.self, Known.self), work: 1000)
        let kind: String?
        switch found {
        case .tensor(_, let inner): kind = inner
        case .other(let other): kind = other
        }
        guard let kind else { return found }
        try budget.spend(of: String.self)
        try budget.spend(memory: PickleBudget.text(kind.utf8.count))
        kinds.append(kind)
        if case .other = found { known[UInt32(number)] = Known(kind: UInt32(kinds.count - 1)) }
        return found
    }

    // MARK: Tensors

    /// Examines a value without consulting the cache.
    private mutating func find(_ value: PickleValue, _ name: [UInt8]) throws(CheckpointError) -> Found {
        if case .persistent(let identifier) = graph.content(value) {
            let key = graph.elements(identifier).flatMap { $0.count > 2 ? graph.textRange($0[$0.startIndex + 2]) : nil }
            return .other(key == nil ? "class" : "storage without a tensor")
        }
        var call = try tensorCall(value, name)
        var depth = 0
        while case .parameter = call.recipe {
            guard let inner = call.arguments.first else {
                throw malformed("a parameter does not contain a tensor", tensor: name)
            }
            depth += 1
            guard depth <= Self.parameterLimit else {
                throw malformed("parameters are nested deeper than \(Self.parameterLimit) levels", tensor: name)
            }
            call = try tensorCall(inner, name)
        }
        guard case .subclass = call.recipe else { return try find(call.recipe, call.arguments, name) }
        // The arguments are (function that creates the tensor, class, arguments of that function, attributes).
        guard call.arguments.count >= 3, let inner = graph.elements(call.arguments[2]) else {
            throw malformed("a tensor's constructor has too few arguments", tensor: name)
        }
        let className = pickle.globalName(call.arguments[1]) ?? "unknown"
        var made = pickle.recipe(call.arguments[0])
        switch made {
        case .none, .size, .parameter, .subclass: made = .unknownTensor
        default: break
        }
        let kind = try find(made, Array(inner.prefix(10)), name)
        if Self.plainClasses.contains(ByteString(className)) {
            return kind
        }
        return switch kind {
        case .tensor(let entry, let inner): .tensor(entry, kind: inner ?? "tensor of class \(className)")
        case .other: .other("tensor of class \(className), without elements of its own")
        }
    }

    /// Returns the recipe and the first ten arguments of the call that creates a tensor.
    private mutating func tensorCall(
        _ value: PickleValue, _ name: [UInt8]
    ) throws(CheckpointError) -> (recipe: TorchRecipe, arguments: [PickleValue]) {
        guard case .object(let object) = graph.content(value) else {
            throw malformed("a parameter does not contain a tensor", tensor: name)
        }
        var cursor = graph.cursor(at: value)
        guard object.state == .absent, graph.next(&cursor) == nil else {
            throw malformed("the pickle modifies a tensor after constructing it", tensor: name)
        }
        return (pickle.recipe(of: object), Array((graph.elements(object.arguments) ?? []).prefix(10)))
    }

    /// Examines a call to a torch function that creates a tensor.
    private mutating func find(
        _ recipe: TorchRecipe, _ arguments: [PickleValue], _ name: [UInt8]
    ) throws(CheckpointError) -> Found {
        switch recipe {
        case .tensor(let version):
            guard arguments.count >= [4, 6, 7][version - 1] else {
                throw malformed("a tensor's constructor has too few arguments", tensor: name)
            }
            var dtype: DType?
            if version == 3 {
                let typeName = pickle.globalName(arguments[6])
                dtype = typeName?.dropping(prefix: "torch.").flatMap { TorchTypes.dtypes[ByteString($0)] }
                if dtype == nil { return .other("tensor of type \(typeName ?? "unknown")") }
            }
            if try isUnreadable(arguments) { return .other("tensor of an unknown type") }
            let metadata = version == 1 ? nil : arguments.dropFirst(version == 2 ? 6 : 7).first
            return .tensor(try entry(arguments, dtype: dtype, metadata: metadata, name), kind: nil)
        case .quantised:
            guard arguments.count >= 5 else {
                throw malformed("a tensor's constructor has too few arguments", tensor: name)
            }
            let scheme = graph.elements(arguments[4])?.first.flatMap(pickle.globalName) ?? "unknown"
            let kind = "quantised tensor (\(scheme))"
            if try isUnreadable(arguments) { return .other(kind) }
            return .tensor(try entry(arguments, dtype: nil, metadata: nil, name), kind: kind)
        case .sparse: return .other("sparse tensor (\(arguments.first.flatMap(layoutName) ?? "unknown layout"))")
        case .meta: return .other("meta tensor, without data")
        case .nested: return .other("nested tensor")
        case .wrapper:
            return .other(
                "tensor of class \(arguments.first.flatMap(pickle.globalName) ?? "unknown"), without elements of its own"
            )
        case .unknownTensor, .subclass: return .other("tensor made by an unknown function")
        case .parameter, .size, .none: throw malformed("a parameter does not contain a tensor", tensor: name)
        }
    }

    /// Returns whether a tensor's storage has an unknown class, or elements smaller than a byte.
    private func isUnreadable(_ arguments: [PickleValue]) throws(CheckpointError) -> Bool {
        try storages.part(arguments[0])?.elements == .unknown
    }

    /// Returns the name of a layout, which torch pickles as a call such as
    /// `torch.serialization._get_layout("torch.sparse_coo")`, or nil for other values.
    private func layoutName(_ value: PickleValue) -> String? {
        guard case .object(let object) = graph.content(value),
            let name = graph.elements(object.arguments)?.first.flatMap(graph.textRange)
        else { return nil }
        return excerpt(graph.pickle[name])
    }

    /// Checks a tensor against its storage and returns an entry for it.
    ///
    /// `arguments` begins with the storage, the offset, the shape and the strides. The offset and the strides are in
    /// elements.
    private mutating func entry(
        _ arguments: [PickleValue], dtype: DType?, metadata: PickleValue?, _ name: [UInt8]
    ) throws(CheckpointError) -> PyTorchTensors.Entry {
        guard let storage = try storages.part(arguments[0]) else {
            throw malformed("a tensor has no storage", tensor: name)
        }
        var stored: DType?
        if case .known(let type) = storage.elements { stored = type }
        guard let dtype = dtype ?? stored, stored == nil || stored == dtype else {
            throw malformed("a tensor's dtype differs from its storage's", tensor: name)
        }
        guard let offset = graph.integer(arguments[1]), offset >= 0, let shape = integers(arguments[2]),
            var strides = integers(arguments[3]), shape.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 }),
            shape.count == strides.count
        else {
            throw malformed(
                "a tensor's offset, shape or strides are not non-negative integers, or shape and strides differ in length",
                tensor: name)
        }
        // The stride of a dimension of size 0 or 1 is never used, so it can have any value.
        for (dimension, size) in shape.enumerated() where size <= 1 { strides[dimension] = 0 }
        // The offset of a tensor without elements is never used either.
        let start = shape.contains(0) ? 0 : offset
        let elementSize = max(1, dtype.bitWidth / 8)
        let available = storage.byteCount / elementSize
        var size = ShapeSize()
        for dimension in shape { size.append(dimension) }
        let byteCount: Int
        do throws(DType.SizeError) {
            byteCount = try size.byteCount(of: dtype == .f4E2M1 ? .u8 : dtype)
        } catch {
            throw malformed("the size of a tensor overflows", tensor: name)
        }
        // The end of the tensor in the storage, in elements.
        var end = start
        if byteCount > 0 {
            for (dimension, stride) in zip(shape, strides) {
                end = end.adding(clamped: (dimension - 1).multiplied(clamped: stride))
            }
            end = end.adding(clamped: 1)
        }
        guard end <= available else {
            throw malformed(
                "a tensor extends beyond its storage", tensor: name, expected: "at most \(available) elements",
                found: "\(end)")
        }
        if dtype == .f4E2M1, shape.isEmpty {
            throw malformed("a tensor of packed F4 pairs has no dimensions", tensor: name)
        }
        let signs = try signs(metadata, name)
        let isFloat = dtype.isComplex || [.f64, .f32, .f16, .bf16].contains(dtype)
        guard (!signs.isConjugated || dtype.isComplex) && (!signs.isNegated || isFloat) else {
            throw malformed("a tensor is marked as conjugated or negated, which its dtype does not allow", tensor: name)
        }
        try budget.spend(elements: 2 * shape.count, of: Int.self)
        return result.entry(
            storage: storage.number, offset: storage.offset + start * elementSize, dtype: dtype, shape: shape,
            strides: strides, isConjugated: signs.isConjugated, isNegated: signs.isNegated)
    }

    /// Returns whether a tensor's metadata marks its elements as conjugated or negated.
    ///
    /// Many tensors can share a metadata dictionary, which is read again for each of them, so its length is limited.
    private func signs(
        _ metadata: PickleValue?, _ name: [UInt8]
    ) throws(CheckpointError) -> (isConjugated: Bool, isNegated: Bool) {
        var signs = (isConjugated: false, isNegated: false)
        guard let metadata, case .dictionary = graph.content(metadata) else { return signs }
        var cursor = graph.cursor(at: metadata)
        while let (key, value) = graph.next(&cursor) {
            guard cursor.count <= Self.metadataLimit else {
                throw malformed("a tensor's metadata has more than \(Self.metadataLimit) entries", tensor: name)
            }
            guard let range = key.flatMap(graph.textRange) else { continue }
            let key = graph.pickle[range]
            let isConjugation = key.elementsEqual("conj".utf8)
            guard isConjugation || key.elementsEqual("neg".utf8) else { continue }
            // Python would accept any object here and use its truth value.
            guard case .bool(let isSet) = graph.content(value) else {
                throw malformed(
                    "the entry \"\(excerpt(key))\" of a tensor's metadata is neither true nor false", tensor: name)
            }
            if isConjugation { signs.isConjugated = isSet } else { signs.isNegated = isSet }
        }
        return signs
    }

    /// Returns the integers in a tuple or a `torch.Size`, or nil if any element is not an integer or there are more
    /// than ``ReadLimits/rank`` elements.
    private func integers(_ value: PickleValue) -> [Int]? {
        var value = value
        if case .object(let object) = graph.content(value), case .size = pickle.recipe(of: object),
            let inner = graph.elements(object.arguments)?.first
        {
            value = inner
        }
        guard let elements = graph.elements(value), elements.count <= limits.rank else { return nil }
        let integers = elements.compactMap(graph.integer)
        return integers.count == elements.count ? integers : nil
    }
}
