/// The ways through what a pickle describes that lead to tensors.
struct TensorLinks {
    /// Deeper than this nothing is that a person or a program made to be used.
    private static let depthLimit = 1000

    /// What a step from a value to one below it adds to a name.
    enum Step {
        case nothing
        case key(PickleValue)
        case index(Int)
    }

    /// A step that leads to a tensor.
    struct Link {
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

    private let pickle: TorchPickle
    private let graph: PickleGraph
    private let limits: ReadLimits
    /// By the number of the value that they begin at.
    private var links: [Int: [Link]] = [:]
    private var work: Int

    /// Finds, for every value below `root`, the steps that lead from it to tensors.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed`.
    init(below root: PickleValue, in pickle: TorchPickle) throws(CheckpointError) {
        self.pickle = pickle
        graph = pickle.graph
        limits = pickle.limits
        work = 20 * limits.pickleBytes
        try find(below: root)
    }

    /// The steps that lead from a value towards tensors; nil where no way does, and the value is no tensor.
    subscript(number: Int) -> [Link]? { links[number] }

    /// Prepares to visit the parts of a value; of a tensor these are its attributes.
    private func visit(_ value: PickleValue, _ number: Int, isState: Bool) -> Visit {
        var visit = Visit(value: value, number: number, cursor: graph.cursor(at: value), isState: isState)
        guard case .object(let object) = graph.content(value) else { return visit }
        let arguments = graph.elements(object.arguments) ?? []
        if pickle.isTensor(value) {
            visit.cursor = PickleGraph.Cursor()
            switch pickle.recipe(object.callable) {
            case .subclass, .parameter:
                if arguments.count > 3 { visit.parts = [(.nothing, arguments[arguments.startIndex + 3], true)] }
            default: break
            }
            return visit
        }
        visit.parts = [(.nothing, object.arguments, false)]
        // A dictionary of attributes, or a tuple of such and one of slots.
        if let states = graph.elements(object.state), states.count == 2, states.allSatisfy(isDictionaryOrNone) {
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
                && graph.textRange(key).map { key in
                    ["_parameters", "_buffers", "_modules"].contains { graph.pickle[key].elementsEqual($0.utf8) }
                } ?? false
            return (isTransparent ? .nothing : .key(key), value, false)
        }
        return visit.parts.isEmpty ? nil : visit.parts.removeFirst()
    }

    /// Visits every value once, whatever leads to it; a value that holds itself ends there.
    private mutating func find(below root: PickleValue) throws(CheckpointError) {
        guard let rootNumber = graph.number(of: root) else { return }
        var isSeen = [Bool](repeating: false, count: graph.nodeCount)
        isSeen[rootNumber] = true
        var visits = [visit(root, rootNumber, isState: false)]
        while !visits.isEmpty {
            let last = visits.count - 1
            guard let (step, value, isState) = nextPart(&visits[last]) else {
                let visit = visits.removeLast()
                if !visit.links.isEmpty || pickle.isTensor(visit.value) {
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
                throw pickle.malformed("the pickle is nested deeper than \(Self.depthLimit) levels")
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
            guard let key, let range = graph.textRange(key), range.count <= limits.nameBytes else { continue }
            work -= range.count
            guard work >= 0 else { throw pickle.malformed("the keys of dictionaries are longer than the limit allows") }
            keys.append(range)
        }
        var table = NameTable(capacity: keys.count)
        for id in keys.indices
        where table.insert(UInt32(id), text: graph.pickle, range: { keys[Int($0)] }) != nil {
            throw pickle.malformed("a dictionary has the key \"\(excerpt(graph.pickle[keys[id]]))\" twice")
        }
        for link in visit.links {
            guard case .key(let key) = link.step, let range = graph.textRange(key) else { continue }
            guard range.count <= limits.nameBytes else {
                throw pickle.malformed("a name is longer than \(limits.nameBytes) bytes", tensor: graph.pickle[range])
            }
            guard String(validating: graph.pickle[range], as: UTF8.self) != nil, !graph.pickle[range].contains(0) else {
                throw pickle.malformed("a name is not UTF-8, or has a NUL in it", tensor: graph.pickle[range])
            }
        }
    }
}
