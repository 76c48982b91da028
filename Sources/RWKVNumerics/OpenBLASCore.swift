import CRWKVKernels

/// An OpenBLAS core: a set of kernels for one kind of processor.
///
/// `OPENBLAS_CORETYPE` selects a core by its name, and `openblas_get_corename` returns the name.
struct OpenBLASCore: Sendable, Equatable {
    /// The widest vector instructions that the kernels of a core use.
    ///
    /// Wider instructions are greater than narrower ones.
    enum VectorClass: Int, Comparable {
        case sse
        case avx
        case avx2
        case avx512

        static func < (a: VectorClass, b: VectorClass) -> Bool { a.rawValue < b.rawValue }
    }

    let name: String
    let vectors: VectorClass
    /// The other processor features that the core's kernels require, as a combination of `RWKV_FEATURE_...` flags.
    private let features: Int

    private init(_ name: String, _ vectors: VectorClass, features: Int = 0) {
        (self.name, self.vectors, self.features) = (name, vectors, features)
    }

    /// Creates a core from its name, ignoring case; returns nil if the name is unknown.
    init?(named name: String) {
        guard let core = Self.all.first(where: { $0.name.lowercased() == name.lowercased() }) else { return nil }
        self = core
    }

    /// Creates the fastest core for this processor that does not go beyond an instruction set.
    init(for instructionSet: InstructionSet) {
        let isHalved = Int(rwkv_processor_features()) & RWKV_FEATURE_HALVED_AVX512 != 0
        self =
            switch instructionSet {
            case .baseline: Self.prescott
            case .avx2: Self.haswell
            case .avx512: isHalved ? Self.haswell : Self.skylakeX
            }
    }

    /// Whether the processor and the operating system can run this core's kernels.
    var isSupported: Bool {
        let vectors =
            switch vectors {
            case .sse: true
            case .avx: Int(rwkv_processor_features()) & RWKV_FEATURE_AVX != 0
            case .avx2, .avx512: vectors <= InstructionSet.best.vectors
            }
        return vectors && Int(rwkv_processor_features()) & features == features
    }

    private static let prescott = OpenBLASCore("Prescott", .sse)
    private static let haswell = OpenBLASCore("Haswell", .avx2)
    private static let skylakeX = OpenBLASCore("SkylakeX", .avx512)

    // The cores that are listed in driver/others/dynamic.c of OpenBLAS 0.3. The first five run Prescott's kernels.
    private static let all = [
        OpenBLASCore("Katmai", .sse), OpenBLASCore("Coppermine", .sse), OpenBLASCore("Northwood", .sse),
        OpenBLASCore("Banias", .sse), OpenBLASCore("Athlon", .sse), prescott, OpenBLASCore("Atom", .sse),
        OpenBLASCore("Core2", .sse), OpenBLASCore("Penryn", .sse), OpenBLASCore("Dunnington", .sse),
        OpenBLASCore("Nehalem", .sse), OpenBLASCore("Opteron", .sse, features: RWKV_FEATURE_3DNOW),
        OpenBLASCore("Opteron_SSE3", .sse, features: RWKV_FEATURE_3DNOW), OpenBLASCore("Barcelona", .sse),
        OpenBLASCore("Nano", .sse), OpenBLASCore("Bobcat", .sse), OpenBLASCore("Sandybridge", .avx),
        OpenBLASCore("Bulldozer", .avx, features: RWKV_FEATURE_FMA4),
        OpenBLASCore("Piledriver", .avx, features: RWKV_FEATURE_FMA4),
        OpenBLASCore("Steamroller", .avx, features: RWKV_FEATURE_FMA4),
        OpenBLASCore("Excavator", .avx, features: RWKV_FEATURE_FMA4), haswell, OpenBLASCore("Zen", .avx2), skylakeX,
        OpenBLASCore("Cooperlake", .avx512, features: RWKV_FEATURE_AVX512_BF16),
        OpenBLASCore("SapphireRapids", .avx512, features: RWKV_FEATURE_AVX512_BF16),
    ]
}

extension InstructionSet {
    /// The widest vectors that an OpenBLAS core can use if this instruction set is the limit.
    var vectors: OpenBLASCore.VectorClass {
        switch self {
        case .baseline: .sse
        case .avx2: .avx2
        case .avx512: .avx512
        }
    }
}
