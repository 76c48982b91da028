// swift-tools-version: 6.3
import PackageDescription

// Imports point downwards only: a target may use what stands above it in this list.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

let package = Package(
    name: "rwkv-ckpt",
    products: [
        .library(
            name: "RWKVCheckpoint",
            targets: ["CheckpointJSON", "CheckpointFiles", "CheckpointReports"]),
        .executable(name: "rwkv-ckpt", targets: ["rwkv-ckpt"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    ],
    targets: [
        .target(name: "CRWKVKernels"),
        .systemLibrary(
            name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .target(
            name: "CheckpointJSON",
            // The scanner borrows the bytes it reads, which a lifetime-bound type says and the compiler checks.
            swiftSettings: settings + [.enableExperimentalFeature("Lifetimes")]),
        .target(
            name: "CheckpointFiles",
            dependencies: [
                "CRWKVKernels", "CZstd", "CheckpointJSON", .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: settings),
        .target(
            name: "CheckpointReports",
            dependencies: ["CheckpointFiles", "CheckpointJSON"],
            swiftSettings: settings),
        .executableTarget(
            name: "rwkv-ckpt",
            dependencies: [
                "CRWKVKernels", "CheckpointFiles", "CheckpointJSON", "CheckpointReports",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),

        .target(
            name: "TestSupport",
            dependencies: ["CRWKVKernels", "CheckpointFiles"],
            path: "Tests/TestSupport",
            swiftSettings: settings),
        .testTarget(name: "CRWKVKernelsTests", dependencies: ["CRWKVKernels"], swiftSettings: settings),
        .testTarget(
            name: "CheckpointJSONTests", dependencies: ["CheckpointJSON"], swiftSettings: settings),
        .testTarget(
            name: "CheckpointFilesTests",
            dependencies: ["CheckpointFiles", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "CheckpointReportsTests",
            dependencies: ["CheckpointFiles", "CheckpointReports", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "CommandLineTests",
            dependencies: ["TestSupport", "rwkv-ckpt"],
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c17
)
