import CheckpointFiles
import Testing

@Suite struct DTypeTests {
    @Test func hasTheFormatsTypesAndWidths() {
        let formats = DType.allCases.filter(\.isInSafetensors)
        let widths = Dictionary(uniqueKeysWithValues: formats.map { ($0.rawValue, $0.bitWidth) })
        #expect(
            widths == [
                "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
                "F8_E8M0": 8,
                "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
                "F32": 32,
                "C64": 64, "F64": 64, "I64": 64, "U64": 64,
            ])
    }

    @Test func hasTorchsOwnTypesToo() {
        let others = DType.allCases.filter { !$0.isInSafetensors }
        #expect(
            Dictionary(uniqueKeysWithValues: others.map { ($0.rawValue, $0.bitWidth) })
                == ["C32": 32, "BC32": 32, "C128": 128, "QI8": 8, "QU8": 8, "QI32": 32])
    }

    @Test func countsBytes() throws {
        #expect(try DType.bf16.byteCount(of: [3, 5]) == 30)
        #expect(try DType.f32.byteCount(of: []) == 4)
        #expect(try DType.f4E2M1.byteCount(of: [2, 3]) == 3)
        #expect(try DType.f6E3M2.byteCount(of: [4]) == 3)
        #expect(try DType.u8.byteCount(of: [0, 7]) == 0)
        #expect(throws: DType.SizeError.partialByte) { try DType.f4E2M1.byteCount(of: [3]) }
        #expect(throws: DType.SizeError.overflow) { try DType.u8.byteCount(of: [.max, 2]) }
        #expect(throws: DType.SizeError.overflow) { try DType.u8.byteCount(of: [0, .max, 2]) }
        #expect(throws: DType.SizeError.overflow) { try DType.f64.byteCount(of: [.max / 8]) }
    }
}
