// swift-tools-version: 6.3
import PackageDescription

// A target may import only targets that are above it in this list.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

let checkpointModules = [
    "Bytes", "CheckpointJSON", "CheckpointFiles", "ModelFamilies", "LayerPlanning", "CheckpointConversion",
    "CheckpointReports", "TokenFiles",
]
let modelModules = [
    "RWKVNumerics", "RWKVLayers", "RWKVInference", "RWKVEvaluation", "RWKVDistillation", "RWKVBenchmarks",
    "RWKVReports",
]

let package = Package(
    name: "rwkv-ckpt",
    products: [
        .library(name: "RWKVCheckpoint", targets: checkpointModules),
        .library(name: "RWKVModel", targets: modelModules),
        .executable(name: "rwkv-ckpt", targets: ["rwkv-ckpt"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        // Used only by scripts/docs: SwiftPM does not fetch it for packages that depend on this one.
        .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"),
    ],
    targets: [
        .target(name: "CRWKVKernels"),
        .systemLibrary(
            name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(
            name: "CJSONC", pkgConfig: "json-c", providers: [.apt(["libjson-c-dev"])]),
        .target(
            name: "Bytes",
            dependencies: ["CRWKVKernels", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: settings),
        .target(
            name: "CheckpointJSON",
            dependencies: ["Bytes", "CJSONC"],
            // The scanner borrows the bytes that it reads; lifetimes let the compiler check that.
            swiftSettings: settings + [.enableExperimentalFeature("Lifetimes")]),
        .target(
            name: "CheckpointFiles",
            dependencies: [
                "Bytes", "CRWKVKernels", "CZstd", "CheckpointJSON", .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: settings),
        .target(
            name: "TokenFiles",
            dependencies: ["Bytes", "CheckpointFiles", "CheckpointJSON"],
            swiftSettings: settings),
        .target(
            name: "ModelFamilies",
            dependencies: ["Bytes", "CheckpointFiles", "CheckpointJSON"],
            swiftSettings: settings),
        .target(
            name: "LayerPlanning",
            dependencies: ["Bytes", "CheckpointFiles", "CheckpointJSON", "ModelFamilies"],
            swiftSettings: settings),
        .target(
            name: "CheckpointConversion",
            dependencies: [
                "Bytes", "CRWKVKernels", "CheckpointFiles", "CheckpointJSON", "LayerPlanning", "ModelFamilies",
            ],
            swiftSettings: settings),
        .target(
            name: "CheckpointReports",
            dependencies: [
                "Bytes", "CheckpointConversion", "CheckpointFiles", "CheckpointJSON", "LayerPlanning", "ModelFamilies",
            ],
            swiftSettings: settings),
        .target(
            name: "RWKVNumerics",
            dependencies: ["CRWKVKernels"],
            swiftSettings: settings),
        .target(
            name: "RWKVLayers",
            dependencies: ["Bytes", "CheckpointJSON", "ModelFamilies", "RWKVNumerics"],
            swiftSettings: settings),
        .target(
            name: "RWKVInference",
            dependencies: ["Bytes", "CheckpointFiles", "ModelFamilies", "RWKVLayers", "RWKVNumerics"],
            swiftSettings: settings),
        .target(
            name: "RWKVEvaluation",
            dependencies: [
                "Bytes", "CRWKVKernels", "CheckpointConversion", "CheckpointFiles", "CheckpointJSON", "ModelFamilies",
                "RWKVInference", "RWKVLayers", "RWKVNumerics", "TokenFiles",
            ],
            swiftSettings: settings),
        .target(
            name: "RWKVDistillation",
            dependencies: [
                "Bytes", "CheckpointConversion", "CheckpointFiles", "CheckpointJSON", "ModelFamilies", "RWKVEvaluation",
                "RWKVInference", "RWKVLayers", "RWKVNumerics", "TokenFiles",
            ],
            swiftSettings: settings),
        .target(
            name: "RWKVBenchmarks",
            dependencies: [
                "Bytes", "CRWKVKernels", "CheckpointFiles", "ModelFamilies", "RWKVDistillation", "RWKVInference",
                "RWKVLayers",
                "RWKVNumerics", "TokenFiles",
            ],
            swiftSettings: settings),
        .target(
            name: "RWKVReports",
            dependencies: [
                "Bytes", "CheckpointFiles", "CheckpointJSON", "CheckpointReports", "ModelFamilies", "RWKVBenchmarks",
                "RWKVDistillation", "RWKVEvaluation", "RWKVInference", "RWKVNumerics", "TokenFiles",
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "rwkv-ckpt",
            dependencies: [
                "Bytes", "CRWKVKernels", "CheckpointConversion", "CheckpointFiles", "CheckpointJSON",
                "CheckpointReports",
                "LayerPlanning", "ModelFamilies", "RWKVBenchmarks", "RWKVDistillation", "RWKVEvaluation",
                "RWKVInference", "RWKVNumerics", "RWKVReports", "TokenFiles",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),

        // The documentation of the two products; these targets have no code.
        .target(name: "RWKVCheckpoint", dependencies: checkpointModules.map { .target(name: $0) }),
        .target(name: "RWKVModel", dependencies: (["RWKVCheckpoint"] + modelModules).map { .target(name: $0) }),

        .target(
            name: "TestSupport",
            dependencies: ["Bytes", "CRWKVKernels", "CheckpointFiles", "CheckpointJSON"],
            path: "Tests/TestSupport",
            swiftSettings: settings),
        .testTarget(name: "CRWKVKernelsTests", dependencies: ["CRWKVKernels"], swiftSettings: settings),
        .testTarget(name: "BytesTests", dependencies: ["Bytes", "TestSupport"], swiftSettings: settings),
        .testTarget(
            name: "CheckpointJSONTests", dependencies: ["Bytes", "CheckpointJSON"], swiftSettings: settings),
        .testTarget(
            name: "CheckpointFilesTests",
            dependencies: ["Bytes", "CRWKVKernels", "CheckpointFiles", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "TokenFilesTests",
            dependencies: ["Bytes", "CheckpointFiles", "TestSupport", "TokenFiles"],
            swiftSettings: settings),
        .testTarget(
            name: "ModelFamiliesTests",
            dependencies: ["Bytes", "CheckpointFiles", "CheckpointJSON", "ModelFamilies", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "LayerPlanningTests",
            dependencies: [
                "Bytes", "CheckpointFiles", "CheckpointJSON", "LayerPlanning", "ModelFamilies", "TestSupport",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "CheckpointConversionTests",
            dependencies: [
                "Bytes", "CRWKVKernels", "CheckpointConversion", "CheckpointFiles", "CheckpointJSON", "LayerPlanning",
                "ModelFamilies", "TestSupport",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "RWKVNumericsTests",
            dependencies: ["CRWKVKernels", "RWKVLayers", "RWKVNumerics"],
            swiftSettings: settings),
        .testTarget(
            name: "RWKVLayersTests",
            dependencies: ["Bytes", "CheckpointFiles", "ModelFamilies", "RWKVLayers", "RWKVNumerics", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "RWKVInferenceTests",
            dependencies: [
                "Bytes", "CheckpointFiles", "CheckpointJSON", "ModelFamilies", "RWKVInference", "RWKVNumerics",
                "TestSupport",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "RWKVEvaluationTests",
            dependencies: [
                "Bytes", "CheckpointFiles", "CheckpointJSON", "ModelFamilies", "RWKVEvaluation", "RWKVInference",
                "RWKVNumerics", "TestSupport", "TokenFiles",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "RWKVDistillationTests",
            dependencies: [
                "Bytes", "CheckpointConversion", "CheckpointFiles", "CheckpointJSON", "LayerPlanning", "ModelFamilies",
                "RWKVDistillation", "RWKVEvaluation", "RWKVInference", "RWKVLayers", "RWKVNumerics", "TestSupport",
                "TokenFiles",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "CheckpointReportsTests",
            dependencies: ["Bytes", "CheckpointFiles", "CheckpointReports", "ModelFamilies", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "CommandLineTests",
            dependencies: ["TestSupport", "rwkv-ckpt"],
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c17
)
