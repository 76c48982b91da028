import CheckpointFiles
import CheckpointJSON

/// How a kind of file names tensors, and how it stores them: by role, and by nothing else.
public struct TensorLayout: Sendable {
    /// How a tensor is stored in relation to its role's shape.
    public enum Transform: Sendable {
        case none
        /// A matrix with its dimensions swapped.
        case transposed
        /// A vector as [1, 1, n].
        case leadingOnes
    }

    /// As `--layout` takes it.
    public let name: String
    /// The name of each role's tensor, `#` for the number of the layer.
    public let names: [TensorRole: String]
    /// Roles whose matrices are the rows of one tensor, in their order.
    public let fused: [[TensorRole]]
    /// The roles that are not stored as their shape says.
    public let transforms: [TensorRole: Transform]
    /// Names that stand in such files beside the model, `#` for a number.
    public let strays: [String]
    /// Whether files hold what was trained alone, so that anything may be missing.
    public let omitsFrozen: Bool
    /// Whether the head stands in it even where it is the embedding.
    public let separatesHead: Bool
    /// Whether the first time mixing may have residuals, which nothing uses.
    public let holdsUnusedResiduals: Bool

    /// All layouts that there are.
    public static let all: [TensorLayout] = [.huggingFace, .official, .fla, .rwkvInfer, .rwkvInside]

    private let roles: [NamePattern: [TensorRole]]

    /// A layout in which every role has the name given.
    public init(
        _ name: String, names: [TensorRole: String], fused: [[TensorRole]] = [],
        transforms: [TensorRole: Transform] = [:], strays: [String] = [], omitsFrozen: Bool = false,
        separatesHead: Bool = false, holdsUnusedResiduals: Bool = true
    ) {
        self.name = name
        self.names = names
        self.fused = fused
        self.transforms = transforms
        self.strays = strays
        self.omitsFrozen = omitsFrozen
        self.separatesHead = separatesHead
        self.holdsUnusedResiduals = holdsUnusedResiduals
        roles = Dictionary(
            names.map { (NamePattern($0.value), [$0.key]) }, uniquingKeysWith: +)
    }

    /// This layout with other names for some roles, and with tensors that hold several.
    func naming(_ other: [TensorRole: String], fused: [[TensorRole]] = []) -> TensorLayout {
        TensorLayout(
            name, names: names.merging(other) { $1 }, fused: fused, transforms: transforms, strays: strays,
            omitsFrozen: omitsFrozen, separatesHead: separatesHead, holdsUnusedResiduals: holdsUnusedResiduals)
    }

    /// This layout of a student with what its teacher's layout calls all but attention; nil where it has no names for that.
    func withBody(of teacher: TensorLayout) -> TensorLayout? {
        let mixers = Set(Attention.allRoles + TimeMix7.allRoles)
        let body = teacher.names.filter { !mixers.contains($0.key) && $0.value != Self.huggingFace.names[$0.key] }
        guard !body.isEmpty, let root = bodyRoot else { return body.isEmpty ? self : nil }
        return naming(
            body.mapValues { root + $0 }, fused: teacher.fused.filter { $0.allSatisfy { !mixers.contains($0) } })
    }

    /// What it puts before the names that transformers gives a body; nil where it has names of its own.
    private var bodyRoot: String? {
        guard let name = names[.embedding], let end = Self.huggingFace.names[.embedding] else { return nil }
        return name.dropping(suffix: end).map { String($0) }
    }

    /// The roles that are rows of the same tensor as a role, itself among them, in their order; nil where it has one of its own.
    package func fusion(of role: TensorRole) -> [TensorRole]? { fused.first { $0.contains(role) } }

    /// The rows of its tensor that a role has; nil for all of them, or where a size is not known.
    public func rows(of role: TensorRole, _ dimensions: Dimensions) -> Range<Int>? {
        guard let fusion = fusion(of: role), let place = fusion.firstIndex(of: role),
            let heights = dimensions.shape(fusion.map { $0.shape[0] })
        else { return nil }
        let start = heights[..<place].reduce(0) { $0.adding(clamped: $1) }
        return start..<start.adding(clamped: heights[place])
    }

    /// What a tensor of this name can be; which, the kind of its layer says.
    public func places(ofTensor name: String) -> [TensorPlace] {
        let (pattern, number) = NamePattern.split(name)
        return roles(of: pattern).map { TensorPlace(role: $0, layer: $0.isOfLayer ? number : nil) }
    }

    /// Whether a tensor of this name stands in such files beside the model.
    public func isStray(_ name: String) -> Bool {
        let pattern = NamePattern.split(name).pattern
        return strays.contains { NamePattern($0) == pattern }
    }

    /// The roles that a pattern can stand for; which, the kind of layer says.
    func roles(of pattern: NamePattern) -> [TensorRole] { roles[pattern] ?? [] }

    /// The name of a role's tensor in a layer.
    public func name(of role: TensorRole, layer: Int?) -> String? {
        guard let name = names[role], let layer, let mark = name.utf8.firstIndex(of: UInt8(ascii: "#")) else {
            return names[role]
        }
        return name[..<mark] + "\(layer)" + name[name.utf8.index(after: mark)...]
    }

    /// The sizes that a role's tensor is stored with.
    public func stored(_ shape: [Int], of role: TensorRole) -> [Int] {
        switch transforms[role] ?? .none {
        case .none: shape
        case .transposed: shape.reversed()
        case .leadingOnes: [1, 1] + shape
        }
    }

    /// Whether a role's tensor is stored with rows for columns.
    public func isTransposed(_ role: TensorRole) -> Bool {
        if case .transposed = transforms[role] ?? .none { true } else { false }
    }

    /// The sizes that a role's tensor has, stored with these; nil where it has another number of them.
    public func sizes(ofStored shape: [Int], _ role: TensorRole) -> [Int]? {
        // Vectors stand as [1, 1, n] in some files, whatever the layout.
        if role.shape.count == 1 { return [shape.reduce(1) { $0.multiplied(clamped: $1) }] }
        guard shape.count == role.shape.count else { return nil }
        return isTransposed(role) ? shape.reversed() : shape
    }
}

/// A tensor's name without the number of the layer.
struct NamePattern: Hashable, Sendable {
    let bytes: ByteString
    /// `#` where the number stood.
    var text: String { bytes.text }

    /// The pattern of a name; where it has `#` already, itself.
    init(_ name: String) {
        self = Self.split(name).pattern
    }

    private init(text: String) { bytes = ByteString(text) }

    /// Takes the first part of `name` that is a number out of it.
    static func split(_ name: String) -> (pattern: NamePattern, number: Int?) {
        var start = name.utf8.startIndex
        while start < name.utf8.endIndex {
            let end = name.utf8[start...].firstIndex(of: UInt8(ascii: ".")) ?? name.utf8.endIndex
            let part = name.utf8[start..<end]
            if !part.isEmpty, part.count <= 6, part.count == 1 || part.first != UInt8(ascii: "0"),
                part.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 })
            {
                let number = part.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
                return (NamePattern(text: name[..<start] + "#" + name[end...]), number)
            }
            guard end < name.utf8.endIndex, !part.elementsEqual("#".utf8) else { break }
            start = name.utf8.index(after: end)
        }
        return (NamePattern(text: name), nil)
    }
}

extension Collection<NamePattern> {
    /// The first in order of those that end in one of these.
    func first(endingIn ends: [String]) -> String? {
        filter { pattern in ends.contains { pattern.text.dropping(suffix: $0) != nil } }.map(\.bytes).min()?.text
    }
}
