import Foundation
import TestSupport
import Testing

/// Tests with an OpenBLAS that is slow, faulty, too old or missing.
///
/// Results must be correct, and a single warning must state the problem.
@Suite struct OpenBLASTests {
    /// Compiles a substitute for OpenBLAS, and calls a closure with the environment variables that make the tool load
    /// it.
    private func withStub<Result>(
        version: String = "0.3.21", _ definitions: String..., body: ([String: String]) throws -> Result
    ) throws -> Result {
        try withTemporaryDirectory { directory in
            let compiler = Process()
            compiler.executableURL = URL(filePath: "/usr/bin/env")
            compiler.arguments =
                ["clang", "-O2", "-shared", "-fPIC", "-DVERSION=\"\(version)\""] + definitions.map { "-D" + $0 } + [
                    Repository.root.appending(path: "Tests/StubOpenBLAS/stub.c").path, "-o",
                    directory.appending(path: "libopenblas.so.0").path,
                ]
            try compiler.run()
            compiler.waitUntilExit()
            try #require(compiler.terminationStatus == 0)
            return try body(environment(directory))
        }
    }

    private func environment(_ directory: URL, coreType: String = "") -> [String: String] {
        let path = ProcessInfo.processInfo.environment["LD_LIBRARY_PATH"].map { ":" + $0 } ?? ""
        return ["LD_LIBRARY_PATH": directory.path + path, "OPENBLAS_CORETYPE": coreType]
    }

    /// Returns the description of matrix products that `--version` prints.
    private func product(_ environment: [String: String]) throws -> String {
        let output = try CommandLineTool.run(["--version"], environment: environment)
        #expect(output.status == 0 && output.err.isEmpty)
        let line = try #require(output.out.split(separator: "\n").last)
        try #require(line.hasPrefix("matrix products: "))
        return String(line.dropFirst("matrix products: ".count))
    }

    /// Returns the name of the core that the tool requests from OpenBLAS if the user does not name one.
    private func wantedCore() throws -> String {
        try withStub { try #require(try product($0).split(separator: " ").last.map(String.init)) }
    }

    /// Runs a model on enough tokens for blocked matrix products.
    ///
    /// The logits must be correct, and a warning must state why OpenBLAS is not used.
    private func expectOwnProducts(_ environment: [String: String], warning: String) throws {
        try withTemporaryDirectory { directory in
            let model = "fixtures/planted-teacher"
            let recorded = directory.appending(path: "strict.safetensors").path
            let recording = try CommandLineTool.run(
                ["logits", model, "-o", recorded, "--kernels", "strict"], environment: environment)
            #expect(recording.status == 0 && recording.err.isEmpty)
            for threads in ["1", "2"] {
                let output = try CommandLineTool.run(
                    ["verify", recorded, model, "--threads", threads], environment: environment)
                #expect(output.status == 0, "\(output.out)")
                #expect(
                    output.err
                        == "rwkv-ckpt: warning: libopenblas.so.0: \(warning); matrix products use the built-in kernels\n"
                )
            }
            let files = try ["1", "2"].map { threads in
                let file = directory.appending(path: threads + ".safetensors")
                let output = try CommandLineTool.run(
                    ["logits", model, "-o", file.path, "--threads", threads, "--json"], environment: environment)
                #expect(output.status == 0 && output.err.isEmpty && output.out.contains(warning))
                return try Data(contentsOf: file)
            }
            #expect(files[0] == files[1])
        }
        let product = try product(environment)
        #expect(product.hasPrefix("own ") && product.hasSuffix("; " + warning))
    }

    @Test func lowerCoreIsNotUsed() throws {
        let wanted = try wantedCore()
        for core in ["Prescott", "NO_SUCH_CORE"] where core != wanted {
            try withStub("CORE=\"\(core)\"") { environment in
                try expectOwnProducts(
                    environment, warning: "OpenBLAS 0.3.21 runs its \(core) kernels instead of \(wanted)")
            }
        }
    }

    @Test(arguments: [
        ("FAULT=1", "Float 29 x 1101 x 33"), ("FAULT=2", "Double 23 x 41 x 37, b transposed"),
    ])
    func wrongProductsAreNotUsed(_ fault: String, _ product: String) throws {
        try withStub(fault) { environment in
            try expectOwnProducts(
                environment,
                warning: "OpenBLAS 0.3.21 computes wrong products with its \(try wantedCore()) kernels (\(product))")
        }
    }

    /// Attention needs matrix products in which the stride is greater than the row length.
    @Test func productsThatIgnoreStridesAreNotUsed() throws {
        try withStub("FAULT=3") { environment in
            let product = try product(environment)
            #expect(product.contains("computes wrong products"))
        }
    }

    /// Kernels for another processor are not even tried.
    @Test func kernelsThatCannotRunAreNotTried() throws {
        try withStub("CORE=\"Opteron\"", "FAULT=4") { environment in
            let product = try product(environment.merging(["OPENBLAS_CORETYPE": "Prescott"]) { $1 })
            // This expectation fails on a processor with 3DNow!, which can run the Opteron kernels.
            #expect(product.hasSuffix("; OpenBLAS 0.3.21 runs its Opteron kernels, which this processor cannot run"))
        }
    }

    @Test func oldLibraryIsNotUsed() throws {
        try withStub(version: "0.2.20") { environment in
            try expectOwnProducts(environment, warning: "OpenBLAS 0.2.20 is too old; 0.3 or later is needed")
        }
        try withStub("LACKS_CORENAME") { environment in
            try expectOwnProducts(environment, warning: "OpenBLAS 0.3.21 lacks openblas_get_corename")
        }
        for version in ["", "-1.3", "next"] {
            try withStub(version: version) { environment in
                let product = try product(environment)
                #expect(product.hasSuffix("; the version of OpenBLAS cannot be determined"))
            }
        }
    }

    @Test func missingLibraryIsSaid() throws {
        try withTemporaryDirectory { directory in
            // The loader takes the first file with this name, and reports that it is not a library.
            let file = directory.appending(path: "libopenblas.so.0")
            try Data("nothing".utf8).write(to: file)
            try expectOwnProducts(
                environment(directory), warning: "OpenBLAS cannot be loaded (\(file.path): file too short)")
        }
    }

    @Test func userChoosesTheCore() throws {
        let wanted = try wantedCore()
        try withStub { environment in
            for (coreType, expected) in [("nehalem", "Nehalem"), ("no-such-core", wanted), ("", wanted)] {
                let product = try product(environment.merging(["OPENBLAS_CORETYPE": coreType]) { $1 })
                #expect(product == "OpenBLAS 0.3.21 \(expected)")
            }
        }
    }

    @Test func isaLimitsTheCore() throws {
        try withStub { environment in
            for (isa, coreType, expected) in [
                ("baseline", "", "Prescott"), ("baseline", "Haswell", "Prescott"), ("baseline", "Nehalem", "Nehalem"),
                ("avx2", "SkylakeX", "Haswell"), ("avx2", "Zen", "Zen"),
            ] {
                let output = try CommandLineTool.run(
                    ["bench", "wkv", "--isa", isa, "--heads", "1", "--tokens", "8", "--runs", "1", "--json"],
                    environment: environment.merging(["OPENBLAS_CORETYPE": coreType]) { $1 })
                // A processor without AVX2 rejects the option.
                guard output.status == 0 else {
                    #expect(isa == "avx2" && output.status == 64)
                    continue
                }
                #expect(
                    output.out.contains(
                        #""product": {"library": "OpenBLAS", "version": "0.3.21", "core": "\#(expected)"}"#))
            }
        }
    }
}
