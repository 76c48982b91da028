import CheckpointJSON
public import RWKVNumerics

/// A run's log: a line of JSON for each step, and for each look at held-out tokens.
public struct DistillationLog: Sendable {
    /// All lines.
    public private(set) var bytes: [UInt8]

    /// A log that goes on from lines that are there.
    public init(_ bytes: [UInt8] = []) { self.bytes = bytes }

    /// Adds a step.
    ///
    /// - Parameters:
    ///   - step: what it was.
    ///   - distillation: whose.
    ///   - seconds: by the clock that it took.
    /// - Throws: nothing that can happen to memory.
    public mutating func add(
        _ step: Distillation<Float>.Step, of distillation: Distillation<Float>, seconds: Double
    ) throws {
        try add { json in
            json.key("step")
            json.value(step.number)
            json.key("loss")
            json.value(step.loss)
            json.key("learning_rate")
            json.value(step.rate)
            json.key("gradient_norm")
            json.value(step.gradientNorm)
            json.key("tokens")
            json.value(step.number * distillation.settings.tokens)
            json.key("seconds")
            json.value(seconds)
            json.key("skipped")
            json.value(distillation.optimiser.skipped)
            json.key("layers")
            json.beginArray()
            for layer in step.layers {
                json.beginObject()
                json.key("index")
                json.value(layer.layer)
                json.key("loss")
                json.value(layer.loss)
                json.key("mean_squared_error")
                json.value(layer.meanSquaredError)
                json.key("relative_error")
                json.value(layer.relativeError)
                json.key("cosine")
                json.value(layer.cosine)
                json.key("scale")
                json.value(layer.scale)
                json.end()
            }
            json.end()
        }
    }

    /// Adds a look at held-out tokens.
    ///
    /// - Parameters:
    ///   - heldOut: what was seen.
    ///   - step: behind which step.
    ///   - path: of the tokens.
    /// - Throws: nothing that can happen to memory.
    public mutating func add(_ heldOut: HeldOut, behind step: Int, path: String) throws {
        try add { json in
            json.key("step")
            json.value(step)
            json.key("held_out")
            json.value(path)
            json.key("tokens")
            json.value(heldOut.tokenCount)
            json.key("kl")
            json.value(heldOut.divergence)
            json.key("top1")
            json.value(heldOut.agreement)
            json.key("recall")
            json.beginObject()
            json.key("queries")
            json.value(heldOut.recall.count)
            json.key("teacher")
            json.value(heldOut.recall.teacher)
            json.key("student")
            json.value(heldOut.recall.student)
            json.key("accuracy")
            json.value(heldOut.recall.accuracy)
            json.end()
        }
    }

    private mutating func add(_ members: (inout JSONWriter) -> Void) throws {
        bytes += try ByteOutput.bytes { output in
            var json = JSONWriter(output)
            json.beginObject(onOneLine: true)
            members(&json)
            json.end()
            try json.finish()
        }
    }
}
