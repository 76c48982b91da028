extension Architecture {
    /// Qwen3, which has norms on each query head and key head, and an explicit head size.
    ///
    /// See transformers, models/qwen3.
    public static let qwen3 = Architecture(
        family: "qwen3",
        configurationNames: ["qwen3"],
        body: DecoderBody(
            norm: .rms,
            feedForward: .gated(.silu),
            refine: qwenWindows,
            keys: qwenWindowKeys,
            assumedEpsilon: 1e-6,
            assumedTheta: 10000,
            assumedSizes: [.headSize: 128]),
        attention: Attention(
            inputBias: .configured(key: "attention_bias"), outputBias: .configured(key: "attention_bias"),
            headNorm: .always),
        layouts: [.huggingFace],
        isTeacher: true)
}
