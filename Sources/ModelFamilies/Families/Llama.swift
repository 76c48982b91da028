extension Architecture {
    /// Llama 2 and 3, and other models with the same structure, such as Reka Flash 3.1.
    ///
    /// See transformers, models/llama.
    public static let llama = Architecture(
        family: "llama",
        configurationNames: ["llama"],
        body: DecoderBody(
            norm: .rms,
            feedForward: .gated(.silu),
            assumedEpsilon: 1e-6,
            assumedTheta: 10000),
        attention: Attention(
            inputBias: .configured(key: "attention_bias"), outputBias: .configured(key: "attention_bias")),
        layouts: [.huggingFace],
        familiesWithSameTensors: ["mistral", "gemma"],
        isTeacher: true)
}
