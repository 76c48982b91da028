// swift-tools-version: 6.3
import PackageDescription

// A package of its own, so that what fuzzing needs stays out of the tool's. Built by `run`, which knows the flags.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

func fuzzTarget(_ name: String) -> Target {
    .executableTarget(
        name: name,
        dependencies: ["Fuzzing", .product(name: "RWKVCheckpoint", package: "rwkv-ckpt")],
        swiftSettings: settings)
}

let package = Package(
    name: "Fuzz",
    dependencies: [.package(name: "rwkv-ckpt", path: "..")],
    targets: [
        .systemLibrary(name: "CLibFuzzer"),
        .target(name: "Fuzzing", dependencies: ["CLibFuzzer"], swiftSettings: settings),
        fuzzTarget("SafetensorsHeader"),
        fuzzTarget("JSONScanner"),
        fuzzTarget("ShardIndex"),
        fuzzTarget("ZipDirectory"),
        fuzzTarget("PickleMachine"),
        fuzzTarget("PyTorchLegacy"),
        fuzzTarget("TokenFiles"),
    ],
    swiftLanguageModes: [.v6]
)
