/// The ways through what a pickle describes that lead to tensors.
struct TensorLinks {
    /// Deeper than this nothing is that a person or a program made to be used.
    private static let depthLimit = 1000

    /// What a step from a value to one below it adds to a name.
    enum Step {
        case nothing
        case key(PickleValue)
        case index(UInt32)
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
        /// Where its links begin among those that are found so far for values still being visited.
        var firstLink = 0
        /// The step that is being taken.
        var step = Step.nothing
    }

    /// What is known of a value.
    private enum State: UInt8 {
        case unseen
        case seen
        /// Is a tensor, or leads to one.
        case leading
    }

    private let pickle: TorchPickle
    private let graph: PickleGraph
    private let limits: ReadLimits
    /// By the number of the value.
    private var states: [State] = []
    /// The links of each value together.
    private var links: [Link] = []
    /// Where among these a value's are, by its number, if it has any.
    private var ranges: [UInt32: Range<UInt32>] = [:]

    /// Finds, for every value below `root`, the steps that lead from it to tensors.
    ///
    /// - Throws: ``CheckpointError`` of category `malformed`.
    init(
        below root: PickleValue, in pickle: TorchPickle, spending budget: inout PickleBudget
    ) throws(CheckpointError) {
        self.pickle = pickle
        graph = pickle.graph
        limits = pickle.limits
        try find(below: root, &budget)
    }

    /// Where the steps are that lead from a value towards tensors; nil where no way does, and the value is no tensor.
    func range(of number: Int) -> Range<Int>? {
        guard number < states.count, states[number] == .leading else { return nil }
        return ranges[UInt32(number)].map { Int($0.lowerBound)..<Int($0.upperBound) } ?? 0..<0
    }

    /// The step at a place that ``range(of:)`` gives.
    subscript(place: Int) -> Link { links[place] }

    /// Prepares to visit the parts of a value; of a tensor these are its attributes.
    private func visit(_ value: PickleValue, _ number: Int, isState: Bool) -> Visit {
        var visit = Visit(value: value, number: number, cursor: graph.cursor(at: value), isState: isState)
        guard case .object(let object) = graph.content(value) else { return visit }
        let arguments = graph.elements(object.arguments) ?? []
        if pickle.isTensor(value) {
            visit.cursor = PickleGraph.Cursor()
            switch pickle.recipe(of: object) {
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
            guard let key else { return (.index(UInt32(visit.cursor.count - 1)), value, false) }
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
    private mutating func find(below root: PickleValue, _ budget: inout PickleBudget) throws(CheckpointError) {
        guard let rootNumber = graph.number(of: root) else { return }
        try budget.spend(memory: graph.nodeCount)
        states = Array(repeating: .unseen, count: graph.nodeCount)
        states[rootNumber] = .seen
        var visits = [visit(root, rootNumber, isState: false)]
        // Those of values that are still being visited; the innermost one's are the last.
        var open: [Link] = []
        while !visits.isEmpty {
            let last = visits.count - 1
            try budget.spend(work: 1)
            guard let (step, value, isState) = nextPart(&visits[last]) else {
                let visit = visits.removeLast()
                guard open.count > visit.firstLink || pickle.isTensor(visit.value) else { continue }
                try checkKeys(open[visit.firstLink...])
                states[visit.number] = .leading
                if open.count > visit.firstLink {
                    try budget.spend(memory: PickleBudget.dictionaryEntry(UInt32.self, Range<UInt32>.self))
                    let start = UInt32(links.count)
                    links += open[visit.firstLink...]
                    open.removeSubrange(visit.firstLink...)
                    ranges[UInt32(visit.number)] = start..<UInt32(links.count)
                }
                guard last > 0 else { continue }
                try budget.spend(elements: 2, of: Link.self)
                open.append(Link(step: visits[last - 1].step, value: visit.value))
                continue
            }
            guard let number = graph.number(of: value) else { continue }
            guard states[number] == .unseen else {
                guard states[number] == .leading else { continue }
                // Among the open ones, and then among all.
                try budget.spend(elements: 2, of: Link.self)
                open.append(Link(step: step, value: value))
                continue
            }
            guard visits.count < Self.depthLimit else {
                throw pickle.malformed("the pickle is nested deeper than \(Self.depthLimit) levels")
            }
            states[number] = .seen
            visits[last].step = step
            visits.append(visit(value, number, isState: isState))
            visits[last + 1].firstLink = open.count
        }
        budget.free(memory: 2 * links.count * MemoryLayout<Link>.stride)
    }

    /// Checks that the keys that lead to tensors are text that can be printed.
    private func checkKeys(_ links: ArraySlice<Link>) throws(CheckpointError) {
        for link in links {
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
