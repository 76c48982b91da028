import CheckpointFiles
import Foundation
import TestSupport
import Testing
import TokenFiles

struct TokenSequencesTests {
    private func little<Number: FixedWidthInteger>(_ numbers: [Number]) -> Data {
        numbers.map(\.littleEndian).withUnsafeBytes { Data($0) }
    }

    private func numpy(_ description: String, _ shape: String, _ data: Data, order: String = "False") -> Data {
        var header = "{'descr': '\(description)', 'fortran_order': \(order), 'shape': \(shape), }"
        while (header.utf8.count + 11) % 64 != 0 { header += " " }
        header += "\n"
        return Data([0x93]) + Data("NUMPY".utf8) + Data([1, 0]) + little([UInt16(header.utf8.count)])
            + Data(header.utf8) + data
    }

    private func megatron(_ code: UInt8, lengths: [Int32], places: [Int64]) -> Data {
        Data("MMIDIDX\0\0".utf8) + little([UInt64(1)]) + Data([code]) + little([UInt64(lengths.count)])
            + little([UInt64(lengths.count + 1)]) + little(lengths) + little(places)
            + little((0...Int64(lengths.count)).map { $0 })
    }

    @Test func readsEveryKindOfFile() throws {
        let files: [(String, Data, [[Int]])] = [
            ("a.json", Data("[1, 2, 3]".utf8), [[1, 2, 3]]),
            ("b.json", Data("[[1, 2], [3, 4]]".utf8), [[1, 2], [3, 4]]),
            ("ragged.json", Data("[[1, 2], [3]]".utf8), [[1, 2], [3]]),
            ("a.u16", little([UInt16(1), 65535]), [[1, 65535]]),
            ("a.u32", little([UInt32(1), 4_000_000_000]), [[1, 4_000_000_000]]),
            ("a.npy", numpy("<i8", "(3,)", little([Int64(5), 6, 7])), [[5, 6, 7]]),
            ("b.npy", numpy("<u2", "(2, 2)", little([UInt16(5), 6, 7, 8])), [[5, 6], [7, 8]]),
            ("c.npy", numpy("|u1", "(2,)", Data([250, 1])), [[250, 1]]),
        ]
        try withTemporaryDirectory { directory in
            for (name, data, expected) in files {
                let file = directory.appending(path: name)
                try data.write(to: file)
                #expect(try TokenSequences(contentsOf: file.path).sequences == expected, "\(name)")
            }
            for (dtype, data) in [(DType.i64, little([Int64(1), 2, 3, 4])), (.i32, little([Int32(1), 2, 3, 4]))] {
                let file = directory.appending(path: "t.safetensors")
                try writeSafetensors([("tokens", dtype, [2, 2], data)], to: file)
                #expect(try TokenSequences(contentsOf: file.path).sequences == [[1, 2], [3, 4]])
            }
            try little([UInt16(9), 1, 2, 3]).write(to: directory.appending(path: "m.bin"))
            try megatron(8, lengths: [2, 1], places: [2, 6]).write(to: directory.appending(path: "m.idx"))
            #expect(
                try TokenSequences(contentsOf: directory.appending(path: "m.bin").path).sequences == [[1, 2], [3]])
        }
    }

    @Test func refusesWhatItCannotTake() throws {
        let files: [(String, Data, String)] = [
            ("a.json", Data("[]".utf8), "not an array of tokens"),
            ("a.json", Data("[[]]".utf8), "no tokens"),
            ("a.json", Data("[1, 2.5]".utf8), "not an array of tokens"),
            ("a.json", Data("[[1], 2]".utf8), "not an array of tokens"),
            ("a.json", Data("{\"a\": 1}".utf8), "not an array of tokens"),
            ("a.json", Data("[-1]".utf8), "negative"),
            ("a.u16", Data([1]), "not a whole number of tokens"),
            ("a.u16", Data(), "no tokens"),
            ("a.txt", Data("1".utf8), "unknown token file extension"),
            ("a.npy", Data("not numpy at all".utf8), "not a NumPy array"),
            ("a.npy", numpy("<f4", "(2,)", Data(count: 8)), "little-endian integers"),
            ("a.npy", numpy(">i8", "(1,)", Data(count: 8)), "little-endian integers"),
            ("a.npy", numpy("<i8", "(2, 1)", Data(count: 16), order: "True"), "little-endian integers"),
            ("a.npy", numpy("<i8", "(2,)", Data(count: 8)), "size of the data does not match"),
            ("a.npy", numpy("<i8", "(999999999999999999999,)", Data()), "little-endian integers"),
            ("a.npy", numpy("<i8", "()", Data(count: 8)), "little-endian integers"),
            (
                "a.npy", Data([0x93]) + Data("NUMPY".utf8) + Data([1, 0, 255, 255]) + Data("{}".utf8),
                "longer than the file"
            ),
        ]
        try withTemporaryDirectory { directory in
            func refusal(_ name: String) -> String {
                do {
                    let read = try TokenSequences(contentsOf: directory.appending(path: name).path)
                    return "\(read)"
                } catch { return "\(error)" }
            }
            for (name, data, words) in files {
                try data.write(to: directory.appending(path: name))
                #expect(refusal(name).contains(words), "\(refusal(name)), not \(words)")
            }
            try little([UInt16(1), 2]).write(to: directory.appending(path: "m.bin"))
            #expect(refusal("m.bin").contains("m.idx"))
            for (index, words) in [
                (Data("MMIDIDX".utf8), "not a Megatron index"),
                (megatron(6, lengths: [1], places: [0]), "token dtype code"),
                (megatron(8, lengths: [3], places: [0]), "is not within"),
                (megatron(8, lengths: [1], places: [-2]), "is not within"),
                (megatron(8, lengths: [1], places: [0]).prefix(40), "number of sequences is more than"),
            ] {
                try index.write(to: directory.appending(path: "m.idx"))
                #expect(refusal("m.bin").contains(words), "\(refusal("m.bin")), not \(words)")
            }
            try writeFloats([("tokens", [1, 1], [1])], to: directory.appending(path: "f.safetensors"))
            #expect(refusal("f.safetensors").contains("integers"))
            try writeFloats([("ids", [1], [1])], to: directory.appending(path: "n.safetensors"))
            #expect(refusal("n.safetensors").contains("no tensor is named"))
        }
    }

    @Test func seedsAreTheSameEveryTime() {
        let seeded = TokenSequences.seeded(vocabulary: 96)
        #expect(seeded == .seeded(vocabulary: 96) && seeded.sequences.map(\.count) == [128, 128])
        #expect(seeded.sequences[0].prefix(6) == [54, 71, 93, 42, 42, 73])
        #expect(Set(seeded.sequences.joined()).isSubset(of: Set(0..<96)) && Set(seeded.sequences[0]).count > 48)
    }
}
