import Bytes
import CheckpointFiles

/// The prefixes that training wrappers and multimodal models add to the names of tensors.
struct NamePrefixes {
    /// The wrapper prefixes that all tensor names share, or the empty string if there are none.
    let common: String
    /// In a multimodal model, the prefix of the text model's tensor names and the prefix that replaces it; otherwise
    /// nil.
    let text: (prefix: String, own: String)?

    /// Prefixes that DistributedDataParallel, torch.compile, DeepSpeed and PEFT add to every tensor name.
    private static let wrappers = ["module.", "_orig_mod.", "_forward_module.", "base_model.model."]
    /// Prefixes of text-model tensor names in multimodal models, with their replacements.
    ///
    /// The first prefix that matches is used, so longer prefixes come first.
    private static let textModels = [
        ("model.language_model.model.", "model."), ("model.language_model.", "model."), ("language_model.", ""),
    ]

    /// The maximum number of wrapper prefixes to strip.
    private static let wrapperLimit = 8

    /// Finds the prefixes of a checkpoint's tensor names.
    ///
    /// - Parameters:
    ///   - checkpoint: the checkpoint whose tensor names are examined.
    ///   - sample: the positions of the tensors to examine for a text-model prefix.
    ///   - isKnown: a closure that returns whether any layout contains a name pattern.
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

    /// A clause that names the prefix in reports, or nil if there is no prefix.
    var evidence: String? {
        let prefix = common + (text?.prefix ?? "")
        return prefix.isEmpty ? nil : "names begin with \(prefix)"
    }

    /// Returns a tensor name without its prefixes, or nil if the tensor is not part of the text model.
    func strip(_ name: String) -> String? {
        guard !common.isEmpty || text != nil else { return name }
        let own = name.dropping(prefix: common) ?? name[...]
        guard let text else { return String(own) }
        if let rest = own.dropping(prefix: text.prefix) { return text.own + rest }
        // Some models keep the head outside the text model.
        return own.utf8.elementsEqual("lm_head.weight".utf8) ? String(own) : nil
    }
}
