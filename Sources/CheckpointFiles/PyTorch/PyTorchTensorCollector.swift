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
        /// A tensor that stands as the first argument.
        case parameter
        case quantised
        case sparse
        case meta
        case nested
        case wrapper
        case subclass
        case size
        /// Tensors that are made by what we do not know.
        case unknownTensor
        case none
    }

    private static let recipes: [String: Recipe] = [
        "torch._utils._rebuild_tensor": .tensor(version: 1), "torch._utils._rebuild_tensor_v2": .tensor(version: 2),
        "torch._utils._rebuild_tensor_v3": .tensor(version: 3), "torch._utils._rebuild_parameter": .parameter,
        "torch._utils._rebuild_parameter_with_state": .parameter,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": .parameter, "torch._utils._rebuild_qtensor": .quantised,
        "torch._utils._rebuild_sparse_tensor": .sparse, "torch._utils._rebuild_meta_tensor_no_storage": .meta,
        "torch._utils._rebuild_nested_tensor": .nested, "torch._utils._rebuild_wrapper_subclass": .wrapper,
        "torch._tensor._rebuild_from_type_v2": .subclass, "torch._tensor._rebuild_from_type": .subclass,
        "torch.tensor._rebuild_from_type": .subclass, "torch.Size": .size,
    ]

    /// What a value is that stands for a tensor, found out once however many names lead to it.
    private enum Found {
        case tensor(PyTorchTensors.Entry, kind: String?)
        case other(String)
    }

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
    private var found: [Int: Found] = [:]
    /// What leads from a value to tensors, by its number.
    private var links: [Int: [Link]] = [:]
    private var logicalBytes = 0
    private var memory: Int
    private var work: Int

    /// Reads what `graph` says of storages.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed`.
    init(_ graph: PickleGraph, path: String, limits: ReadLimits) throws(CheckpointError) {
        self.graph = graph
        self.path = path
        self.limits = limits
        memory = limits.pickledValueBytes
        work = 20 * limits.pickleBytes
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
        try findLinks(root)
        try walk(root)
        // A file of some bytes can speak of any number of them: what is named again and again must stay in proportion.
        let most = max(fileSize.multiplied(clamped: limits.expandedRatio), limits.expandedBytes)
        guard logicalBytes <= most else {
            throw malformed(
                "tensors that share their elements, or repeat them, take more bytes than the limit allows",
                expected: "\(most) at the most", found: "\(logicalBytes)")
        }
        try result.finish(stored: stored, path: path)
        return result
    }

    /// Sentences for the user, once the tensors are listed.
    var warnings: [String] {
        let used = Set(result.entries.map(\.storage))
        guard used.count < storages.count, result.others.isEmpty else { return [] }
        let count = storages.count - used.count
        return ["\(count) storage\(count == 1 ? " belongs" : "s belong") to no tensor that is listed"]
    }

    private func malformed(
        _ problem: String, tensor: [UInt8]? = nil, expected: String? = nil, found: String? = nil
    ) -> CheckpointError {
        CheckpointError(
            .malformed, path: path, problem, tensor: tensor.map { excerpt($0[...]) }, expected: expected, found: found)
    }

    /// Takes memory and work from what may be spent on what the pickle asks for.
    private mutating func spend(memory bytes: Int = 0, work steps: Int = 1) throws(CheckpointError) {
        memory -= bytes
        work -= steps
        guard memory >= 0, work >= 0 else {
            throw malformed("the pickle leads to more tensors, or on more ways, than the limit allows")
        }
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
        let dtype = try storageType(fields[fields.startIndex + 1])
        let (byteCount, overflow) = count.multipliedReportingOverflow(by: dtype.size)
        guard !overflow else { throw malformed("the size of a storage overflows", found: "\(count)") }
        let storage = Storage(key: key, dtype: dtype.type, byteCount: byteCount)
        guard let earlier = storageNumbers[graph.pickle[key]] else {
            storageNumbers[graph.pickle[key]] = storages.count
            storages.append(storage)
            return
        }
        // Tensors of types without a storage class use the bytes of whatever storage there is.
        let types = Set([storages[earlier].dtype, storage.dtype].compactMap { $0 })
        guard types.count <= 1, storages[earlier].byteCount == byteCount else {
            throw malformed(
                "a storage is spoken of in two ways", expected: text(of: storages[earlier]), found: text(of: storage))
        }
    }

    /// The type of a storage's elements by its class, nil for bytes of any type; and the size in bytes.
    private func storageType(_ value: PickleValue) throws(CheckpointError) -> (type: DType?, size: Int) {
        let className = globalName(value) ?? "nothing"
        if className == "torch.storage.UntypedStorage" || className == "torch.UntypedStorage" { return (nil, 1) }
        let name = className.dropping("torch.cuda.") ?? className.dropping("torch.")
        guard let type = name.flatMap({ TorchTypes.storages[$0] }) else {
            throw malformed("a storage is of an unknown class", found: className)
        }
        return (type, type.bitWidth / 8)
    }

    private func text(of storage: Storage) -> String {
        "\"\(excerpt(graph.pickle[storage.key]))\" with \(storage.byteCount) bytes of \(storage.dtype?.rawValue ?? "any type")"
    }

    private func part(_ value: PickleValue) throws(CheckpointError) -> StoragePart? {
        guard case .persistent(let identifier) = graph.content(value), let fields = tuple(identifier),
            fields.count >= 5,
            let key = text(fields[fields.startIndex + 2]), let number = storageNumbers[graph.pickle[key]]
        else { return nil }
        let dtype = try storageType(fields[fields.startIndex + 1])
        let byteCount = storages[number].byteCount
        var part = StoragePart(number: number, dtype: dtype.type, offset: 0, byteCount: byteCount)
        // (key of the view, offset, length) in elements: how files before 2017 share a storage.
        if fields.count == 6, let view = tuple(fields[fields.startIndex + 5]) {
            guard view.count == 3, let offset = integer(view[view.startIndex + 1]),
                let count = integer(view[view.startIndex + 2]), offset >= 0, count >= 0,
                offset <= byteCount / dtype.size, count <= byteCount / dtype.size - offset
            else { return nil }
            part.offset = offset * dtype.size
            part.byteCount = count * dtype.size
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
        let name = graph.name(ofGlobal: number)
        let isUnknown = ["torch._utils._rebuild", "torch._tensor._rebuild"].contains { name.hasPrefix($0) }
        let recipe = Self.recipes[name] ?? (isUnknown ? .unknownTensor : .none)
        recipesByGlobal[number] = recipe
        return recipe
    }

    /// The integers of a tuple, or of a `torch.Size` of one; nil where there are others, or too many.
    private mutating func integers(_ value: PickleValue) -> [Int]? {
        var value = value
        if case .object(let object) = graph.content(value), case .size = recipe(object.callable),
            let inner = tuple(object.arguments)?.first
        {
            value = inner
        }
        guard let elements = tuple(value), elements.count <= limits.rank else { return nil }
        let integers = elements.compactMap(integer)
        return integers.count == elements.count ? integers : nil
    }

    // MARK: Links

    /// What a step from a value to one below it adds to a name.
    private enum Step {
        case nothing
        case key(PickleValue)
        case index(Int)
    }

    /// A step that leads to a tensor.
    private struct Link {
        var step: Step
        var value: PickleValue
    }

    /// A value whose parts are being visited.
    private struct Visit {
        var value: PickleValue
        var number: Int
        /// Arguments and state of an object, to be visited behind what was put into it.
        var parts: [(step: Step, value: PickleValue, isState: Bool)] = []
        var cursor: PickleGraph.Cursor
        /// Whether it is what an object keeps its attributes in.
        var isState = false
        var links: [Link] = []
        /// The step that is being taken.
        var step = Step.nothing
    }

    private mutating func isTensor(_ value: PickleValue) -> Bool {
        switch graph.content(value) {
        case .persistent: return true
        case .object(let object):
            switch recipe(object.callable) {
            case .none, .size: return false
            default: return true
            }
        default: return false
        }
    }

    /// Prepares to visit the parts of a value; of a tensor these are its attributes.
    private mutating func visit(_ value: PickleValue, _ number: Int, isState: Bool) -> Visit {
        var visit = Visit(value: value, number: number, cursor: graph.cursor(at: value), isState: isState)
        guard case .object(let object) = graph.content(value) else { return visit }
        let arguments = tuple(object.arguments) ?? []
        if isTensor(value) {
            visit.cursor = PickleGraph.Cursor()
            switch recipe(object.callable) {
            case .subclass, .parameter:
                if arguments.count > 3 { visit.parts = [(.nothing, arguments[arguments.startIndex + 3], true)] }
            default: break
            }
            return visit
        }
        visit.parts = [(.nothing, object.arguments, false)]
        // A dictionary of attributes, or a tuple of such and one of slots.
        if let states = tuple(object.state), states.count == 2, states.allSatisfy(isDictionaryOrNone) {
            visit.parts += states.map { (.nothing, $0, true) }
        } else if object.state != .absent {
            visit.parts.append((.nothing, object.state, true))
        }
        return visit
    }

    private func isDictionaryOrNone(_ value: PickleValue) -> Bool {
        if case .dictionary = graph.content(value) { true } else { value == .none }
    }

    /// The next part of the value that is being visited.
    private func nextPart(
        _ visit: inout Visit
    ) -> (step: Step, value: PickleValue, isState: Bool)? {
        if let (key, value) = graph.next(&visit.cursor) {
            guard let key else { return (.index(visit.cursor.count - 1), value, false) }
            // What torch.nn.Module calls these three does not stand in the names of its state_dict.
            let isTransparent =
                visit.isState
                && text(key).map { key in
                    ["_parameters", "_buffers", "_modules"].contains { graph.pickle[key].elementsEqual($0.utf8) }
                } ?? false
            return (isTransparent ? .nothing : .key(key), value, false)
        }
        return visit.parts.isEmpty ? nil : visit.parts.removeFirst()
    }

    /// Finds, for every value below `root`, the steps that lead from it to tensors.
    ///
    /// Visits every value once, whatever leads to it; a value that holds itself ends there.
    private mutating func findLinks(_ root: PickleValue) throws(CheckpointError) {
        guard let rootNumber = graph.number(of: root) else { return }
        var isSeen = [Bool](repeating: false, count: graph.nodeCount)
        isSeen[rootNumber] = true
        var visits = [visit(root, rootNumber, isState: false)]
        while !visits.isEmpty {
            let last = visits.count - 1
            guard let (step, value, isState) = nextPart(&visits[last]) else {
                let visit = visits.removeLast()
                if !visit.links.isEmpty || isTensor(visit.value) {
                    try checkKeys(visit)
                    links[visit.number] = visit.links
                    if last > 0 {
                        visits[last - 1].links.append(Link(step: visits[last - 1].step, value: visit.value))
                    }
                }
                continue
            }
            guard let number = graph.number(of: value) else { continue }
            if isSeen[number] {
                if links[number] != nil { visits[last].links.append(Link(step: step, value: value)) }
                continue
            }
            guard visits.count < Self.depthLimit else {
                throw malformed("the pickle is nested deeper than \(Self.depthLimit) levels")
            }
            isSeen[number] = true
            visits[last].step = step
            visits.append(visit(value, number, isState: isState))
        }
    }

    /// Checks that no key of a container that leads to tensors stands in it twice, and that keys are text that can be printed.
    private mutating func checkKeys(_ visit: Visit) throws(CheckpointError) {
        var cursor = graph.cursor(at: visit.value)
        var keys: [Range<Int>] = []
        while let (key, _) = graph.next(&cursor) {
            // Longer ones are no names, as is found below.
            guard let key, let range = text(key), range.count <= limits.nameBytes else { continue }
            try spend(work: range.count)
            keys.append(range)
        }
        var table = NameTable(capacity: keys.count)
        for id in keys.indices
        where table.insert(UInt32(id), text: graph.pickle, range: { keys[Int($0)] }) != nil {
            throw malformed("a dictionary has the key \"\(excerpt(graph.pickle[keys[id]]))\" twice")
        }
        for link in visit.links {
            guard case .key(let key) = link.step, let range = text(key) else { continue }
            guard range.count <= limits.nameBytes else {
                throw malformed("a name is longer than \(limits.nameBytes) bytes", tensor: Array(graph.pickle[range]))
            }
            guard String(validating: graph.pickle[range], as: UTF8.self) != nil, !graph.pickle[range].contains(0) else {
                throw malformed("a name is not UTF-8, or has a NUL in it", tensor: Array(graph.pickle[range]))
            }
        }
    }

    // MARK: Names

    /// Lists the tensors: once for every way that leads to them.
    private mutating func walk(_ root: PickleValue) throws(CheckpointError) {
        struct Place {
            var links: ArraySlice<Link>
            var nameCount: Int
            /// Whether anything belongs to the name yet, and whether all of it can be written.
            var isNamed, isWritable: Bool
        }
        guard let rootNumber = graph.number(of: root), let first = links[rootNumber] else { return }
        var name: [UInt8] = []
        if isTensor(root) { try list(root, rootNumber, name, isWritable: true) }
        var places = [Place(links: first[...], nameCount: 0, isNamed: false, isWritable: true)]
        while let place = places.last {
            guard let link = place.links.first else {
                places.removeLast()
                continue
            }
            places[places.count - 1].links.removeFirst()
            guard let number = graph.number(of: link.value), let next = links[number] else { continue }
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
            try spend(work: 10 + name.count)
            guard name.count <= limits.nameBytes else {
                throw malformed("a name is longer than \(limits.nameBytes) bytes", tensor: name)
            }
            if isTensor(link.value) { try list(link.value, number, name, isWritable: isWritable) }
            places.append(Place(links: next[...], nameCount: name.count, isNamed: isNamed, isWritable: isWritable))
        }
    }

    /// Lists the tensor that `value` describes under a name, or says what else it is.
    private mutating func list(
        _ value: PickleValue, _ number: Int, _ name: [UInt8], isWritable: Bool
    ) throws(CheckpointError) {
        guard result.entries.count + result.others.count < limits.tensors else {
            throw malformed("there are more than \(limits.tensors) tensors")
        }
        try spend(memory: name.count + 2 * MemoryLayout<PyTorchTensors.Entry>.stride)
        let kind: Found
        if let known = found[number] {
            kind = known
        } else {
            kind = try find(value, name)
            found[number] = kind
        }
        func other(_ kind: String, isListed: Bool) {
            result.others.append(
                OtherTensor(name: String(decoding: name, as: UTF8.self), kind: kind, isListed: isListed))
        }
        switch kind {
        case .tensor where !isWritable:
            other("tensor under a key that is neither text nor an integer", isListed: false)
        case .tensor(let entry, let kind):
            result.append(entry, name: name)
            let shape = result.shape(of: entry)
            logicalBytes = logicalBytes.adding(clamped: shape.reduce(entry.elementSize) { $0.multiplied(clamped: $1) })
            if let kind { other(kind, isListed: true) }
        case .other(let kind): other(kind, isListed: false)
        }
    }

    // MARK: Tensors

    /// Finds out what a value that stands for a tensor is.
    private mutating func find(_ value: PickleValue, _ name: [UInt8]) throws(CheckpointError) -> Found {
        if case .persistent(let identifier) = graph.content(value) {
            let key = tuple(identifier).flatMap { $0.count > 2 ? text($0[$0.startIndex + 2]) : nil }
            return .other(key == nil ? "class" : "storage without a tensor")
        }
        var call = try tensorCall(value, name)
        while case .parameter = call.recipe {
            guard let inner = call.arguments.first else { throw malformed("a parameter holds no tensor", tensor: name) }
            call = try tensorCall(inner, name)
            try spend()
        }
        guard case .subclass = call.recipe else { return try find(call.recipe, call.arguments, name) }
        // The function that makes the tensor, its class, the function's arguments, attributes.
        guard call.arguments.count >= 3, let inner = tuple(call.arguments[2]) else {
            throw malformed("a tensor is made of too few parts", tensor: name)
        }
        let className = globalName(call.arguments[1]) ?? "unknown"
        var made = recipe(call.arguments[0])
        switch made {
        case .none, .size, .parameter, .subclass: made = .unknownTensor
        default: break
        }
        let kind = try find(made, Array(inner.prefix(10)), name)
        if ["torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"].contains(className) {
            return kind
        }
        return switch kind {
        case .tensor(let entry, let inner): .tensor(entry, kind: inner ?? "tensor of class \(className)")
        case .other: .other("tensor of class \(className), without elements of its own")
        }
    }

    /// Takes apart the call that makes a tensor.
    private mutating func tensorCall(
        _ value: PickleValue, _ name: [UInt8]
    ) throws(CheckpointError) -> (recipe: Recipe, arguments: [PickleValue]) {
        guard case .object(let object) = graph.content(value) else {
            throw malformed("a parameter holds no tensor", tensor: name)
        }
        var cursor = graph.cursor(at: value)
        guard object.state == .absent, graph.next(&cursor) == nil else {
            throw malformed("something is put into a tensor after it was made", tensor: name)
        }
        return (recipe(object.callable), Array((tuple(object.arguments) ?? []).prefix(10)))
    }

    /// Finds out what one of torch's functions makes of its arguments.
    private mutating func find(
        _ recipe: Recipe, _ arguments: [PickleValue], _ name: [UInt8]
    ) throws(CheckpointError) -> Found {
        switch recipe {
        case .tensor(let version):
            guard arguments.count >= [4, 6, 7][version - 1] else {
                throw malformed("a tensor is made of too few parts", tensor: name)
            }
            var dtype: DType?
            if version == 3 {
                let typeName = globalName(arguments[6])
                dtype = typeName?.dropping("torch.").flatMap { TorchTypes.dtypes[$0] }
                if dtype == nil { return .other("tensor of type \(typeName ?? "unknown")") }
            }
            let metadata = version == 1 ? nil : arguments.dropFirst(version == 2 ? 6 : 7).first
            return .tensor(try entry(arguments, dtype: dtype, metadata: metadata, name), kind: nil)
        case .quantised:
            guard arguments.count >= 5 else { throw malformed("a tensor is made of too few parts", tensor: name) }
            let scheme = tuple(arguments[4])?.first.flatMap(globalName) ?? "unknown"
            return .tensor(
                try entry(arguments, dtype: nil, metadata: nil, name), kind: "quantised tensor (\(scheme))")
        case .sparse: return .other("sparse tensor (\(arguments.first.flatMap(layoutName) ?? "unknown layout"))")
        case .meta: return .other("meta tensor, without data")
        case .nested: return .other("nested tensor")
        case .wrapper:
            return .other(
                "tensor of class \(arguments.first.flatMap(globalName) ?? "unknown"), without elements of its own")
        case .unknownTensor, .subclass: return .other("tensor that is made in a way that is not known")
        case .parameter, .size, .none: throw malformed("a parameter holds no tensor", tensor: name)
        }
    }

    /// `torch.serialization._get_layout("torch.sparse_coo")` as torch pickles it: the layout's name.
    private func layoutName(_ value: PickleValue) -> String? {
        guard case .object(let object) = graph.content(value),
            let name = tuple(object.arguments)?.first.flatMap(text)
        else { return nil }
        return excerpt(graph.pickle[name])
    }

    /// The tensor that `arguments` (storage, offset, size, stride, ...) describe, held against its storage.
    private mutating func entry(
        _ arguments: [PickleValue], dtype: DType?, metadata: PickleValue?, _ name: [UInt8]
    ) throws(CheckpointError) -> PyTorchTensors.Entry {
        guard let storage = try part(arguments[0]) else { throw malformed("a tensor has no storage", tensor: name) }
        guard let dtype = dtype ?? storage.dtype, storage.dtype == nil || storage.dtype == dtype else {
            throw malformed("a tensor is of another type than its storage", tensor: name)
        }
        guard let offset = integer(arguments[1]), offset >= 0, let shape = integers(arguments[2]),
            var strides = integers(arguments[3]), shape.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 }),
            shape.count == strides.count
        else {
            throw malformed(
                "a tensor's offset, shape or strides are not as many integers from 0 on as it has dimensions",
                tensor: name)
        }
        // Where there is no second element, how far it would be says nothing, and may be anything.
        for (dimension, size) in shape.enumerated() where size <= 1 { strides[dimension] = 0 }
        // Nor does where the first element would be of a tensor without any.
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
        // The number behind the last element's.
        var end = start
        if byteCount > 0 {
            for (dimension, stride) in zip(shape, strides) {
                end = end.adding(clamped: (dimension - 1).multiplied(clamped: stride))
            }
            end = end.adding(clamped: 1)
        }
        guard end <= available else {
            throw malformed(
                "a tensor lies outside its storage", tensor: name, expected: "\(available) elements at the most",
                found: "\(end)")
        }
        if dtype == .f4E2M1, shape.isEmpty {
            throw malformed("a tensor of pairs of four bits is a scalar", tensor: name)
        }
        var signs = (isConjugated: false, isNegated: false)
        if let metadata, case .dictionary = graph.content(metadata) {
            signs.isConjugated = graph.value(of: metadata, forKey: "conj") == .true
            signs.isNegated = graph.value(of: metadata, forKey: "neg") == .true
        }
        let isFloat = dtype.isComplex || [.f64, .f32, .f16, .bf16].contains(dtype)
        guard (!signs.isConjugated || dtype.isComplex) && (!signs.isNegated || isFloat) else {
            throw malformed("a tensor is conjugated or negated whose type cannot be", tensor: name)
        }
        try spend(memory: 16 * shape.count)
        return result.entry(
            storage: storage.number, offset: storage.offset + start * elementSize, dtype: dtype, shape: shape,
            strides: strides, isConjugated: signs.isConjugated, isNegated: signs.isNegated)
    }
}

extension String {
    /// The rest behind `prefix`; nil where the text does not begin with it.
    fileprivate func dropping(_ prefix: String) -> String? {
        hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
    }
}
