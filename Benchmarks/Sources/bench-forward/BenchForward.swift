import CheckpointFiles
import Glibc
import ModelFamilies
import RWKVInference
import RWKVNumerics

/// Times a model's forward pass, and prints one JSON object.
///
///     bench-forward MODEL --tokens 512 --threads 1 --runs 3 [--kernels strict] [--prefill-only]
@main struct BenchForward {
    static func main() throws {
        var options: [String: String] = [:]
        var arguments = CommandLine.arguments.dropFirst()
        let path = arguments.popFirst() ?? ""
        while let name = arguments.popFirst() {
            options[name] = name == "--prefill-only" ? "" : arguments.popFirst() ?? ""
        }
        func number(_ name: String, _ assumed: Int) -> Int { options[name].flatMap { Int($0) } ?? assumed }

        let start = ContinuousClock.now
        let checkpoint = try Checkpoint.open(path)
        let configuration = try ModelConfiguration(beside: checkpoint)
        let description = try ModelRecognition.recognize(checkpoint, configuration: configuration)
            .described(path: path, hasConfiguration: configuration != nil)
        let model = try Model<Float>(checkpoint, description)
        let load = (ContinuousClock.now - start) / .seconds(1)
        let table = options["--kernels"].flatMap { KernelTable(rawValue: $0) } ?? .fast
        guard let kernels = Kernels<Float>(table, threads: number("--threads", 1)) else { return }

        // The logits of the last token alone, as who prefills wants them.
        func run(_ tokens: [Int], _ state: inout Model<Float>.State) throws {
            let hidden = try model.hidden(tokens, &state, kernels)
            _ = try model.logits(hidden.rows(hidden.rows - 1..<hidden.rows), kernels)
        }
        let tokens = (0..<number("--tokens", 512)).map { ($0 * 7919 + 13) % model.vocabulary }
        var prefill: [(cpu: Double, wall: Double)] = []
        for round in 0...number("--runs", 3) {
            var state = model.start(length: tokens.count)
            let time = try measured { try run(tokens, &state) }
            // The first reads the file.
            if round > 0 { prefill.append(time) }
        }
        var single: [(cpu: Double, wall: Double)] = []
        if options["--prefill-only"] == nil {
            var state = model.start(length: 64)
            try run(Array(tokens.prefix(16)), &state)
            for token in 0..<36 {
                let time = try measured { try run([token * 31 % model.vocabulary], &state) }
                if token >= 4 { single.append(time) }
            }
        }
        print(
            """
            {"prefill_cpu_s": \(prefill.map(\.cpu)), "prefill_wall_s": \(prefill.map(\.wall)), \
            "token_cpu_s": \(single.map(\.cpu)), "token_wall_s": \(single.map(\.wall)), \
            "peak_rss_mb": \(peakMemory() / 1e6), "load_s": \(load)}
            """)
    }

    private static func measured(_ work: () throws -> Void) rethrows -> (cpu: Double, wall: Double) {
        let (cpu, wall) = (processTime(), ContinuousClock.now)
        try work()
        return (processTime() - cpu, (ContinuousClock.now - wall) / .seconds(1))
    }

    private static func processTime() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    /// What getrusage says may be another's, from before this process began.
    private static func peakMemory() -> Double {
        guard let file = fopen("/proc/self/status", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, CInt(line.count), file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if text.hasPrefix("VmHWM:") { return (Double(text.filter(\.isNumber)) ?? 0) * 1024 }
        }
        return 0
    }
}
