import Bytes
import CheckpointFiles
import ModelFamilies
import RWKVDistillation
import RWKVInference
import RWKVLayers
import RWKVNumerics
import TestSupport
import Testing

/// Loads a student from fixtures/logits, hxa07, radlads or arwkv, with all layer weights trainable.
private func student<Element: Real>(
    _ name: String, by adapters: TrainedAdapters? = nil, as type: Element.Type
) throws -> TrainedModel<Element> {
    // hxa07c has the tensors of hxa07b, and arwkv-1g those of arwkv-gate.
    let directories = [
        "cxa07a": "hxa07/cxa07a", "hxa07b": "hxa07/hxa07b", "hxa07c": "hxa07/hxa07b", "cxa07d": "hxa07/cxa07d",
        "arwkv": "arwkv/arwkv", "arwkv-1g": "arwkv/arwkv-gate",
    ]
    let directory = directories[name] ?? (name.hasPrefix("rad-") ? "radlads/" : "logits/") + name
    let path = Repository.fixture("\(directory)/model.safetensors")
    let checkpoint = try Checkpoint.open(path)
    let setting = ["hxa07c": "-07c", "arwkv-1g": "-1g"][name] ?? ""
    let configuration = try ModelConfiguration(path: Repository.fixture("\(directory)/config\(setting).json"))
    guard case .model(let description)? = try ModelRecognition.recognize(checkpoint, configuration: configuration)
    else {
        throw CheckpointError(.unsupported, path: path, "not recognised")
    }
    return try TrainedModel(
        checkpoint, description, training: description.bindings.mapValues { _ in Training() }, by: adapters)
}

private func kernels<Element: Real>(_ table: KernelTable = .fast, threads: Int = 2) throws -> Kernels<Element> {
    try #require(Kernels<Element>(table, threads: threads))
}

extension Checkpoint {
    fileprivate func matrix<Element: Real>(_ name: String, columns: Int) throws -> Matrix<Element> {
        Matrix((try numbers(name) as [Float]).map { Element($0) }, columns: columns)
    }
}

/// Returns |found - expected| / |expected|.
private func relativeError(_ found: [some Real], _ expected: [Float]) -> Double {
    let squares = zip(found, expected).reduce((0.0, 0.0)) { sums, pair in
        let (x, y) = (Double(pair.0), Double(pair.1))
        return (sums.0 + (x - y) * (x - y), sums.1 + y * y)
    }
    return squares.1 == 0 ? (squares.0 == 0 ? 0 : .infinity) : (squares.0 / squares.1).squareRoot()
}

/// Compares gradients with those of PyTorch's autograd, computed in float64 and recorded in fixtures/gradients as F32.
struct AutogradTests {
    static let students = [
        "hxa079", "cxa076", "cxa07a", "hxa07b", "hxa07c", "cxa07d", "rad-rwkv7", "rad-rwkv7-group-norm",
        "rad-rwkv6", "rad-rwkv6-group-norm", "arwkv", "arwkv-1g",
    ]
    static let cases = students.flatMap { name in
        KernelTable.allCases.flatMap { table in [false, true].map { (name, table, $0) } }
    }

    private func divergence<Element: Real>(
        _ name: String, _ table: KernelTable, joined: Bool, as type: Element.Type
    ) throws -> (loss: Double, worst: Double) {
        let model = try student(name, as: Element.self)
        let kernels: Kernels<Element> = try kernels(table)
        let recorded = try Checkpoint.open(Repository.fixture("gradients/\(name).safetensors"))
        let tokens = (try recorded.numbers("tokens") as [Int64]).map { Int($0) }
        let targets: Matrix<Element> = try recorded.matrix("target_logits", columns: model.model.vocabulary)
        let run = try model.run(tokens, sequences: 3, kernels)
        let (loss, gradient) = try LogitDivergence()(
            run.hidden, of: model.model, next: tokens.map { _ in -1 }, kernels,
            targets: { (rows) throws(CheckpointError) in targets.rows(rows) })
        try model.backward(run, gradient, propagatesFirstValues: joined, kernels)
        let expected = try #require((try recorded.numbers("loss") as [Double]).first)
        var worst = 0.0
        for parameter in model.parameters {
            let name = parameter.name
            let isJoined = joined && recorded.tensor(named: "joined/" + name) != nil
            let error = relativeError(
                parameter.gradient.array, try recorded.numbers(isJoined ? "joined/" + name : name))
            worst = max(worst, error)
        }
        return ((loss - expected) / expected, worst)
    }

    @Test("gradients of the divergence", arguments: cases)
    func divergences(_ name: String, _ table: KernelTable, _ joined: Bool) throws {
        let inFloats = try divergence(name, table, joined: joined, as: Float.self)
        #expect(abs(inFloats.loss) < 1e-6)
        // Outputs that are small before a group norm lose precision.
        #expect(inFloats.worst < (name.hasSuffix("group-norm") ? 5e-5 : 2e-5))
        let inDoubles = try divergence(name, table, joined: joined, as: Double.self)
        #expect(abs(inDoubles.loss) < 1e-12)
        // The precision is limited by the recorded gradients, which are F32.
        #expect(inDoubles.worst < 1e-7)
    }

    @Test("gradients of one layer's alignment", arguments: students, KernelTable.allCases)
    func alignments(_ name: String, _ table: KernelTable) throws {
        let model = try student(name, as: Float.self)
        let kernels: Kernels<Float> = try kernels(table)
        let recorded = try Checkpoint.open(Repository.fixture("gradients/\(name).safetensors"))
        let layer = try #require(recorded.metadata["layer"].flatMap { Int($0) })
        let width = model.model.width
        let x: Matrix<Float> = try recorded.matrix("alignment/x", columns: width)
        let target: Matrix<Float> = try recorded.matrix("alignment/target", columns: width)
        let firstWidth = try #require(recorded.tensor(named: "alignment/v_first")?.shape.last)
        let values: Matrix<Float> = try recorded.matrix("alignment/v_first", columns: firstWidth)
        let hasKeys = recorded.tensor(named: "alignment/k_first") != nil
        let keys: Matrix<Float> = hasKeys ? try recorded.matrix("alignment/k_first", columns: firstWidth) : values
        for (loss, prefix) in [(AlignmentLoss.relativeL2, "relative-l2/"), (.l2Norm, "l2-norm/")] {
            for parameter in model.parameters { parameter.gradient.clear() }
            var first = FirstValues.known(keys: keys, values: values)
            var state = model.model.start(length: 24, sequences: 3).layers[layer]
            let (y, trace) = model.model.layers[layer].tracedMixer(
                x, &state, first: &first, rotation: model.model.rotations(0..<24, length: 24, sequences: 3)[layer],
                kernels)
            let found = loss.figures(ofLayer: layer, inPlace: y, target, lastNorm: 1, kernels).loss
            let expected = try #require((try recorded.numbers(prefix + "loss") as [Double]).first)
            #expect(abs(found - expected) < 1e-6 * expected)
            let dx = Matrix<Float>(zeros: x.rows, columns: x.columns)
            model.model.layers[layer].mixerBackward(
                y, trace, first: nil, model.gradients(ofLayer: layer), addingTo: dx, kernels)
            if loss == .relativeL2 { #expect(relativeError(dx.array, try recorded.numbers(prefix + "x")) < 1e-5) }
            var compared = 0
            for parameter in model.parameters where recorded.tensor(named: prefix + parameter.name) != nil {
                #expect(
                    relativeError(parameter.gradient.array, try recorded.numbers(prefix + parameter.name))
                        < 1e-5,
                    "\(parameter.name)")
                compared += 1
            }
            // RAD-RWKV6 has fewer tensors, and this one has neither biases nor token shift.
            #expect(compared > (name == "rad-rwkv6-group-norm" ? 10 : 15))
        }
    }
}

/// Compares gradients with finite differences of the loss, in double precision.
struct DifferenceTests {
    static let students: [(String, Adapter.Kind?)] =
        [
            "hxa079", "hxa079-gqa-first", "hxa079-no-norm", "cxa079", "cxa076", "cxa076r", "cxa07a", "hxa07b", "hxa07c",
            "cxa07d", "rad-rwkv7", "rad-rwkv7-group-norm", "rad-rwkv7-qwen3",
            "rad-rwkv7-qwen3-unbalanced", "rad-rwkv6", "rad-rwkv6-group-norm", "arwkv", "arwkv-1g",
        ].map { ($0, nil) }
        + [.lora, .dora, .bone].map { ("hxa079-gqa-first", $0) }

    @Test("every weight's gradient is the slope of the loss", arguments: students)
    func slopes(_ name: String, _ adapter: Adapter.Kind?) throws {
        var model = try student(name, by: adapter.map { TrainedAdapters($0, rank: 4) }, as: Double.self)
        let kernels: Kernels<Double> = try kernels()
        // The factors are perturbed, because B is initially zero and the gradient of A would be zero too.
        for parameter in model.parameters where parameter.isOfAdapter {
            var random = SplitMix64(seed: 2, name: parameter.name)
            parameter.values.replaceRows(
                from: 0,
                by: Matrix(
                    parameter.values.array.map { $0 + random.uniform() / 8 }, columns: parameter.values.columns))
        }
        try model.update(kernels)
        let (sequences, length) = (2, 19)
        let tokens = (0..<sequences * length).map { ($0 * 37 + $0 / 5) % model.model.vocabulary }
        let next = tokens.indices.map { $0 % length + 1 < length ? Int64(tokens[$0 + 1]) : -1 }
        var loss = LogitDivergence()
        (loss.temperature, loss.crossEntropyWeight) = (1.7, 0.3)
        let targets = Matrix(
            (0..<tokens.count * model.model.vocabulary).map { Double(($0 * 7919) % 1013) / 250 },
            columns: model.model.vocabulary)
        func run() throws -> (TrainedModel<Double>.Run, Double, Matrix<Double>) {
            let run = try model.run(tokens, sequences: sequences, kernels)
            let (value, gradient) = try loss(
                run.hidden, of: model.model, next: next, kernels,
                targets: { (rows) throws(CheckpointError) in targets.rows(rows) })
            return (run, value, gradient)
        }
        let (first, _, gradient) = try run()
        try model.backward(first, gradient, propagatesFirstValues: true, kernels)
        model.adaptersBackward(kernels)
        var random = SplitMix64(seed: 1)
        // As published, DoRA's gradients omit the derivative of the row norms, so only those of the magnitudes are
        // exact.
        let isWhole = { (parameter: TrainedModel<Double>.Parameter) in
            adapter != .dora || !parameter.isOfAdapter || parameter.shape.count == 1
        }
        for parameter in model.parameters where isWhole(parameter) {
            let values = parameter.values.array
            let slopes = parameter.gradient.array
            let size = slopes.reduce(0) { $0 + $1 * $1 }.squareRoot()
            let direction = values.map { _ in random.next() & 1 == 0 ? 1.0 : -1.0 }
            // Decays of RAD-RWKV6 can cross their bound within a step.
            let step = name.hasPrefix("rad-rwkv6") ? 1e-6 : 1e-5
            func value(_ side: Double) throws -> Double {
                parameter.values.replaceRows(
                    from: 0,
                    by: Matrix(zip(values, direction).map { $0 + side * step * $1 }, columns: parameter.values.columns))
                try model.update(kernels)
                return try run().1
            }
            let difference = (8 * (try value(1) - value(-1)) - (try value(2) - value(-2))) / (12 * step)
            _ = try value(0)
            let slope = zip(slopes, direction).reduce(0) { $0 + $1.0 * $1.1 }
            #expect(
                abs(difference - slope) <= 1e-6 * size, "\(parameter.name): \(difference), \(slope), \(size)")
        }
    }
}
