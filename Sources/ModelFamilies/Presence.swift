import CheckpointFiles

/// Whether a model of a family has a part.
public enum Presence: Sendable, Hashable {
    case never
    case always
    /// Where config.json's `key` says so, or does not say and it is assumed.
    case configured(key: String, assumed: Bool = false)
    /// In some models; the tensors tell.
    case sometimes

    /// What a configuration leaves of the choice.
    func resolved(by configuration: ModelConfiguration?) throws(CheckpointError) -> Presence {
        guard case .configured(let key, let assumed) = self else { return self }
        guard let configuration else { return assumed ? .sometimes : .never }
        return try configuration.flag(key) ?? assumed ? .always : .never
    }
}

/// Tensors that belong together.
package struct RoleSet: Sendable {
    package private(set) var required: Set<TensorRole>
    package private(set) var optional: Set<TensorRole> = []

    init(_ required: Set<TensorRole>) { self.required = required }

    mutating func add(_ roles: Set<TensorRole>, _ presence: Presence) {
        switch presence {
        case .never, .configured: break
        case .always: required.formUnion(roles)
        case .sometimes: optional.formUnion(roles)
        }
    }

    mutating func add(_ other: RoleSet) {
        required.formUnion(other.required)
        optional.formUnion(other.optional)
    }

    mutating func makeOptional(_ roles: Set<TensorRole>) {
        optional.formUnion(roles.intersection(required))
        required.subtract(roles)
    }

    package var all: Set<TensorRole> { required.union(optional) }
}
