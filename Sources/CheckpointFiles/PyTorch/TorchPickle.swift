import Bytes

/// The kind of value that a call to a torch function creates.
enum TorchRecipe {
    case tensor(version: Int)
    /// A wrapper around the tensor in the first argument, such as a parameter.
    case parameter
    case quantised
    case sparse
    case meta
    case nested
    case wrapper
    case subclass
    case size
    /// A tensor that an unknown torch function creates.
    case unknownTensor
    /// Any value other than a tensor or a size.
    case none

    private static let byName: [ByteString: TorchRecipe] = [
        "torch._utils._rebuild_tensor": .tensor(version: 1), "torch._utils._rebuild_tensor_v2": .tensor(version: 2),
        "torch._utils._rebuild_tensor_v3": .tensor(version: 3), "torch._utils._rebuild_parameter": .parameter,
        "torch._utils._rebuild_parameter_with_state": .parameter,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": .parameter, "torch._utils._rebuild_qtensor": .quantised,
        "torch._utils._rebuild_sparse_tensor": .sparse, "torch._utils._rebuild_meta_tensor_no_storage": .meta,
        "torch._utils._rebuild_nested_tensor": .nested, "torch._utils._rebuild_wrapper_subclass": .wrapper,
        "torch._tensor._rebuild_from_type_v2": .subclass, "torch._tensor._rebuild_from_type": .subclass,
        "torch.tensor._rebuild_from_type": .subclass, "torch.Size": .size,
    ]

    init(_ globalName: String) {
        let isUnknown = ["torch._utils._rebuild", "torch._tensor._rebuild"].contains {
            globalName.dropping(prefix: $0) != nil
        }
        self = Self.byName[ByteString(globalName)] ?? (isUnknown ? .unknownTensor : .none)
    }
}

/// The values of a pickle with torch's interpretation of them.
struct TorchPickle {
    let graph: PickleGraph
    let path: String
    let limits: ReadLimits
    /// The recipes of the globals, indexed by the global's number.
    private let recipes: [TorchRecipe]

    init(
        _ graph: PickleGraph, path: String, limits: ReadLimits, spending budget: inout PickleBudget
    ) throws(CheckpointError) {
        self.graph = graph
        self.path = path
        self.limits = limits
        try budget.spend(memory: graph.globals.count * MemoryLayout<TorchRecipe>.stride)
        recipes = graph.globals.indices.map { TorchRecipe(graph.name(ofGlobal: $0)) }
    }

    /// Returns the kind of value that a call to `callable` creates.
    func recipe(_ callable: PickleValue) -> TorchRecipe {
        if case .global(let number) = graph.content(callable) { recipes[number] } else { .none }
    }

    /// Returns the recipe of the call that creates an object, or `none` if `__new__` creates the object.
    func recipe(of object: PickleGraph.Object) -> TorchRecipe {
        object.making == .call ? recipe(object.callable) : .none
    }

    /// Returns whether a value represents a tensor or refers to data outside the pickle.
    func isTensor(_ value: PickleValue) -> Bool {
        switch graph.content(value) {
        case .persistent: return true
        case .object(let object):
            switch recipe(of: object) {
            case .none, .size: return false
            default: return true
            }
        default: return false
        }
    }

    /// Returns the module and name of a global, or of a class that a legacy file stores with its source code.
    ///
    /// Returns nil for other values.
    func globalName(_ value: PickleValue) -> String? {
        switch graph.content(value) {
        case .global(let number): return graph.name(ofGlobal: number)
        case .persistent(let identifier):
            guard let fields = graph.elements(identifier), fields.count >= 2,
                let kind = graph.textRange(fields[fields.startIndex]),
                graph.pickle[kind].elementsEqual("module".utf8),
                case .global(let number) = graph.content(fields[fields.startIndex + 1])
            else { return nil }
            return graph.name(ofGlobal: number)
        default: return nil
        }
    }

    /// Returns an error of category `malformed` for this pickle.
    func malformed(
        _ problem: String, tensor: ArraySlice<UInt8>? = nil, expected: String? = nil, found: String? = nil
    ) -> CheckpointError {
        CheckpointError(
            .malformed, path: path, problem, tensor: tensor.map { excerpt($0) }, expected: expected, found: found)
    }
}
