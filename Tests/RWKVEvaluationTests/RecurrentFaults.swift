import RWKVEvaluation
import TestSupport

// Faults in RWKV-5, RWKV-6, RADLADS' students, ARWKV and the hxa07 line, at least one for each stage that decoders and
// cxa079 do not have.
extension DecoderFaultTests {
    private static func clear(_ model: inout EditableModel, _ name: String) { scale(&model, name, by: 0) }

    private static func exchange(_ model: inout EditableModel, _ a: String, _ b: String) {
        (model[a], model[b]) = (model[b], model[a])
    }

    /// Reorders blocks of `size` numbers within each group of as many blocks as `order` has.
    private static func blocks(of numbers: [Float], size: Int, _ order: [Int]) -> [Float] {
        var new: [Float] = []
        for group in stride(from: 0, to: numbers.count, by: order.count * size) {
            for block in order {
                let start = group + block * size
                new += numbers[start..<start + size]
            }
        }
        return new
    }

    static let recurrentFaults: [Fault] = [
        Fault(name: "token shifts in RADLADS' order", model: "x060-hf", layer: 1, block: .mixer) { model in
            // The file has them in the order w, k, v, r, g.
            let order = [3, 1, 2, 0, 4]
            let down = "rwkv.blocks.1.attention.time_maa_w1"
            let up = "rwkv.blocks.1.attention.time_maa_w2"
            model[down] = blocks(of: model[down], size: 32, order)
            model[up] = blocks(of: model[up], size: 32 * 48, order)
        },
        Fault(name: "shift before the low-rank matrices forgotten", model: "x060-hf", layer: 0, block: .mixer) {
            clear(&$0, "rwkv.blocks.0.attention.time_maa_x")
        },
        Fault(name: "decay does not depend on the token", model: "x060-hf", layer: 1, block: .mixer) {
            clear(&$0, "rwkv.blocks.1.attention.time_decay_w2")
        },
        Fault(name: "bonus forgotten", model: "x060-hf", layer: 1, block: .mixer) {
            clear(&$0, "rwkv.blocks.1.attention.time_faaaa")
        },
        Fault(name: "receptance and gate exchanged", model: "x060-hf", layer: 0, block: .mixer) {
            exchange(&$0, "rwkv.blocks.0.attention.receptance.weight", "rwkv.blocks.0.attention.gate.weight")
        },
        Fault(name: "bias of the group norm forgotten", model: "x060-hf", layer: 1, block: .mixer) {
            clear(&$0, "rwkv.blocks.1.attention.ln_x.bias")
        },
        Fault(name: "shares of channel mixing exchanged", model: "x060-hf", layer: 0, block: .mlp) {
            exchange(&$0, "rwkv.blocks.0.feed_forward.time_maa_k", "rwkv.blocks.0.feed_forward.time_maa_r")
        },
        Fault(name: "share of the previous token in time mixing", model: "x052-hf", layer: 1, block: .mixer) {
            $0["rwkv.blocks.1.attention.time_mix_gate"] = $0["rwkv.blocks.1.attention.time_mix_gate"].map { 1 - $0 }
        },
        Fault(name: "share of the previous token in channel mixing", model: "x052-hf", layer: 1, block: .mlp) {
            let name = "rwkv.blocks.1.feed_forward.time_mix_receptance"
            $0[name] = $0[name].map { 1 - $0 }
        },
        Fault(name: "decay too fast", model: "x052-hf", layer: 0, block: .mixer) {
            scale(&$0, "rwkv.blocks.0.attention.time_decay", by: 0.9)
        },
        Fault(name: "receptance of channel mixing forgotten", model: "x052-hf", layer: 0, block: .mlp) {
            clear(&$0, "rwkv.blocks.0.feed_forward.receptance.weight")
        },
        Fault(name: "norm epsilon", model: "x052-hf", layer: nil, block: .embedding, constants: ["epsilon"]) {
            $0.configure("layer_norm_epsilon", 1e-3)
        },
        Fault(
            name: "scale of the key of 07B", model: "hxa07b", layer: 0, block: .mixer, constants: ["scale of the key"]
        ) {
            $0.configure("rwkv_architecture", "hxa07c")
        },
        Fault(
            name: "scale of the key of 079", model: "cxa07d", layer: 0, block: .mixer, constants: ["scale of the key"]
        ) {
            $0.configure("rwkv_architecture", "cxa079")
        },
        Fault(name: "low-rank term of the values forgotten", model: "hxa07b", layer: 2, block: .mixer) {
            clear(&$0, "model.layers.2.self_attn.v2")
        },
        Fault(name: "theta", model: "cxa07a", layer: 0, block: .mixer, constants: ["rotation of time mixing"]) {
            $0.configure("rope_theta", 1e6)
        },
        Fault(name: "key not balanced", model: "rad-rwkv7", layer: 0, block: .mixer, constants: ["scale of the key"]) {
            $0.configure("balance_state", false)
        },
        Fault(
            name: "RoPE forgotten", model: "rad-rwkv7-qwen3", layer: 0, block: .mixer,
            constants: ["rotation of time mixing"]
        ) {
            $0.configure("use_rope", false)
        },
        Fault(name: "full-rank gate forgotten", model: "rad-rwkv7-group-norm", layer: 1, block: .mixer) {
            clear(&$0, "model.layers.1.self_attn.gate.weight")
        },
        Fault(name: "weight of the group norm", model: "rad-rwkv7-group-norm", layer: 2, block: .mixer) {
            scale(&$0, "model.layers.2.self_attn.ln_x.weight", by: 0.9)
        },
        Fault(name: "bonus of the first models forgotten", model: "rad-rwkv7-first", layer: 0, block: .mixer) {
            clear(&$0, "model.layers.0.self_attn.r_k")
        },
        Fault(name: "attention in the last layer", model: "rad-rwkv7", layer: 3, block: .mixer) {
            scale(&$0, "model.layers.3.self_attn.q_proj.weight", by: 0.5)
        },
        Fault(name: "token shifts in RWKV-6's order", model: "rad-rwkv6", layer: 1, block: .mixer) { model in
            // The file has them in the order r, k, v, w, g.
            let order = [3, 1, 2, 0, 4]
            let down = "model.layers.1.self_attn.time_maa_w1"
            let up = "model.layers.1.self_attn.time_maa_w2"
            model[down] = blocks(of: model[down], size: 4, order)
            model[up] = blocks(of: model[up], size: 4 * 32, order)
        },
        Fault(name: "state not balanced", model: "rad-rwkv6", layer: 0, block: .mixer, constants: ["scale of the key"])
        {
            $0.configure("balance_state", false)
        },
        Fault(name: "gate of low rank forgotten", model: "rad-rwkv6-group-norm", layer: 0, block: .mixer) {
            clear(&$0, "model.layers.0.self_attn.g1")
        },
        Fault(name: "biases forgotten", model: "rad-rwkv6", layer: 2, block: .mixer) {
            clear(&$0, "model.layers.2.self_attn.k_proj.bias")
        },
        Fault(name: "1 added to the gate", model: "arwkv-gate", layer: 0, block: .mixer, constants: ["gate"]) {
            $0.configure("rwkv_architecture", "arwkv-1g")
        },
        Fault(name: "token shift of the gate", model: "arwkv-gate", layer: 1, block: .mixer) {
            clear(&$0, "model.layers.1.self_attn.time_mixer.x_g")
        },
        Fault(name: "scale of the removal key", model: "arwkv", layer: 2, block: .mixer) {
            $0["model.layers.2.self_attn.time_mixer.k_k"] = Array(repeating: 1, count: 32)
        },
    ]
}
