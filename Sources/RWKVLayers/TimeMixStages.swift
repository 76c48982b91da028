import ModelFamilies
public import RWKVNumerics

// The stages of time mixing that differ between models. Each enum case is a variant of a stage, with its weights.

/// The token shift, which computes the inputs of the projections.
public enum TokenShift<Element: Real>: Sendable {
    /// No token shift: every projection receives the mixer's input unchanged.
    case none
    /// Linear interpolation with the input at the previous token, x_prev: projection j receives x + (x_prev - x) x_j.
    ///
    /// The coefficients x_r, x_w, x_k, x_v, x_a and x_g are [C] each; x_g is nil if there is no gate.
    case lerp(
        receptance: [Element], decay: [Element], key: [Element], value: [Element], iclr: [Element], gate: [Element]?)

    func callAsFunction(
        _ x: Matrix<Element>, _ state: inout LayerState<Element>, _ kernels: Kernels<Element>
    ) -> ProjectionInputs<Matrix<Element>> {
        switch self {
        case .none: return ProjectionInputs(repeating: x)
        case .lerp(let receptance, let decay, let key, let value, let iclr, let gate):
            let before = state.mixerShift
            state.mixerShift = x.row(x.rows - 1)
            let shifted = kernels.shifted(
                x, previous: before, shares: [receptance, decay, key, value, iclr] + (gate.map { [$0] } ?? []),
                sequences: state.sequences)
            return ProjectionInputs(
                receptance: shifted[0], decay: shifted[1], key: shifted[2], value: shifted[3], iclr: shifted[4],
                gate: gate == nil ? x : shifted[5])
        }
    }

    /// Returns the accumulators for the gradients of the projections' inputs, given that for the gradient of `x`.
    ///
    /// They are nil if those gradients are not needed.
    func accumulators(
        for x: Matrix<Element>, _ dx: Matrix<Element>?, _ gradients: WeightGradients<Element>
    ) -> ProjectionInputs<Matrix<Element>?> {
        guard case .lerp = self, dx != nil || Self.roles.contains(where: { gradients[$0] != nil }) else {
            return ProjectionInputs(repeating: dx)
        }
        func zeros() -> Matrix<Element> { Matrix(zeros: x.rows, columns: x.columns) }
        return ProjectionInputs(
            receptance: zeros(), decay: zeros(), key: zeros(), value: zeros(), iclr: zeros(), gate: zeros())
    }

    /// Adds the gradient of `x` to `dx`, and the gradients of the coefficients to `gradients`.
    func backward(
        _ inputs: ProjectionInputs<Matrix<Element>?>, _ x: Matrix<Element>, sequences: Int,
        _ gradients: WeightGradients<Element>, addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        guard case .lerp(let receptance, let decay, let key, let value, let iclr, let gate) = self else { return }
        let parts: [([Element]?, Matrix<Element>?)] = [
            (receptance, inputs.receptance), (decay, inputs.decay), (key, inputs.key), (value, inputs.value),
            (iclr, inputs.iclr), (gate, inputs.gate),
        ]
        for (role, part) in zip(Self.roles, parts) {
            guard let share = part.0, let dy = part.1 else { continue }
            let dshare = kernels.shiftBackward(
                dy, x, share: Matrix(share, columns: x.columns), sequences: sequences, addingTo: dx)
            if let gradient = gradients[role] { kernels.addGradient(to: gradient, ofRows: dshare) }
        }
    }

    private static var roles: [TensorRole] {
        [.shiftReceptance, .shiftDecay, .shiftKey, .shiftValue, .shiftICLR, .shiftGate]
    }
}

/// The inputs of the projections, [tokens, C] each, or their gradients.
struct ProjectionInputs<Value> {
    let receptance, decay, key, value, iclr, gate: Value

    init(receptance: Value, decay: Value, key: Value, value: Value, iclr: Value, gate: Value) {
        self.receptance = receptance
        self.decay = decay
        self.key = key
        self.value = value
        self.iclr = iclr
        self.gate = gate
    }

    /// The input of the projection that a token shift's coefficients belong to; nil for other roles.
    subscript(role: TensorRole) -> Value? {
        switch role {
        case .shiftReceptance: receptance
        case .shiftDecay: decay
        case .shiftKey: key
        case .shiftValue: value
        case .shiftICLR: iclr
        case .shiftGate: gate
        default: nil
        }
    }

    /// Creates inputs that are all the same.
    init(repeating value: Value) {
        self.init(receptance: value, decay: value, key: value, value: value, iclr: value, gate: value)
    }
}

/// A residual that mixes in the first layer's values or keys: y + (first - y) sigmoid(base + x down up).
public struct Residual<Element: Real>: Sendable {
    /// The low-rank projection whose sigmoid is the share of the first layer's values or keys.
    public let share: LowRank<Element>

    /// Creates a residual whose share is computed by the given projection.
    public init(share: LowRank<Element>) { self.share = share }

    /// The intermediate values of a forward pass that the backward pass needs.
    struct Trace {
        let y, first, inner, share: Matrix<Element>
    }

    func callAsFunction(
        _ y: Matrix<Element>, first: Matrix<Element>, _ x: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> (Matrix<Element>, Trace) {
        let (share, inner) = share(x, kernels)
        return (
            kernels.mixed(y, first: first, share: share, base: self.share.base),
            Trace(y: y, first: first, inner: inner, share: share)
        )
    }

    /// Replaces `dy` with the gradient of `y`, and adds the gradients of `x` and of the first layer's values or keys to
    /// `dx` and `dfirst`.
    func backward(
        inPlace dy: Matrix<Element>, _ x: Matrix<Element>, _ trace: Trace, dfirst: Matrix<Element>?,
        _ roles: (base: TensorRole?, down: TensorRole, up: TensorRole), _ gradients: WeightGradients<Element>,
        addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        guard let base = share.base else { preconditionFailure("no gradients for a share without a base") }
        kernels.mixedBackward(
            inPlace: dy, trace.y, first: trace.first, share: trace.share, base: base, dfirst: dfirst)
        share.backward(trace.share, x, inner: trace.inner, roles, gradients, addingTo: dx, kernels)
    }
}

/// What time mixing adds to the values.
public enum ValueResidual<Element: Real>: Sendable {
    /// The first layer's values (v_first) are mixed in before value heads are repeated.
    ///
    /// The layer that provides v_first does not mix in any.
    case beforeRepeat(Residual<Element>)
    /// The first layer's values are mixed in after value heads are repeated.
    case afterRepeat(Residual<Element>)
    /// 0.2 x v1 v2 is added after value heads are repeated.
    case lowRank(LowRank<Element>)

    /// The factor of the low-rank term.
    static var factor: Double { 0.2 }

    /// The low-rank projection from which the residual is computed.
    var projection: LowRank<Element> {
        switch self {
        case .beforeRepeat(let residual), .afterRepeat(let residual): residual.share
        case .lowRank(let projection): projection
        }
    }
}

/// The vector whose heads are L2-normalised to give the removal key kk.
public enum RemovalKey<Element: Real>: Sendable {
    case key
    /// key * k_k, where k_k is [A].
    case scaledKey([Element])

    var scale: [Element]? {
        switch self {
        case .key: nil
        case .scaledKey(let scale): scale
        }
    }
}

/// The factor that scales the key.
public enum KeyScale<Element: Real>: Sendable {
    /// The key is not scaled.
    case none
    /// 1 + (a - 1) k_a, where k_a is [A].
    case iclr(mix: [Element])
    /// 1 - omega + a, where omega is given by the decay w = exp(-exp(omega)).
    case oneMinusOmega
    /// 1 - w + a, where w is the decay.
    case oneMinusDecay

    var usesOmega: Bool {
        if case .oneMinusOmega = self { true } else { false }
    }

    /// The mix k_a, [A], or nil if the key is scaled by omega or by the decay.
    ///
    /// A mix of 0 leaves the key as it is.
    func mix(width: Int) -> [Element]? {
        switch self {
        case .none: Array(repeating: 0, count: width)
        case .iclr(let mix): mix
        case .oneMinusOmega, .oneMinusDecay: nil
        }
    }
}

/// The norm of the output of each head, which is applied before the bonus is added and the gate is applied.
public enum OutputNorm<Element: Real>: Sendable {
    case none
    /// GroupNorm with one group per head; the weight and bias are [A] each.
    case groupNorm(weight: [Element], bias: [Element], epsilon: Double)
    /// Division by a constant instead of a norm: y / sqrt(N).
    case headScale

    /// The norm for kernels.
    var ofHeads: HeadOutputNorm<Element> {
        switch self {
        case .none: .none
        case .groupNorm(let weight, let bias, let epsilon): .layerNorm(weight: weight, bias: bias, epsilon: epsilon)
        case .headScale: .scale
        }
    }
}

/// The factor of the heads' output.
public enum Gate<Element: Real>: Sendable {
    case none
    /// sigmoid(x g1) g2
    case lowRank(LowRank<Element>)
    /// 1 + sigmoid(x g1) g2
    case onePlusLowRank(LowRank<Element>)
    /// sigmoid(W_g x)
    case sigmoid(Linear<Element>)
    /// silu(W_g x)
    case silu(Linear<Element>)

    var matrices: (ofInput: [StoredMatrix], others: [StoredMatrix]) {
        switch self {
        case .none: ([], [])
        case .lowRank(let gate), .onePlusLowRank(let gate): ([gate.down], [gate.up])
        case .sigmoid(let gate), .silu(let gate): ([gate.weight], [])
        }
    }

    /// Returns the gate, [tokens, A], and the inner activations of a low-rank gate; both are nil if there are none.
    func callAsFunction(
        _ x: Matrix<Element>, _ kernels: Kernels<Element>
    ) -> (gate: Matrix<Element>?, inner: Matrix<Element>?) {
        switch self {
        case .none: return (nil, nil)
        case .lowRank(let projection):
            let (gate, inner) = projection(x, kernels)
            return (gate, inner)
        case .onePlusLowRank(let projection):
            let (gate, inner) = projection(x, kernels)
            kernels.add(bias: Array(repeating: 1, count: gate.columns), to: gate)
            return (gate, inner)
        case .sigmoid(let projection):
            let gate = projection(x, kernels)
            kernels.sigmoid(inPlace: gate)
            return (gate, nil)
        case .silu(let projection):
            let gate = projection(x, kernels)
            kernels.swiGLU(up: Matrix(Array(repeating: 1, count: gate.count), columns: gate.columns), gate: gate)
            return (gate, nil)
        }
    }

    /// Adds the gradient of `x` to `dx`, and the gradients of the gate's weights to `gradients`; overwrites `dgate`.
    func backward(
        _ dgate: Matrix<Element>?, _ x: Matrix<Element>, gate: Matrix<Element>?, inner: Matrix<Element>?,
        _ gradients: WeightGradients<Element>, addingTo dx: Matrix<Element>?, _ kernels: Kernels<Element>
    ) {
        guard let dgate, let gate else { return }
        switch self {
        case .none: break
        case .lowRank(let projection), .onePlusLowRank(let projection):
            guard let inner else { preconditionFailure("a low-rank gate without inner activations") }
            projection.backward(dgate, x, inner: inner, (nil, .gateDown, .gateUp), gradients, addingTo: dx, kernels)
        case .sigmoid(let projection):
            kernels.sigmoidBackward(inPlace: dgate, gate)
            projection.backward(dgate, x, (.gateWeight, nil), gradients, addingTo: dx, kernels)
        case .silu: preconditionFailure("no gradients for the gate of RWKV-5 and RWKV-6")
        }
    }
}
