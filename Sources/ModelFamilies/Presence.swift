import Bytes
import CheckpointFiles

/// Whether the models of a family have certain tensors, such as biases.
public enum Presence: Sendable, Hashable {
    case never
    case always
    /// The value of `key` in config.json decides, or `assumed` if the key is missing.
    case configured(key: String, assumed: Bool = false)
    /// Only some models have the tensors; the checkpoint shows whether this model does.
    case sometimes

    /// Returns this presence, with `configured` resolved from a configuration.
    func resolved(by configuration: ModelConfiguration?) throws(CheckpointError) -> Presence {
        guard case .configured(let key, let assumed) = self else { return self }
        guard let configuration else { return assumed ? .sometimes : .never }
        return try configuration.flag(key) ?? assumed ? .always : .never
    }
}

/// The required and optional roles of the tensors in a block, a layer or a model.
package struct RoleSet: Sendable {
    package private(set) var required: Set<TensorRole>
    package private(set) var optional: Set<TensorRole> = []
    /// Sets of optional roles that come together, such as the biases of queries, keys and values.
    ///
    /// If a model has a tensor of any role in a set, all layers with these roles have tensors of all roles in the set.
    private(set) var groups: [Set<TensorRole>] = []

    init(_ required: Set<TensorRole>) { self.required = required }

    mutating func add(_ roles: Set<TensorRole>, _ presence: Presence) {
        switch presence {
        case .never, .configured: break
        case .always: required.formUnion(roles)
        case .sometimes:
            optional.formUnion(roles)
            groups.append(roles)
        }
    }

    /// Adds optional roles whose tensors can be in any of the layers.
    mutating func allow(_ roles: Set<TensorRole>) { optional.formUnion(roles) }

    mutating func add(_ other: RoleSet) {
        required.formUnion(other.required)
        optional.formUnion(other.optional)
        groups += other.groups
    }

    mutating func makeOptional(_ roles: Set<TensorRole>) {
        optional.formUnion(roles.intersection(required))
        required.subtract(roles)
    }

    package var all: Set<TensorRole> { required.union(optional) }
}
