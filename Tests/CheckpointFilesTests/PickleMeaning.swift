import Bytes

@testable import CheckpointFiles

/// The meaning of a pickle according to our reader, in the notation of fixtures/make_pickle_programs.py.
struct PickleMeaning {
    private let graph: PickleGraph
    /// The names of calls and persistent values in ``text``, keyed by the number of the value.
    private var serials: [Int: String] = [:]
    /// The numbers of containers in ``text``, keyed by the number of the value.
    private var numbers: [Int: Int] = [:]
    private var queue: [PickleValue] = []

    /// The lines of the meaning, in which `text ?` represents a string that is not decoded.
    private(set) var text = ""

    init(_ result: PickleMachine.Result) {
        graph = result.graph
        var objects: [PickleValue] = []
        var identifiers: [PickleValue] = []
        for number in 0..<graph.nodeCount {
            let value = graph.value(numbered: number)
            switch graph.content(value) {
            case .object:
                serials[number] = "o\(objects.count)"
                objects.append(value)
            case .persistent(let identifier):
                serials[number] = "p\(identifiers.count)"
                identifiers.append(identifier)
            default: break
            }
        }
        var lines = [reference(result.value)]
        for (number, value) in objects.enumerated() { lines.append("o\(number) = \(object(value))") }
        for (number, value) in identifiers.enumerated() { lines.append("p\(number) = \(reference(value))") }
        var done = 0
        while done < queue.count {
            lines.append("v\(done) = \(parts(of: queue[done]))")
            done += 1
        }
        lines.append((["globals"] + graph.globals.map(name)).joined(separator: " "))
        text = lines.joined(separator: "\n")
    }

    /// Returns whether the meaning agrees with `expected`, which is the meaning according to CPython.
    func agrees(with expected: String) -> Bool {
        let parts = text.split(separator: "text ?", omittingEmptySubsequences: false)
        guard var rest = expected.dropping(prefix: String(parts[0])) else { return false }
        for part in parts.dropFirst() {
            guard let quoted = rest.dropping(prefix: "text \""), let end = quoted.firstIndex(of: "\""),
                let next = quoted[quoted.index(after: end)...].dropping(prefix: String(part))
            else { return false }
            rest = next
        }
        return rest.isEmpty
    }

    private func quoted(_ range: Range<Int>) -> String {
        let characters = graph.pickle[range].map { byte in
            0x21...0x7E ~= byte && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
                ? String(Unicode.Scalar(byte)) : "\\" + Self.hexadecimal(UInt64(byte), digits: 2)
        }
        return "\"\(characters.joined())\""
    }

    private static func hexadecimal(_ value: UInt64, digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: digits - text.count) + text
    }

    private func name(_ global: PickleGraph.Global) -> String { "\(quoted(global.module)).\(quoted(global.name))" }

    /// Returns the text of a value that does not get a container number, or nil for other values.
    private func scalar(_ value: PickleValue) -> String? {
        switch graph.content(value) {
        case .none: "None"
        case .bool(let bool): bool ? "True" : "False"
        case .integer(let integer): "\(integer)"
        case .longInteger: "long"
        case .float(let float):
            "float " + (float.isNaN ? "nan" : Self.hexadecimal(float.bitPattern, digits: 16))
        case .text(let range): "text \(quoted(range))"
        case .undecodedText: "text ?"
        case .bytes(let range): "bytes \(quoted(range))"
        case .tuple(let elements): elements.isEmpty ? "tuple()" : nil
        case .frozenSet: items(of: value).isEmpty ? "frozenset()" : nil
        case .global(let number): name(graph.globals[number])
        case .object, .persistent: graph.number(of: value).flatMap { serials[$0] }
        case .byteArray, .list, .dictionary, .set: nil
        }
    }

    private mutating func reference(_ value: PickleValue) -> String {
        if let text = scalar(value) { return text }
        let number = graph.number(of: value) ?? -1
        if numbers[number] == nil {
            numbers[number] = queue.count
            queue.append(value)
        }
        return "v\(numbers[number] ?? -1)"
    }

    /// Returns the text of a hashable value without container numbers, as the sort key for the members of sets.
    private func structure(_ value: PickleValue) -> String {
        if let text = scalar(value) { return text }
        let parts = items(of: value).map(structure)
        let isTuple = graph.elements(value) != nil
        return "\(isTuple ? "tuple" : "frozenset")(\((isTuple ? parts : parts.sorted()).joined(separator: " ")))"
    }

    /// Returns the items of a value; if the items are pairs, keys and values alternate.
    private func items(of value: PickleValue) -> [PickleValue] {
        var items: [PickleValue] = []
        var cursor = graph.cursor(at: value)
        while let (key, value) = graph.next(&cursor) {
            if let key { items.append(key) }
            items.append(value)
        }
        return items
    }

    private mutating func parts(of value: PickleValue) -> String {
        var items = items(of: value)
        let kind: String
        switch graph.content(value) {
        case .byteArray(let range): return "bytearray \(quoted(range))"
        case .tuple: kind = "tuple"
        case .list: kind = "list"
        case .dictionary: kind = "dict"
        case .set: kind = "set"
        case .frozenSet: kind = "frozenset"
        default: return "?"
        }
        if kind.hasSuffix("set") {
            items = items.map { (structure($0), $0) }.sorted { $0.0 < $1.0 }.map(\.1)
        }
        return "\(kind)(\(items.map { reference($0) }.joined(separator: " ")))"
    }

    /// Returns the text of a value, with the contents of a list, dictionary or set instead of a reference to it.
    private mutating func copy(_ value: PickleValue) -> String {
        isCopied(value) ? parts(of: value) : reference(value)
    }

    private func isCopied(_ value: PickleValue) -> Bool {
        switch graph.content(value) {
        case .list, .dictionary, .set: true
        default: false
        }
    }

    /// Returns whether the text of a call includes the contents of its arguments, because the callable copies them.
    private func copiesArguments(_ callable: PickleValue) -> Bool {
        guard case .global(let number) = graph.content(callable) else { return false }
        let name = graph.name(ofGlobal: number)
        return name == "collections.OrderedDict" || name.hasPrefix("torch.")
    }

    private func isDictionary(_ value: PickleValue) -> Bool {
        if case .dictionary = graph.content(value) { true } else { false }
    }

    private mutating func copies(_ tuple: some Collection<PickleValue>) -> String {
        "tuple(\(tuple.map { copy($0) }.joined(separator: " ")))"
    }

    private mutating func object(_ value: PickleValue) -> String {
        guard case .object(let object) = graph.content(value) else { return "?" }
        var arguments = object.arguments
        var keywords: PickleValue?
        if object.making == .newWithKeywords, let parts = graph.elements(arguments), parts.count == 2 {
            (arguments, keywords) = (parts[parts.startIndex], parts[parts.startIndex + 1])
        }
        var text = object.making == .call ? "call " : "new "
        text += reference(object.callable) + " "
        let elements = graph.elements(arguments) ?? []
        text +=
            copiesArguments(object.callable)
            ? copies(elements) : "tuple(\(elements.map { reference($0) }.joined(separator: " ")))"
        if let keywords, !items(of: keywords).isEmpty { text += " " + parts(of: keywords) }
        if object.state != .absent {
            if let parts = graph.elements(object.state), parts.count == 2, parts.contains(where: isDictionary),
                parts.allSatisfy({ $0 == .none || isDictionary($0) })
            {
                text += " state " + copies(parts)
            } else {
                text += " state " + (isDictionary(object.state) ? copy(object.state) : reference(object.state))
            }
        }
        let items = items(of: value)
        if !items.isEmpty {
            text += object.holdsPairs ? " pairs(" : " elements("
            text += items.map { reference($0) }.joined(separator: " ") + ")"
        }
        return text
    }
}
