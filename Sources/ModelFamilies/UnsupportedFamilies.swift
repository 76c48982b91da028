/// A family that is recognised by its tensor names but is not supported.
///
/// Recognising it ensures that it is not mistaken for another family.
struct UnsupportedFamily: Sendable {
    let family: String
    /// The names of the family's variants.
    ///
    /// There is more than one if the tensors cannot distinguish between them.
    let variants: [String]
    /// Sets of name suffixes.
    ///
    /// For each set, at least one tensor name must end in one of the suffixes.
    let has: [[String]]
    /// Name suffixes that must not occur in any tensor name.
    var lacks: [String] = []

    /// All unsupported families, in the order in which they are tried.
    static let all: [UnsupportedFamily] = [
        UnsupportedFamily(family: "goldfinch", variants: ["goldfinch"], has: [["w_kv_cache_a.weight"]]),
        UnsupportedFamily(family: "rimer", variants: ["rimer"], has: [["patch_embedding.value_embedding.weight"]]),
        UnsupportedFamily(family: "rwkv", variants: ["x040", "x050", "x051"], has: [[".att.time_mix_k"]]),
        UnsupportedFamily(family: "rwkv7", variants: ["x070a"], has: [[".ffn.s_emb.weight"]]),
        UnsupportedFamily(family: "rwkv7", variants: ["x080"], has: [[".ffn.enn.weight"]]),
        UnsupportedFamily(
            family: "rwkv7", variants: ["x070 with attention"], has: [[".attn.q_proj.weight"], [".attn.r_proj.weight"]]),

        UnsupportedFamily(family: "cxa", variants: ["cxa07e"], has: [[".receptance.weight"], [".dv1"]]),
        UnsupportedFamily(
            family: "cxa", variants: ["cxa073", "cxa074"], has: [[".receptance.weight"], [".ln_x.weight"]],
            lacks: [".x_r", ".ln0.weight"]),
        UnsupportedFamily(
            family: "cxa", variants: ["cxa075"], has: [[".receptance.weight"], [".k_k"]],
            lacks: [".x_r", ".ln0.weight"]),
        UnsupportedFamily(
            family: "cxa", variants: ["cxa076r", "cxa077", "cxa078"],
            has: [[".receptance.weight"], [".r_k"], [".r_norm.weight", ".att.ln_r.weight"]], lacks: [".k0", ".x_r"]),
        UnsupportedFamily(
            family: "cxa", variants: ["cxa07b", "cxa07c"], has: [[".receptance.weight"], [".v1"]],
            lacks: [".v0", ".r_k"]),

        UnsupportedFamily(
            family: "mixture of experts", variants: [], has: [[".mlp.gate.weight", ".mlp.router.weight"]]),
    ]

    /// Returns the first family that the given names match, or nil if they match none.
    ///
    /// The evidence contains one matching name for each of the family's sets of suffixes.
    static func find(_ patterns: some Collection<NamePattern>) -> (family: UnsupportedFamily, evidence: [String])? {
        for family in all {
            let evidence = family.has.compactMap { patterns.first(endingIn: $0) }
            if evidence.count == family.has.count, patterns.first(endingIn: family.lacks) == nil {
                return (family, evidence)
            }
        }
        return nil
    }
}
