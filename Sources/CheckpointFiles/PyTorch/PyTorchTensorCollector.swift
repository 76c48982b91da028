/// Finds tensors in what a pickle describes, and holds each against its storage.
struct PyTorchTensorCollector {
    /// A storage as the pickle speaks of it.
    struct Storage {
        /// Where the key stands in the pickle.
        var key: Range<Int>
        /// nil: bytes whose tensors bring their own type.
        var dtype: DType?
        var byteCount: Int
    }

    /// A part of a storage.
    private struct StoragePart {
        var number: Int
        var dtype: DType?
        var offset: Int
        var byteCount: Int
    }

    /// What torch's own functions make of their arguments.
    private enum Recipe {
        case tensor(version: Int)
        case parameter
        case quantised
        case sparse
        case meta
        case nested
        case wrapper
        case subclass
        case size
        case none
    }

    private static let recipes: [String: Recipe] = [
        "torch._utils._rebuild_tensor": .tensor(version: 1), "torch._utils._rebuild_tensor_v2": .tensor(version: 2),
        "torch._utils._rebuild_tensor_v3": .tensor(version: 3), "torch._utils._rebuild_parameter": .parameter,
        "torch._utils._rebuild_parameter_with_state": .parameter, "torch._utils._rebuild_qtensor": .quantised,
        "torch._utils._rebuild_sparse_tensor": .sparse, "torch._utils._rebuild_meta_tensor_no_storage": .meta,
        "torch._utils._rebuild_nested_tensor": .nested, "torch._utils._rebuild_wrapper_subclass": .wrapper,
        "torch._tensor._rebuild_from_type_v2": .subclass, "torch.Size": .size,
    ]

    /// Deeper than this nothing is that a person or a program made to be used.
    private static let depthLimit = 1000

    private let graph: PickleGraph
    private let path: String
    private let limits: ReadLimits
    /// In the order of the pickle.
    private(set) var storages: [Storage] = []
    private var storageNumbers: [ArraySlice<UInt8>: Int] = [:]
    private var recipesByGlobal: [Recipe?]

    private var result = PyTorchTensors()
    private var repeatedBytes = 0
    private var steps = 0

    /// Reads what `graph` says of storages.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed`.
    init(_ graph: PickleGraph, path: String, limits: ReadLimits) throws(CheckpointError) {
        self.graph = graph
        self.path = path
        self.limits = limits
        recipesByGlobal = Array(repeating: nil, count: graph.globals.count)
        for identifier in graph.persistentIdentifiers { try declare(identifier) }
    }

    /// The key of a storage.
    func key(of storage: Storage) -> ArraySlice<UInt8> { graph.pickle[storage.key] }

    /// The number of the storage with this key.
    func number(ofKey key: ArraySlice<UInt8>) -> Int? { storageNumbers[key] }

    /// Lists the tensors below `root`, whose storages are at `stored` in a file of `fileSize` bytes.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed`.
    mutating func collect(
        _ root: PickleValue, stored: [StoredBytes], fileSize: Int
    ) throws(CheckpointError) -> PyTorchTensors {
        let holders = try tensorHolders(root)
        try walk(root, holders)
        // A file of some bytes can speak of any number of them: what repeats its elements must stay in proportion.
        guard repeatedBytes <= max(4 * fileSize, limits.expandedBytes) else {
            throw malformed(
                "tensors that repeat their elements take more bytes than the limit allows",
                expected: "\(max(4 * fileSize, limits.expandedBytes)) at the most", found: "\(repeatedBytes)")
        }
        result.sort(stored: stored)
        return result
    }

    private func malformed(
        _ problem: String, tensor: [UInt8]? = nil, expected: String? = nil, found: String? = nil
    ) -> CheckpointError {
        CheckpointError(
            .malformed, path: path, problem, tensor: tensor.map { excerpt($0[...]) }, expected: expected, found: found)
    }

    // MARK: Storages

    /// Notes the storage that a persistent identifier speaks of.
    private mutating func declare(_ identifier: PickleValue) throws(CheckpointError) {
        guard let fields = tuple(identifier), let kind = fields.first.flatMap(text) else {
            throw malformed("a persistent identifier is not what torch writes")
        }
        // ("module", class, source file, source): the class, with its source for the curious.
        if graph.pickle[kind].elementsEqual("module".utf8) { return }
        guard graph.pickle[kind].elementsEqual("storage".utf8), (5...6).contains(fields.count),
            let key = text(fields[fields.startIndex + 2]), let count = integer(fields[fields.startIndex + 4]),
            count >= 0
        else { throw malformed("a persistent identifier speaks of no storage") }
        guard let className = globalName(fields[fields.startIndex + 1]) else {
            throw malformed("a storage has no class", found: excerpt(graph.pickle[key]))
        }
        let dtype: DType?
        if className == "torch.storage.UntypedStorage" || className == "torch.UntypedStorage" {
            dtype = nil
        } else if let name = ["torch.", "torch.cuda."].lazy.compactMap({ className.dropping($0) }).compactMap({
            TorchTypes.storages[$0]
        }).first {
            dtype = name
        } else {
            throw malformed("a storage is of an unknown class", found: className)
        }
        let (byteCount, overflow) = count.multipliedReportingOverflow(by: (dtype?.bitWidth ?? 8) / 8)
        guard !overflow else { throw malformed("the size of a storage overflows", found: "\(count)") }
        let storage = Storage(key: key, dtype: dtype, byteCount: byteCount)
        if let earlier = storageNumbers[graph.pickle[key]] {
            guard storages[earlier].dtype == dtype, storages[earlier].byteCount == byteCount else {
                throw malformed(
                    "a storage is spoken of in two ways", expected: text(of: storages[earlier]),
                    found: text(of: storage))
            }
        } else {
            storageNumbers[graph.pickle[key]] = storages.count
            storages.append(storage)
        }
    }

    private func text(of storage: Storage) -> String {
        "\"\(excerpt(graph.pickle[storage.key]))\" with \(storage.byteCount) bytes of \(storage.dtype?.rawValue ?? "any type")"
    }

    private func part(_ value: PickleValue) -> StoragePart? {
        guard case .persistent(let identifier) = graph.content(value), let fields = tuple(identifier),
            fields.count >= 5,
            let key = text(fields[fields.startIndex + 2]), let number = storageNumbers[graph.pickle[key]]
        else { return nil }
        let storage = storages[number]
        var part = StoragePart(number: number, dtype: storage.dtype, offset: 0, byteCount: storage.byteCount)
        // (key of the view, offset, length) in elements: how files before 2017 share a storage.
        if fields.count == 6, let view = tuple(fields[fields.startIndex + 5]) {
            let size = (storage.dtype?.bitWidth ?? 8) / 8
            guard view.count == 3, let offset = integer(view[view.startIndex + 1]),
                let count = integer(view[view.startIndex + 2]), offset >= 0, count >= 0,
                offset <= storage.byteCount / size, count <= storage.byteCount / size - offset
            else { return nil }
            part.offset = offset * size
            part.byteCount = count * size
        }
        return part
    }

    // MARK: Values

    private func tuple(_ value: PickleValue) -> ArraySlice<PickleValue>? {
        if case .tuple(let elements) = graph.content(value) { elements } else { nil }
    }

    private func text(_ value: PickleValue) -> Range<Int>? {
        if case .text(let range) = graph.content(value) { range } else { nil }
    }

    private func integer(_ value: PickleValue) -> Int? {
        if case .integer(let integer) = graph.content(value) { integer } else { nil }
    }

    /// The module and name of a global, or of a class that a legacy file gives with its source.
    private func globalName(_ value: PickleValue) -> String? {
        switch graph.content(value) {
        case .global(let number): return graph.name(ofGlobal: number)
        case .persistent(let identifier):
            guard let fields = tuple(identifier), fields.count >= 2, let kind = text(fields[fields.startIndex]),
                graph.pickle[kind].elementsEqual("module".utf8),
                case .global(let number) = graph.content(fields[fields.startIndex + 1])
            else { return nil }
            return graph.name(ofGlobal: number)
        default: return nil
        }
    }

    private mutating func recipe(_ callable: PickleValue) -> Recipe {
        guard case .global(let number) = graph.content(callable) else { return .none }
        if let known = recipesByGlobal[number] { return known }
        let recipe = Self.recipes[graph.name(ofGlobal: number)] ?? .none
        recipesByGlobal[number] = recipe
        return recipe
    }

    /// The integers of a tuple, or of a `torch.Size` of one.
    private mutating func integers(_ value: PickleValue) -> [Int]? {
        var value = value
        if case .object(let object) = graph.content(value), case .size = recipe(object.callable),
            let inner = tuple(object.arguments)?.first
        {
            value = inner
        }
        guard let elements = tuple(value) else { return nil }
        var integers: [Int] = []
        for element in elements {
            guard let integer = integer(element) else { return nil }
            integers.append(integer)
        }
        return integers
    }

    // MARK: Walking

    /// What leads from a value to one below it.
    private enum Step {
        /// Nothing that belongs into a name.
        case nothing
        case key(PickleValue)
        case index(Int)
    }

    /// A value whose children are being visited.
    private struct Visit {
        var number: Int
        var children: [(step: Step, value: PickleValue)]
        var next = 0
        /// The length of the name that leads here, and whether anything belongs to it yet.
        var nameCount = 0
        var isNamed = false
    }

    /// The values that a value holds; a tensor holds nothing but its attributes.
    private mutating func children(of value: PickleValue) -> [(step: Step, value: PickleValue)] {
        func indexed(_ values: some Collection<PickleValue>) -> [(step: Step, value: PickleValue)] {
            values.enumerated().map { (.index($0), $1) }
        }
        func keyed(_ pairs: [PickleValue], isState: Bool = false) -> [(step: Step, value: PickleValue)] {
            stride(from: 0, to: pairs.count - 1, by: 2).map { place in
                // What torch.nn.Module calls these three does not stand in the names of its state_dict.
                let isTransparent =
                    isState
                    && text(pairs[place]).map { key in
                        ["_parameters", "_buffers", "_modules"].contains { graph.pickle[key].elementsEqual($0.utf8) }
                    } ?? false
                return (isTransparent ? .nothing : .key(pairs[place]), pairs[place + 1])
            }
        }
        switch graph.content(value) {
        case .tuple(let elements): return indexed(elements)
        case .list, .set: return indexed(graph.items(of: value))
        case .dictionary: return keyed(graph.items(of: value))
        case .object(let object):
            let arguments = tuple(object.arguments) ?? []
            switch recipe(object.callable) {
            case .subclass, .parameter:
                return arguments.count > 3 ? [(.nothing, arguments[arguments.startIndex + 3])] : []
            case .none: break
            default: return []
            }
            let items = graph.items(of: value)
            var children = indexed(arguments) + (object.holdsPairs ? keyed(items) : indexed(items))
            var states = object.state == .absent ? [] : [object.state]
            if let parts = states.first.flatMap(tuple) { states = Array(parts) }
            for state in states {
                if case .dictionary = graph.content(state) {
                    children += keyed(graph.items(of: state), isState: true)
                } else {
                    children.append((.nothing, state))
                }
            }
            return children
        default: return []
        }
    }

    private mutating func isTensor(_ value: PickleValue) -> Bool {
        guard case .object(let object) = graph.content(value) else { return false }
        return switch recipe(object.callable) {
        case .none, .size: false
        default: true
        }
    }

    /// By number of a value: whether it is a tensor, or holds one somewhere below.
    ///
    /// Visits every value once, whatever leads to it; a value that holds itself ends there.
    private mutating func tensorHolders(_ root: PickleValue) throws(CheckpointError) -> [Bool] {
        var holds = [Bool](repeating: false, count: graph.nodeCount)
        guard let rootNumber = graph.number(of: root) else { return holds }
        var isSeen = holds
        isSeen[rootNumber] = true
        holds[rootNumber] = isTensor(root)
        var visits = [Visit(number: rootNumber, children: children(of: root))]
        while let visit = visits.last {
            guard visit.next < visit.children.count else {
                visits.removeLast()
                if let parent = visits.last, holds[visit.number] { holds[parent.number] = true }
                continue
            }
            visits[visits.count - 1].next += 1
            let child = visit.children[visit.next].value
            guard let number = graph.number(of: child) else { continue }
            if isSeen[number] {
                if holds[number] { holds[visit.number] = true }
                continue
            }
            guard visits.count < Self.depthLimit else {
                throw malformed("the pickle is nested deeper than \(Self.depthLimit) levels")
            }
            isSeen[number] = true
            holds[number] = isTensor(child)
            visits.append(Visit(number: number, children: children(of: child)))
        }
        return holds
    }

    /// Lists the tensors, walking only where there are some: once for every way that leads to them.
    private mutating func walk(_ root: PickleValue, _ holders: [Bool]) throws(CheckpointError) {
        guard let rootNumber = graph.number(of: root), holders[rootNumber] else { return }
        var name: [UInt8] = []
        var isOnPath = [Bool](repeating: false, count: graph.nodeCount)
        var visits: [Visit] = []

        func enter(
            _ value: PickleValue, _ number: Int, isNamed: Bool, _ collector: inout Self
        ) throws(CheckpointError) {
            if collector.isTensor(value) { try collector.list(value, name) }
            let children = collector.children(of: value)
            try collector.checkKeys(children, name)
            isOnPath[number] = true
            visits.append(Visit(number: number, children: children, nameCount: name.count, isNamed: isNamed))
        }
        try enter(root, rootNumber, isNamed: false, &self)
        while let visit = visits.last {
            guard visit.next < visit.children.count else {
                isOnPath[visit.number] = false
                visits.removeLast()
                continue
            }
            visits[visits.count - 1].next += 1
            let (step, child) = visit.children[visit.next]
            guard let number = graph.number(of: child), holders[number], !isOnPath[number] else { continue }
            steps += 1
            guard steps <= 4 * limits.tensors, visits.count <= Self.depthLimit else {
                throw malformed("the pickle leads to its tensors on more ways than the limit allows")
            }
            name.removeSubrange(visit.nameCount...)
            var isNamed = visit.isNamed
            try append(step, to: &name, isNamed: &isNamed)
            try enter(child, number, isNamed: isNamed, &self)
        }
    }

    private func append(_ step: Step, to name: inout [UInt8], isNamed: inout Bool) throws(CheckpointError) {
        let component: [UInt8]
        switch step {
        case .nothing: return
        case .index(let index): component = Array("\(index)".utf8)
        case .key(let key):
            switch graph.content(key) {
            case .text(let range):
                component = Array(graph.pickle[range])
                guard String(validating: component, as: UTF8.self) != nil, !component.contains(0) else {
                    throw malformed("a name is not UTF-8, or has a NUL in it", tensor: name + component)
                }
            case .integer(let integer): component = Array("\(integer)".utf8)
            default: throw malformed("a tensor is kept under a key that is no text and no integer", tensor: name)
            }
        }
        if isNamed { name.append(UInt8(ascii: ".")) }
        name += component
        isNamed = true
    }

    /// Checks that no key of a dictionary stands in it twice.
    private func checkKeys(_ children: [(step: Step, value: PickleValue)], _ name: [UInt8]) throws(CheckpointError) {
        let keys = children.compactMap { child in if case .key(let key) = child.step { text(key) } else { nil } }
        var table = NameTable(capacity: keys.count)
        for id in keys.indices where table.insert(UInt32(id), text: graph.pickle, range: { keys[Int($0)] }) != nil {
            throw malformed(
                "a dictionary has the key \"\(excerpt(graph.pickle[keys[id]]))\" twice",
                tensor: name.isEmpty ? nil : name)
        }
    }

    // MARK: Tensors

    /// Lists the tensor that `value` describes, or says what else it is.
    private mutating func list(_ value: PickleValue, _ name: [UInt8]) throws(CheckpointError) {
        guard result.entries.count + result.others.count < limits.tensors,
            result.names.count + name.count <= limits.pickledValueBytes
        else { throw malformed("there are more tensors, or longer names of them, than the limit allows") }
        func other(_ kind: String, isListed: Bool = false) {
            result.others.append(
                OtherTensor(name: String(decoding: name, as: UTF8.self), kind: kind, isListed: isListed))
        }
        var (recipe, callable, arguments) = try tensorCall(value, name)
        while case .parameter = recipe {
            guard let inner = arguments.first else { break }
            (recipe, callable, arguments) = try tensorCall(inner, name)
        }
        switch recipe {
        case .tensor: try list(made: callable, of: arguments, name)
        case .quantised:
            guard arguments.count >= 5 else { throw malformed("a tensor is made of too few parts", tensor: name) }
            try list(arguments, dtype: nil, metadata: nil, name)
            other("quantised tensor (\(tuple(arguments[4])?.first.flatMap(globalName) ?? "unknown"))", isListed: true)
        case .subclass:
            // The function that makes the tensor, its class, the function's arguments, attributes.
            guard arguments.count >= 3, let inner = tuple(arguments[2]) else {
                throw malformed("a tensor is made of too few parts", tensor: name)
            }
            let className = globalName(arguments[1]) ?? "unknown"
            guard case .tensor = self.recipe(arguments[0]) else {
                return other("tensor of class \(className), without elements of its own")
            }
            try list(made: arguments[0], of: Array(inner), name)
            if !["torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"].contains(className) {
                other("tensor of class \(className)", isListed: true)
            }
        case .sparse: other("sparse tensor (\(arguments.first.flatMap(layoutName) ?? "unknown layout"))")
        case .meta: other("meta tensor, without data")
        case .nested: other("nested tensor")
        case .wrapper:
            other("tensor of class \(arguments.first.flatMap(globalName) ?? "unknown"), without elements of its own")
        case .parameter, .size, .none: throw malformed("a parameter holds no tensor", tensor: name)
        }
    }

    /// Takes apart the call that makes a tensor.
    private mutating func tensorCall(
        _ value: PickleValue, _ name: [UInt8]
    ) throws(CheckpointError) -> (recipe: Recipe, callable: PickleValue, arguments: [PickleValue]) {
        guard case .object(let object) = graph.content(value) else {
            throw malformed("a parameter holds no tensor", tensor: name)
        }
        guard object.state == .absent, graph.items(of: value).isEmpty else {
            throw malformed("something is put into a tensor after it was made", tensor: name)
        }
        return (recipe(object.callable), object.callable, Array(tuple(object.arguments) ?? []))
    }

    /// Lists the tensor that one of torch's three functions for plain tensors would make of `arguments`.
    private mutating func list(
        made callable: PickleValue, of arguments: [PickleValue], _ name: [UInt8]
    ) throws(CheckpointError) {
        guard case .tensor(let version) = recipe(callable), arguments.count >= [4, 6, 7][version - 1] else {
            throw malformed("a tensor is made of too few parts", tensor: name)
        }
        var dtype: DType?
        if version == 3 {
            let typeName = globalName(arguments[6])
            dtype = typeName?.dropping("torch.").flatMap { TorchTypes.dtypes[$0] }
            guard dtype != nil else {
                result.others.append(
                    OtherTensor(
                        name: String(decoding: name, as: UTF8.self), kind: "tensor of type \(typeName ?? "unknown")",
                        isListed: false))
                return
            }
        }
        let metadata = version == 1 ? nil : arguments.dropFirst(version == 2 ? 6 : 7).first
        try list(arguments, dtype: dtype, metadata: metadata, name)
    }

    /// `torch._utils._get_layout("torch.sparse_coo")` as torch pickles it: the layout's name.
    private func layoutName(_ value: PickleValue) -> String? {
        guard case .object(let object) = graph.content(value), let name = tuple(object.arguments)?.first.flatMap(text)
        else {
            return nil
        }
        return excerpt(graph.pickle[name])
    }

    /// Lists the tensor that `arguments` (storage, offset, size, stride, ...) describe.
    private mutating func list(
        _ arguments: [PickleValue], dtype: DType?, metadata: PickleValue?, _ name: [UInt8]
    ) throws(CheckpointError) {
        guard let storage = part(arguments[0]) else { throw malformed("a tensor has no storage", tensor: name) }
        guard let dtype = dtype ?? storage.dtype, storage.dtype == nil || storage.dtype == dtype else {
            throw malformed("a tensor is of another type than its storage", tensor: name)
        }
        guard let offset = integer(arguments[1]), offset >= 0, let shape = integers(arguments[2]),
            let strides = integers(arguments[3]), shape.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 }),
            shape.count == strides.count, shape.count <= limits.rank
        else {
            throw malformed(
                "a tensor's offset, shape or strides are not as many integers from 0 on as it has dimensions",
                tensor: name)
        }
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
        // The number behind the last element's, or, where there is none, the first's.
        var end = offset
        var overflows = false
        if byteCount > 0 {
            for (dimension, stride) in zip(shape, strides) {
                let (extent, first) = (dimension - 1).multipliedReportingOverflow(by: stride)
                let (sum, second) = end.addingReportingOverflow(extent)
                overflows = overflows || first || second
                end = sum
            }
            let (sum, overflow) = end.addingReportingOverflow(1)
            overflows = overflows || overflow
            end = sum
        }
        guard !overflows, end <= available else {
            throw malformed(
                "a tensor lies outside its storage", tensor: name, expected: "\(available) elements at the most",
                found: overflows ? "an overflow" : "\(end)")
        }
        if dtype == .f4E2M1, shape.isEmpty {
            throw malformed("a tensor of pairs of four bits is a scalar", tensor: name)
        }
        if byteCount > storage.byteCount {
            let (sum, overflow) = repeatedBytes.addingReportingOverflow(byteCount)
            repeatedBytes = overflow ? .max : sum
        }
        var signs = (isConjugated: false, isNegated: false)
        if let metadata, case .dictionary = graph.content(metadata) {
            let pairs = graph.items(of: metadata)
            for place in stride(from: 0, to: pairs.count - 1, by: 2) where pairs[place + 1] == .true {
                guard let key = text(pairs[place]) else { continue }
                if graph.pickle[key].elementsEqual("conj".utf8) { signs.isConjugated = true }
                if graph.pickle[key].elementsEqual("neg".utf8) { signs.isNegated = true }
            }
        }
        let isFloat = dtype.isComplex || [.f64, .f32, .f16, .bf16].contains(dtype)
        guard (!signs.isConjugated || dtype.isComplex) && (!signs.isNegated || isFloat) else {
            throw malformed("a tensor is conjugated or negated whose type cannot be", tensor: name)
        }
        result.append(
            name: name, storage: storage.number, offset: storage.offset + offset * elementSize, dtype: dtype,
            shape: shape,
            strides: strides, isConjugated: signs.isConjugated, isNegated: signs.isNegated)
    }
}

extension String {
    /// The rest behind `prefix`; nil where the text does not begin with it.
    fileprivate func dropping(_ prefix: String) -> String? {
        hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
    }
}
