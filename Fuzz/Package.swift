// swift-tools-version: 6.3
import PackageDescription

// A separate package, so that the tool's package needs nothing for fuzzing. `run` builds it, with the right flags.

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
        fuzzTarget("Tokens"),
    ],
    swiftLanguageModes: [.v6]
)
