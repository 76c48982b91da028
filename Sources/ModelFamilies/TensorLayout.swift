import Bytes
import CheckpointFiles

/// A convention for how a checkpoint names and stores the tensor of each role.
public struct TensorLayout: Sendable {
    /// The difference between the stored shape of a tensor and the shape of its role.
    public enum Transform: Sendable {
        case none
        /// A matrix that is stored with its dimensions swapped.
        case transposed
        /// The second matrices of data-dependent token shifts, [5, D, C], which are stored side by side as [C, 5 D].
        case sideBySide
        /// A vector that is stored with shape [1, 1, n].
        case leadingOnes
        /// Vectors that are fused into the rows of a matrix.
        case rows
    }

    /// The name of the layout, as passed to `--layout`.
    public let name: String
    /// The tensor name for each role, with `#` in place of the layer index.
    public let names: [TensorRole: String]
    /// Groups of roles whose matrices are fused into one tensor, in row order.
    public let fused: [[TensorRole]]
    /// The transforms of roles whose tensors are stored with a different shape.
    public let transforms: [TensorRole: Transform]
    /// Names of tensors that files in this layout can contain but that are not part of the model, with `#` in place of
    /// a number.
    public let ignoredNames: [String]
    /// Whether files in this layout contain only trained tensors, so that all other tensors can be missing.
    public let holdsTrainedOnly: Bool
    /// Whether the head is stored even if it is tied to the embedding.
    public let alwaysStoresHead: Bool
    /// Whether the first time-mixing layer can have value and key residuals, which are not used.
    public let mayHoldUnusedResiduals: Bool

    /// All layouts, with the tensor names that most families share.
    public static let all: [TensorLayout] = [.huggingFace, .official, .fla, .rwkvInfer, .rwkvInside]

    private let roles: [NamePattern: [TensorRole]]

    /// Creates a layout from the name of the tensor for each role.
    public init(
        _ name: String, names: [TensorRole: String], fused: [[TensorRole]] = [],
        transforms: [TensorRole: Transform] = [:], ignoredNames: [String] = [], holdsTrainedOnly: Bool = false,
        alwaysStoresHead: Bool = false, mayHoldUnusedResiduals: Bool = true
    ) {
        self.name = name
        self.names = names
        self.fused = fused
        self.transforms = transforms
        self.ignoredNames = ignoredNames
        self.holdsTrainedOnly = holdsTrainedOnly
        self.alwaysStoresHead = alwaysStoresHead
        self.mayHoldUnusedResiduals = mayHoldUnusedResiduals
        roles = Dictionary(
            names.map { (NamePattern($0.value), [$0.key]) }, uniquingKeysWith: +)
    }

    /// Returns this layout with different names and transforms for some roles, and with the given groups of roles fused.
    func naming(
        _ other: [TensorRole: String], fused: [[TensorRole]] = [], transforms others: [TensorRole: Transform] = [:]
    ) -> TensorLayout {
        TensorLayout(
            name, names: names.merging(other) { $1 }, fused: fused, transforms: transforms.merging(others) { $1 },
            ignoredNames: ignoredNames,
            holdsTrainedOnly: holdsTrainedOnly, alwaysStoresHead: alwaysStoresHead,
            mayHoldUnusedResiduals: mayHoldUnusedResiduals)
    }

    /// Returns this student layout with a teacher's names for all tensors except those of token mixers.
    ///
    /// Returns nil if the layout cannot express the teacher's names.
    func withBody(of teacher: TensorLayout) -> TensorLayout? {
        let mixers = Self.mixerRoles
        let body = teacher.bodyNames.filter { $0.value != Self.huggingFace.names[$0.key] }
        guard !body.isEmpty, let root = bodyRoot else { return body.isEmpty ? self : nil }
        return naming(
            body.mapValues { root + $0 }, fused: teacher.fused.filter { $0.allSatisfy { !mixers.contains($0) } })
    }

    private static let mixerRoles = Set(Attention.allRoles + TimeMixSpec.allRoles)

    /// The names of all tensors except those of token mixers.
    var bodyNames: [TensorRole: String] { names.filter { !Self.mixerRoles.contains($0.key) } }

    /// The prefix that this layout adds to transformers' names of body tensors, or nil if it names them differently.
    private var bodyRoot: String? {
        guard let name = names[.embedding], let end = Self.huggingFace.names[.embedding] else { return nil }
        return name.dropping(suffix: end).map { String($0) }
    }

    /// Returns the roles that are fused into one tensor with a role, in row order, or nil if the role is not fused.
    ///
    /// The result includes the role itself.
    package func fusion(of role: TensorRole) -> [TensorRole]? { fused.first { $0.contains(role) } }

    /// Returns the range of rows that a role occupies in its tensor.
    ///
    /// Returns nil if the role occupies all rows, or if a size is not known.
    public func rows(of role: TensorRole, _ dimensions: ModelDimensions) -> Range<Int>? {
        guard let fusion = fusion(of: role), let place = fusion.firstIndex(of: role),
            let heights = dimensions.shape(fusion.map { $0.shape[0] })
        else { return nil }
        let start = heights[..<place].reduce(0) { $0.adding(clamped: $1) }
        return start..<start.adding(clamped: heights[place])
    }

    /// Returns the places that a tensor with this name can have.
    ///
    /// The kind of the tensor's layer determines which of them applies.
    public func places(ofTensor name: String) -> [TensorPlace] {
        let (pattern, number) = NamePattern.split(name)
        return roles(of: pattern).map { TensorPlace(role: $0, layer: $0.isPerLayer ? number : nil) }
    }

    /// Returns whether a tensor with this name can occur in this layout without being part of the model.
    public func isIgnored(_ name: String) -> Bool {
        let pattern = NamePattern.split(name).pattern
        return ignoredNames.contains { NamePattern($0) == pattern }
    }

    /// Returns the role that identifies a layer of a kind, among the kinds that one architecture can have.
    ///
    /// If the receptance has the name of the query, the decay identifies time mixing instead.
    func signature(of kind: LayerKind) -> TensorRole {
        if kind.hasCache { return .queryWeight }
        return names[.receptanceWeight] == names[.queryWeight] ? .decayBase : .receptanceWeight
    }

    /// Returns the roles that a tensor with this name pattern can have.
    ///
    /// The kind of the tensor's layer determines which of them applies.
    func roles(of pattern: NamePattern) -> [TensorRole] { roles[pattern] ?? [] }

    /// Returns the name of a role's tensor in a layer, or nil if the layout has no name for the role.
    public func name(of role: TensorRole, layer: Int?) -> String? {
        guard let name = names[role], let layer, let mark = name.utf8.firstIndex(of: UInt8(ascii: "#")) else {
            return names[role]
        }
        return name[..<mark] + "\(layer)" + name[name.utf8.index(after: mark)...]
    }

    /// Returns the shape in which a role's tensor is stored, given the shape of the role.
    ///
    /// If the role is fused with others, `shape` is that of all of them together.
    public func stored(_ shape: [Int], of role: TensorRole) -> [Int] {
        switch transforms[role] ?? .none {
        case .none: shape
        case .transposed: shape.reversed()
        case .sideBySide: [shape[2], shape[0].multiplied(clamped: shape[1])]
        case .leadingOnes: [1, 1] + shape
        case .rows:
            if let count = fusion(of: role)?.count { [count, shape[0] / count] } else { shape }
        }
    }

    /// Returns whether a role's tensor is stored with rows and columns swapped.
    public func isTransposed(_ role: TensorRole) -> Bool {
        switch transforms[role] ?? .none {
        case .transposed, .sideBySide: true
        case .none, .leadingOnes, .rows: false
        }
    }

    /// Returns the shape of a role, given the shape in which its tensor is stored.
    ///
    /// Returns nil if the stored shape has the wrong number of dimensions.
    public func sizes(ofStored shape: [Int], _ role: TensorRole) -> [Int]? {
        if case .rows? = transforms[role], shape.count != 2 || shape[0] != fusion(of: role)?.count { return nil }
        // In every layout, some files store vectors with shape [1, 1, n].
        if role.shape.count == 1 { return [shape.reduce(1) { $0.multiplied(clamped: $1) }] }
        if case .sideBySide? = transforms[role] {
            let count = TimeMix6.shiftCount
            guard shape.count == 2, shape[1] % count == 0 else { return nil }
            return [count, shape[1] / count, shape[0]]
        }
        guard shape.count == role.shape.count else { return nil }
        return isTransposed(role) ? shape.reversed() : shape
    }
}

/// A tensor's name in which the first number, usually the layer index, is replaced with `#`.
struct NamePattern: Hashable, Sendable {
    let bytes: ByteString
    /// The text of the pattern, with `#` in place of the number.
    var text: String { bytes.text }

    /// Creates the pattern of a name.
    ///
    /// A name that already contains `#` in place of a number is its own pattern.
    init(_ name: String) {
        self = Self.split(name).pattern
    }

    private init(text: String) { bytes = ByteString(text) }

    /// Returns the pattern of a name and the number in its first numeric component, or nil if it has no such component.
    static func split(_ name: String) -> (pattern: NamePattern, number: Int?) {
        guard let digits = layerDigits(name) else { return (NamePattern(text: name), nil) }
        let number = name.utf8[digits].reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
        return (NamePattern(text: name[..<digits.lowerBound] + "#" + name[digits.upperBound...]), number)
    }

    /// Returns the range of the first component that is a number of at most six digits, or nil if there is none or if
    /// a component before it is `#`.
    private static func layerDigits(_ name: String) -> Range<String.Index>? {
        let utf8 = name.utf8
        var start = utf8.startIndex
        while start < utf8.endIndex {
            let first = utf8[start]
            var (end, count, isNumber) = (start, 0, true)
            while end < utf8.endIndex, utf8[end] != UInt8(ascii: ".") {
                isNumber = isNumber && UInt8(ascii: "0")...UInt8(ascii: "9") ~= utf8[end]
                count += 1
                utf8.formIndex(after: &end)
            }
            if isNumber, 1...6 ~= count, count == 1 || first != UInt8(ascii: "0") { return start..<end }
            guard end < utf8.endIndex, count != 1 || first != UInt8(ascii: "#") else { return nil }
            start = utf8.index(after: end)
        }
        return nil
    }
}

extension Collection<NamePattern> {
    /// Returns the first pattern, in byte order, that ends in one of the given suffixes, or nil if there is none.
    func first(endingIn ends: [String]) -> String? {
        filter { pattern in ends.contains { pattern.text.dropping(suffix: $0) != nil } }.map(\.bytes).min()?.text
    }
}
