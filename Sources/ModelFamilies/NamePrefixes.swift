import CheckpointFiles
import CheckpointJSON

/// What trainers and wrappers put before the names of a model's tensors.
struct NamePrefixes {
    /// What every name begins with.
    let common: String
    /// What the names of a text model within a larger one begin with, and what they begin with by themselves; nil where there is none.
    let text: (prefix: String, own: String)?

    /// Put before all names: by DistributedDataParallel, torch.compile, DeepSpeed and peft.
    private static let wrappers = ["module.", "_orig_mod.", "_forward_module.", "base_model.model."]
    /// Put before those of the text model by models of text and images; the longest come first.
    private static let textModels = [
        ("model.language_model.model.", "model."), ("model.language_model.", "model."), ("language_model.", ""),
    ]

    /// More than anybody wraps a model in.
    private static let wrapperLimit = 8

    /// The prefixes of a checkpoint's names.
    ///
    /// - Parameters:
    ///   - checkpoint: whose names they are.
    ///   - sample: the positions of some of its tensors.
    ///   - isKnown: whether a layout knows a name.
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

    /// What names begin with, in words; nil for nothing.
    var evidence: String? {
        let prefix = common + (text?.prefix ?? "")
        return prefix.isEmpty ? nil : "names begin with \(prefix)"
    }

    /// A name without them; nil where it is that of another model beside the text model.
    func strip(_ name: String) -> String? {
        guard !common.isEmpty || text != nil else { return name }
        let own = name.dropping(prefix: common) ?? name[...]
        guard let text else { return String(own) }
        if let rest = own.dropping(prefix: text.prefix) { return text.own + rest }
        // The head's name has no such prefix.
        return own.utf8.elementsEqual("lm_head.weight".utf8) ? String(own) : nil
    }
}
