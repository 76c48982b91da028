// swift-tools-version: 6.3
import PackageDescription

let package = Package(
    name: "Benchmarks",
    dependencies: [.package(name: "rwkv-ckpt", path: "..")],
    targets: [
        .executableTarget(
            name: "bench-forward",
            dependencies: [
                .product(name: "RWKVCheckpoint", package: "rwkv-ckpt"),
                .product(name: "RWKVModel", package: "rwkv-ckpt"),
            ])
    ],
    swiftLanguageModes: [.v6]
)
