import Bytes
import CheckpointFiles

/// A tree of a checkpoint's tensor names, in which subtrees that differ only in a number are folded into one.
///
/// A number between dots is replaced with `#`, and the numbers that occur there are listed. An entry that occurs only
/// at some of its parent's numbers has a note such as `only 0` or `not 0`. A name with several dtypes or shapes has one
/// line for each of them.
struct TensorTree {
    /// The maximum number of parts in a name.
    ///
    /// Further dots are part of the last part.
    private static let maximumDepth = 16
    /// The maximum number of leaves, beyond which the tree would be too large to read.
    private static let maximumLeaves = 20_000
    private static let maximumSiblings = 60

    private struct LeafKey: Hashable {
        var dtype: DType
        var shape: [Int]

        var text: String { dtype.rawValue + shapeText(shape) }
    }

    /// A part of a name, which is either a number or a word.
    ///
    /// All numbers compare equal. Words are stored as bytes, because canonically equivalent strings compare equal.
    private enum Part: Hashable {
        case number
        case word([UInt8])

        /// The text that is printed for the part.
        ///
        /// A word that equals one of the tree's own labels is quoted.
        var label: String {
            switch self {
            case .number: return "#"
            case .word(let bytes):
                let text = String(decoding: bytes, as: UTF8.self)
                return ["#", TensorTree.itself].contains(text) ? "\"\(text)\"" : text
            }
        }

        var sortKey: [UInt8] {
            switch self {
            case .number: [UInt8(ascii: "#")]
            case .word(let bytes): bytes
            }
        }
    }

    /// The label of a tensor whose name is also a prefix of other names.
    private static let itself = "(itself)"

    private final class Node {
        var children: [Part: Node] = [:]
        var leaves: [LeafKey: Leaf] = [:]
        /// The number of `#` on the path to this node.
        let level: Int
        /// The numbers that occur at each `#` on the path, in the names below this node.
        ///
        /// ``collectNumbers()`` sets this property.
        var numbers: [IndexSet] = []

        init(level: Int) { self.level = level }

        func collectNumbers() {
            numbers = Array(repeating: IndexSet(), count: level)
            for key in leaves.keys {
                for place in 0..<level {
                    leaves[key]?.numbers[place].sort()
                    if let own = leaves[key]?.numbers[place] { numbers[place].formUnion(own) }
                }
            }
            for child in children.values {
                child.collectNumbers()
                for place in 0..<level { numbers[place].formUnion(child.numbers[place]) }
            }
        }
    }

    private struct Leaf {
        var count = 0
        var byteCount = 0
        /// The numbers that occur at each `#` in the name.
        var numbers: [IndexSet]
    }

    private struct Line {
        var label: String
        var note: String
        var dtype = ""
        var shape = ""
        var byteCount: Int
    }

    private let root = Node(level: 0)
    private var leafCount = 0
    /// Whether there are more leaves than the maximum.
    private(set) var isTooLarge = false

    init(_ tensors: some Sequence<TensorInfo>) {
        for tensor in tensors {
            insert(tensor)
            guard leafCount <= Self.maximumLeaves else {
                isTooLarge = true
                return
            }
        }
        root.collectNumbers()
    }

    func write(to output: inout ByteOutput) {
        var lines: [Line] = []
        _ = append(root, label: "", isNumber: false, around: [], prefix: "", connector: "", to: &lines)
        var table = TextTable([("", .left), ("", .left), ("", .left), ("", .left), ("", .right)])
        for line in lines.dropFirst() {
            for cell in [line.label, line.note, line.dtype, line.shape, byteText(line.byteCount)] { table.append(cell) }
        }
        table.write(to: &output)
    }

    // MARK: Building

    private mutating func insert(_ tensor: TensorInfo) {
        var node = root
        var numbers: [Int32] = []
        let parts = tensor.name.utf8.split(
            separator: UInt8(ascii: "."), maxSplits: Self.maximumDepth - 1, omittingEmptySubsequences: false)
        for part in parts {
            var step = Part.word(Array(part))
            if (1...9).contains(part.count), part.allSatisfy({ $0 &- UInt8(ascii: "0") < 10 }),
                let number = Int32(String(decoding: part, as: UTF8.self))
            {
                numbers.append(number)
                step = .number
            }
            let child = node.children[step] ?? Node(level: numbers.count)
            node.children[step] = child
            node = child
        }
        let key = LeafKey(dtype: tensor.dtype, shape: tensor.shape)
        if node.leaves[key] == nil { leafCount += 1 }
        var leaf =
            node.leaves.removeValue(forKey: key) ?? Leaf(numbers: Array(repeating: IndexSet(), count: numbers.count))
        leaf.count += 1
        leaf.byteCount = leaf.byteCount.adding(clamped: tensor.byteCount)
        for (level, number) in numbers.enumerated() { leaf.numbers[level].insert(number) }
        node.leaves[key] = leaf
    }

    // MARK: Printing

    /// Appends the lines of a node and its descendants, and returns the number of bytes in their tensors.
    ///
    /// `around` contains the numbers at which the node's parent occurs.
    private func append(
        _ start: Node, label startLabel: String, isNumber: Bool, around: [IndexSet], prefix: String, connector: String,
        to lines: inout [Line]
    ) -> Int {
        // Parts that have no branch between them share a line. A line ends at each `#`, so that it can list the numbers
        // there.
        var node = start
        var label = startLabel
        var isNumber = isNumber
        while node !== root, node.leaves.isEmpty, node.children.count == 1, let (part, child) = node.children.first,
            !isNumber
        {
            label += "." + part.label
            isNumber = part == .number
            node = child
        }
        let own = node.numbers
        if node.children.isEmpty {
            // If a name has several dtypes or shapes, the most common one comes first.
            let leaves = node.leaves.sorted { ($1.value.count, $0.key.text) < ($0.value.count, $1.key.text) }
            for (index, (key, leaf)) in leaves.enumerated() {
                let connector = index < leaves.count - 1 && connector == "└─ " ? "├─ " : connector
                lines.append(
                    Line(
                        label: prefix + connector + label.printable(limit: 80),
                        note: note(for: leaf.numbers, count: leaf.count, isNumber: isNumber, in: around),
                        dtype: key.dtype.rawValue, shape: shapeText(key.shape), byteCount: leaf.byteCount))
            }
            return leaves.reduce(0) { $0.adding(clamped: $1.value.byteCount) }
        }
        let place = lines.count
        lines.append(
            Line(
                label: prefix + connector + label.printable(limit: 80),
                note: note(for: own, count: nil, isNumber: isNumber, in: around), byteCount: 0))
        var byteCount = 0
        let below = prefix + (connector.isEmpty ? "" : connector == "└─ " ? "   " : "│  ")
        // A tensor whose name is also a prefix of other names becomes a child with the label `(itself)`.
        var children = node.children.map { (key: $0.key.sortKey, label: $0.key.label, part: $0.key, node: $0.value) }
        if !node.leaves.isEmpty {
            let itself = Node(level: node.level)
            itself.leaves = node.leaves
            itself.collectNumbers()
            children.append((Array(Self.itself.utf8), Self.itself, .word([]), itself))
        }
        children.sort { $0.key.lexicographicallyPrecedes($1.key) }
        for (index, child) in children.enumerated() {
            let isLast = index == children.count - 1
            var scratch: [Line] = []
            let childBytes = append(
                child.node, label: child.label, isNumber: child.part == .number, around: own, prefix: below,
                connector: isLast ? "└─ " : "├─ ", to: &scratch)
            byteCount = byteCount.adding(clamped: childBytes)
            if children.count <= Self.maximumSiblings || index < Self.maximumSiblings - 1 {
                lines += scratch
            } else if isLast {
                let hidden = children.count - Self.maximumSiblings + 1
                lines.append(
                    Line(label: below + "└─ … \(countText(hidden)) more", note: "", byteCount: byteCount))
            }
        }
        lines[place].byteCount = byteCount
        return byteCount
    }

    /// Returns a note that states how often an entry occurs and at which numbers.
    ///
    /// The note omits anything that the parent's line already states.
    private func note(for own: [IndexSet], count: Int?, isNumber: Bool, in surroundings: [IndexSet]) -> String {
        var notes: [String] = []
        if isNumber, own.count > surroundings.count {
            let numbers = own[surroundings.count]
            notes.append("× \(numbers.count)  \(numbers.text)")
        }
        for (own, around) in zip(own, surroundings) where own != around {
            let missing = around.subtracting(own)
            notes.append(missing.count < own.count ? "not \(missing.text)" : "only \(own.text)")
        }
        let product = own.reduce(1) { $0.multiplied(clamped: max(1, $1.count)) }
        if let count, count < product { notes.append("\(count) of \(product)") }
        return notes.joined(separator: "; ")
    }
}
