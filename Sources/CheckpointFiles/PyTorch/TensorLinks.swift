import Bytes

/// The links from the values of a pickle to those of their parts that are tensors or lead to tensors.
struct TensorLinks {
    /// The maximum nesting depth, which is far greater than in any real checkpoint.
    private static let depthLimit = 1000

    /// The component that a link adds to the names of tensors.
    enum Step {
        case nothing
        case key(PickleValue)
        case index(UInt32)
    }

    /// A link from a value to one of its parts that is a tensor or leads to one.
    struct Link {
        var step: Step
        var value: PickleValue
    }

    /// A value whose parts are being visited.
    private struct Visit {
        var value: PickleValue
        var number: Int
        /// The parts that are visited after the value's items: an object's arguments and state, or a tensor's
        /// attributes.
        var parts: [(step: Step, value: PickleValue, isState: Bool)] = []
        var cursor: PickleGraph.Cursor
        /// Whether the value contains the attributes of an object.
        var isState = false
        /// The index of the value's first link in the list of links of all values that are still being visited.
        var firstLink = 0
        /// The step that leads to the part being visited.
        var step = Step.nothing
    }

    /// The state of a value during the search for tensors.
    private enum State: UInt8 {
        case unseen
        case seen
        /// The value is a tensor or leads to one.
        case leading
    }

    private let pickle: TorchPickle
    private let graph: PickleGraph
    private let limits: ReadLimits
    /// The state of each value, indexed by the value's number.
    private var states: [State] = []
    /// All links; the links of each value are contiguous.
    private var links: [Link] = []
    /// The range of each value's links in `links`, keyed by the value's number; values without links are absent.
    private var ranges: [UInt32: Range<UInt32>] = [:]

    /// Creates the links of `root` and of all values that it contains.
    ///
    /// - Throws: `CheckpointError` of category `malformed`.
    init(
        below root: PickleValue, in pickle: TorchPickle, spending budget: inout PickleBudget
    ) throws(CheckpointError) {
        self.pickle = pickle
        graph = pickle.graph
        limits = pickle.limits
        try find(below: root, &budget)
    }

    /// Returns the range of a value's links, or nil if the value neither is a tensor nor leads to one.
    func range(of number: Int) -> Range<Int>? {
        guard number < states.count, states[number] == .leading else { return nil }
        return ranges[UInt32(number)].map { Int($0.lowerBound)..<Int($0.upperBound) } ?? 0..<0
    }

    /// Accesses the link at an index from a range that ``range(of:)`` has returned.
    subscript(place: Int) -> Link { links[place] }

    /// Prepares a visit to the parts of a value; the parts of a tensor are its attributes.
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
        // The state is usually a dictionary of attributes, or a pair of dictionaries with attributes and slots.
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

    /// Returns the next part of the value that is being visited, or nil after the last part.
    private func nextPart(
        _ visit: inout Visit
    ) -> (step: Step, value: PickleValue, isState: Bool)? {
        if let (key, value) = graph.next(&visit.cursor) {
            guard let key else { return (.index(UInt32(visit.cursor.count - 1)), value, false) }
            // torch.nn.Module.state_dict omits these three names from its keys.
            let isTransparent =
                visit.isState
                && graph.textRange(key).map { key in
                    ["_parameters", "_buffers", "_modules"].contains { graph.pickle[key].elementsEqual($0.utf8) }
                } ?? false
            return (isTransparent ? .nothing : .key(key), value, false)
        }
        return visit.parts.isEmpty ? nil : visit.parts.removeFirst()
    }

    /// Visits every value once, even if several paths lead to it or if it contains itself.
    private mutating func find(below root: PickleValue, _ budget: inout PickleBudget) throws(CheckpointError) {
        guard let rootNumber = graph.number(of: root) else { return }
        try budget.spend(memory: graph.nodeCount)
        states = Array(repeating: .unseen, count: graph.nodeCount)
        states[rootNumber] = .seen
        var visits = [visit(root, rootNumber, isState: false)]
        // The links of all values that are still being visited. The links of the innermost value are at the end.
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
                // Charge for the link twice: it is in `open` now, and will later be copied to `links`.
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

    /// Checks that each text key is valid UTF-8 without NUL, and that it is not longer than ``ReadLimits/nameBytes``.
    private func checkKeys(_ links: ArraySlice<Link>) throws(CheckpointError) {
        for link in links {
            guard case .key(let key) = link.step, let range = graph.textRange(key) else { continue }
            guard range.count <= limits.nameBytes else {
                throw pickle.malformed("a name is longer than \(limits.nameBytes) bytes", tensor: graph.pickle[range])
            }
            guard String(validating: graph.pickle[range], as: UTF8.self) != nil, !graph.pickle[range].contains(0) else {
                throw pickle.malformed("a name is not UTF-8, or contains NUL", tensor: graph.pickle[range])
            }
        }
    }
}
