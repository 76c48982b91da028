import Glibc

/// Bytes in decimal units, to three digits: `311 MB`, `1.19 GB`.
public func byteText(_ count: Int) -> String {
    var unit = "B"
    var value = Double(count)
    for next in ["kB", "MB", "GB", "TB", "PB"] where value >= 999.5 {
        unit = next
        value /= 1000
    }
    if unit == "B" { return "\(count) B" }
    return formatted(value, value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f") + " " + unit
}

/// An integer with its digits in groups of three: `596,049,920`.
public func countText(_ count: Int) -> String {
    let digits = Array(String(count.magnitude))
    var text = count < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
        if index > 0, (digits.count - index) % 3 == 0 { text += "," }
        text.append(digit)
    }
    return text
}

/// A count with its noun: `1 file`, `2 files`.
func countText(_ count: Int, _ noun: String) -> String {
    countText(count) + " " + noun + (count == 1 ? "" : "s")
}

/// A value to four significant digits; `-` where there is none.
func valueText(_ value: Double?) -> String {
    value.map { formatted($0, "%.4g") } ?? "-"
}

private func formatted(_ value: Double, _ format: String) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 400) { buffer in
        let count = withVaList([value]) { vsnprintf(buffer.baseAddress, buffer.count, format, $0) }
        return String(decoding: buffer.prefix(Int(count)).lazy.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// A shape as people write it: `[4096, 1024]`, `[]` for a scalar.
func shapeText(_ shape: [Int]) -> String {
    "[" + shape.map(String.init).joined(separator: ", ") + "]"
}
