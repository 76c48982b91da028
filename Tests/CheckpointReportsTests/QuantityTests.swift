import CheckpointFiles
import Testing

@testable import CheckpointReports

@Suite struct QuantityTests {
    @Test(arguments: [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1004, "1.00 kB"), (1005, "1.01 kB"), (9994, "9.99 kB"),
        (9995, "10.0 kB"),
        (99_949, "99.9 kB"), (99_950, "100 kB"), (999_499, "999 kB"), (999_500, "1.00 MB"), (1_192_135_096, "1.19 GB"),
        (40_000_000_000, "40.0 GB"), (Int.max, "9.22 EB"),
    ])
    func writesBytesToThreeDigits(count: Int, text: String) {
        #expect(byteText(count) == text)
    }

    @Test(arguments: [(0, "0"), (999, "999"), (1000, "1,000"), (596_049_920, "596,049,920"), (-1234, "-1,234")])
    func groupsDigits(count: Int, text: String) {
        #expect(countText(count) == text)
    }

    @Test(
        arguments: [
            (nil, "-"), (0.0, "0"), (1.0, "1"), (-0.0123456, "-0.01235"), (1.5e-39, "1.5e-39"), (65504, "6.55e+04"),
        ] as [(Double?, String)])
    func writesValuesToFourDigits(value: Double?, text: String) {
        #expect(valueText(value) == text)
    }

    @Test func ordersNumbersInNamesByTheirValue() {
        let names = ["a.10.x", "a.2.x", "a.2", "a.02.x", "a", "b.1", "a.2.y", "a.x"]
        let sorted = names.sorted { naturallyPrecedes(Array($0.utf8), Array($1.utf8)) }
        #expect(sorted == ["a", "a.2", "a.02.x", "a.2.x", "a.2.y", "a.10.x", "a.x", "b.1"])
    }

    @Test func namesSetsByRanges() {
        var set = IndexSet()
        for index: Int32 in [5, 0, 1, 2, 9, 10] { set.insert(index) }
        set.sort()
        #expect(set.text == "0-2, 5, 9, 10")
    }
}
