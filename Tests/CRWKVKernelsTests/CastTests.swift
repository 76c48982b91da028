import CRWKVKernels
import Testing

@Suite struct CastTests {
    private static let kernels = [
        RWKV_INSTRUCTION_SET_BASELINE, RWKV_INSTRUCTION_SET_AVX2, RWKV_INSTRUCTION_SET_AVX512,
    ].compactMap { rwkv_kernels_for($0)?.pointee }

    private func cast<Source, Target>(
        _ kernels: rwkv_kernels, _ source: [Source], _ from: rwkv_element, _ to: rwkv_element, as: Target.Type,
        saturates: Bool = false
    ) -> (values: [Target], overflows: UInt64) {
        var overflows: UInt64 = 0
        let values = [Target](unsafeUninitializedCapacity: source.count) { target, count in
            source.withUnsafeBytes {
                overflows = kernels.cast(
                    from, $0.baseAddress, to, target.baseAddress, source.count, saturates ? 1 : 0)
            }
            count = source.count
        }
        return (values, overflows)
    }

    /// The f32 values at and around every f16 and bf16 value, the midpoints between them, and random bit patterns.
    private static let floats: [Float] = {
        var bits: [UInt32] = []
        for half in UInt32(0)..<65536 {
            let near = Float(Float16(bitPattern: UInt16(half))).bitPattern
            bits += [near, near &+ 1, near &- 1, near &+ 0x1000, near &+ 0xFFF, near &+ 0x1001]
            bits += [half << 16, half << 16 | 0x8000, half << 16 | 0x7FFF, half << 16 | 0x8001]
        }
        var generator = SystemRandomNumberGenerator()
        bits += (0..<100_003).map { _ in generator.next() }
        return bits.map { Float(bitPattern: $0) }
    }()

    private static func isSame<Number: BinaryFloatingPoint>(_ a: Number, _ b: Number) -> Bool {
        a.isNaN ? b.isNaN : a == b && a.sign == b.sign
    }

    @Test func roundsToHalvesAsTheLanguageDoes() {
        for kernels in Self.kernels {
            let (values, overflows) = cast(
                kernels, Self.floats, RWKV_ELEMENT_F32, RWKV_ELEMENT_F16, as: Float16.self)
            let expected = Self.floats.map { Float16($0) }
            #expect(zip(values, expected).allSatisfy(Self.isSame))
            let beyond = zip(Self.floats, expected).count { $0.isFinite && $1.isInfinite }
            #expect(overflows == UInt64(beyond) && beyond > 1000)
            let saturated = cast(
                kernels, Self.floats, RWKV_ELEMENT_F32, RWKV_ELEMENT_F16, as: Float16.self, saturates: true
            ).values
            #expect(
                zip(zip(Self.floats, saturated), expected).allSatisfy { pair, expected in
                    pair.0.isFinite && expected.isInfinite
                        ? abs(pair.1) == .greatestFiniteMagnitude && pair.1.sign == pair.0.sign
                        : Self.isSame(pair.1, expected)
                })
        }
    }

    @Test func roundsToBrainHalves() {
        for kernels in Self.kernels {
            let (values, overflows) = cast(
                kernels, Self.floats, RWKV_ELEMENT_F32, RWKV_ELEMENT_BF16, as: UInt16.self)
            var beyond: UInt64 = 0
            for (float, value) in zip(Self.floats, values) {
                let rounded = Float(bitPattern: UInt32(value) << 16)
                if float.isNaN {
                    #expect(rounded.isNaN)
                    continue
                }
                // The two neighbouring bf16 values, as doubles, so that a neighbour beyond the largest bf16 is also
                // finite.
                let below = Double(Float(bitPattern: float.bitPattern & 0xFFFF_0000))
                let step = Double(Float(bitPattern: max(float.bitPattern & 0x7F80_0000, 0x0080_0000))) * 0x1p-7
                let above = below + (float.sign == .minus ? -step : step)
                let (low, high) = (abs(Double(float) - below), abs(above - Double(float)))
                let isEven = float.bitPattern >> 16 & 1 == 0
                let expected = low < high || low == high && isEven ? below : above
                #expect(float.isInfinite ? rounded == float : rounded == Float(expected), "\(float)")
                if float.isFinite, rounded.isInfinite { beyond += 1 }
            }
            #expect(overflows == beyond && beyond > 0)
            let saturated = cast(
                kernels, [Float.greatestFiniteMagnitude, -.greatestFiniteMagnitude, .infinity], RWKV_ELEMENT_F32,
                RWKV_ELEMENT_BF16, as: UInt16.self, saturates: true)
            #expect(saturated.values == [0x7F7F, 0xFF7F, 0x7F80] && saturated.overflows == 2)
        }
    }

    @Test func widensWithoutLoss() {
        let halves = (UInt16.min...UInt16.max).map { $0 }
        for kernels in Self.kernels {
            let fromHalves = cast(kernels, halves, RWKV_ELEMENT_F16, RWKV_ELEMENT_F32, as: Float.self).values
            #expect(zip(fromHalves, halves).allSatisfy { Self.isSame($0, Float(Float16(bitPattern: $1))) })
            let doubles = cast(kernels, halves, RWKV_ELEMENT_F16, RWKV_ELEMENT_F64, as: Double.self).values
            #expect(zip(doubles, halves).allSatisfy { Self.isSame($0, Double(Float16(bitPattern: $1))) })
            let fromBrain = cast(kernels, halves, RWKV_ELEMENT_BF16, RWKV_ELEMENT_F32, as: Float.self).values
            #expect(zip(fromBrain, halves).allSatisfy { $0.bitPattern == UInt32($1) << 16 })
            let toHalves = cast(kernels, halves, RWKV_ELEMENT_BF16, RWKV_ELEMENT_F16, as: Float16.self)
            #expect(zip(toHalves.values, fromBrain).allSatisfy { Self.isSame($0, Float16($1)) })
            #expect(toHalves.overflows == UInt64(fromBrain.count { $0.isFinite && Float16($0).isInfinite }))
            let back = cast(kernels, doubles, RWKV_ELEMENT_F64, RWKV_ELEMENT_F16, as: Float16.self)
            #expect(zip(back.values, halves).allSatisfy { Self.isSame($0, Float16(bitPattern: $1)) })
            #expect(back.overflows == 0)
        }
    }

    /// Casts doubles close to the midpoint between two f16 values.
    ///
    /// If they were rounded to f32 first, they would become ties.
    @Test func roundsDoublesOnce() {
        var doubles: [Double] = []
        for half in UInt16(0)..<0x7C00 {
            let (low, high) = (Double(Float16(bitPattern: half)), Double(Float16(bitPattern: half + 1)))
            guard high.isFinite else { continue }
            let middle = (low + high) / 2
            for value in [middle, middle.nextUp, middle.nextDown, middle * (1 + 0x1p-40)] {
                doubles += [value, -value]
            }
        }
        doubles += [
            1e300, -1e300, 65519.999999, 65520, .infinity, .nan, Double.leastNonzeroMagnitude, 2.98e-8,
            2.9802322387695312e-08,
        ]
        for kernels in Self.kernels {
            let (values, overflows) = cast(kernels, doubles, RWKV_ELEMENT_F64, RWKV_ELEMENT_F16, as: Float16.self)
            #expect(zip(values, doubles).allSatisfy { Self.isSame($0, Float16($1)) })
            #expect(overflows == UInt64(doubles.count { $0.isFinite && Float16($0).isInfinite }) && overflows == 3)
            let floats = cast(kernels, doubles, RWKV_ELEMENT_F64, RWKV_ELEMENT_F32, as: Float.self)
            #expect(zip(floats.values, doubles).allSatisfy { Self.isSame($0, Float($1)) } && floats.overflows == 2)
            let saturated = cast(
                kernels, [1e300, -1e300, -.infinity, 3.5], RWKV_ELEMENT_F64, RWKV_ELEMENT_F32, as: Float.self,
                saturates: true)
            #expect(
                saturated.values
                    == [.greatestFiniteMagnitude, -.greatestFiniteMagnitude, -.infinity, 3.5])
        }
    }
}
