import CheckpointFiles
import CheckpointJSON

/// The prefixes that trainers and wrappers put before the names of a model's tensors.
struct NamePrefixes {
    /// The prefix of every name; empty if there is none.
    let common: String
    /// The prefix of the text model's names in a multimodal model, and its replacement; nil for other models.
    let text: (prefix: String, own: String)?

    /// Prefixes that DistributedDataParallel, torch.compile, DeepSpeed and peft put before every name.
    private static let wrappers = ["module.", "_orig_mod.", "_forward_module.", "base_model.model."]
    /// Prefixes of the text model's names in multimodal models, with their replacements; longest first.
    private static let textModels = [
        ("model.language_model.model.", "model."), ("model.language_model.", "model."), ("language_model.", ""),
    ]

    /// The maximum number of wrapper prefixes that are stripped.
    private static let wrapperLimit = 8

    /// Finds the prefixes of a checkpoint's tensor names.
    ///
    /// - Parameters:
    ///   - checkpoint: the checkpoint whose names are examined.
    ///   - sample: positions of the tensors to search for a text model.
    ///   - isKnown: whether any layout contains a name pattern.
    init(_ checkpoint: Checkpoint, sample: Set<Int>, isKnown: (NamePattern) -> Bool) {
        let tensors = checkpoint.tensors
        var (common, count) = ("", 0)
        while count < Self.wrapperLimit,
            let wrapper = Self.wrappers.first(where: { wrapper in
                let prefix = common + wrapper
                return !tensors.isEmpty && tensors.allSatisfy { $0.name.utf8.starts(with: prefix.utf8) }
            })
        {
            common += wrapper
            count += 1
        }
        self.common = common
        text = Self.textModels.first { prefix, own in
            let whole = common + prefix
            return sample.contains { position in
                guard let rest = tensors[position].name.dropping(prefix: whole) else { return false }
                return isKnown(NamePattern(own + rest))
            }
        }
    }

    /// A clause that states the prefix; nil if there is none.
    var evidence: String? {
        let prefix = common + (text?.prefix ?? "")
        return prefix.isEmpty ? nil : "names begin with \(prefix)"
    }

    /// Returns the name without its prefixes; nil if the tensor is not part of the text model.
    func strip(_ name: String) -> String? {
        guard !common.isEmpty || text != nil else { return name }
        let own = name.dropping(prefix: common) ?? name[...]
        guard let text else { return String(own) }
        if let rest = own.dropping(prefix: text.prefix) { return text.own + rest }
        // Some models keep the head outside the text model.
        return own.utf8.elementsEqual("lm_head.weight".utf8) ? String(own) : nil
    }
}
