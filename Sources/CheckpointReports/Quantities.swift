import Glibc

/// Formats a number of bytes in decimal units with three significant digits, such as `311 MB` or `1.19 GB`.
public func byteText(_ count: Int) -> String {
    guard count >= 1000 else { return "\(count) B" }
    var unit = 1000
    var units = ["kB", "MB", "GB", "TB", "PB", "EB"][...]
    // 999.5 or more of a unit would round to 1000, so the next unit is used.
    while units.count > 1, count >= unit * 1000 - unit / 2 {
        unit *= 1000
        units.removeFirst()
    }
    let name = units[units.startIndex]
    let thousandths = count / (unit / 1000)
    switch thousandths {
    case ..<9_995:
        let hundredths = (thousandths + 5) / 10
        let fraction = hundredths % 100
        return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction) \(name)"
    case ..<99_950:
        let tenths = (thousandths + 50) / 100
        return "\(tenths / 10).\(tenths % 10) \(name)"
    default: return "\((thousandths + 500) / 1000) \(name)"
    }
}

/// Formats an integer with commas between groups of three digits, such as `596,049,920`.
public func countText(_ count: Int) -> String {
    let digits = Array(String(count.magnitude))
    var text = count < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
        if index > 0, (digits.count - index) % 3 == 0 { text += "," }
        text.append(digit)
    }
    return text
}

/// Formats a count with its noun, such as `1 file` or `2 files`.
public func countText(_ count: Int, _ noun: String) -> String {
    countText(count) + " " + noun + (count == 1 ? "" : "s")
}

/// Formats a value with four significant digits, or returns `-` if it is nil.
package func valueText(_ value: Double?) -> String {
    value.map { $0.isNaN ? "NaN" : formatted($0, "%.4g") } ?? "-"
}

/// Formats a value with three significant digits.
public func shortText(_ value: Double) -> String { formatted(value, "%.3g") }

/// Formats a value near one with seven decimal places.
package func preciseText(_ value: Double) -> String { formatted(value, "%.7f") }

/// Formats a number using a printf format such as `%.4g`.
package func formatted(_ value: Double, _ format: String) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 400) { buffer in
        let count = withVaList([value]) { vsnprintf(buffer.baseAddress, buffer.count, format, $0) }
        return String(decoding: buffer.prefix(Int(count)).lazy.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// Formats a shape in brackets, such as `[4096, 1024]`, or `[]` for a scalar.
package func shapeText(_ shape: [Int]) -> String {
    var text = "["
    for (index, dimension) in shape.enumerated() {
        if index > 0 { text += ", " }
        text += dimension.description
    }
    return text + "]"
}

/// Returns the base-10 logarithm of a positive number.
package func decimalLogarithm(_ value: Double) -> Double { log10(value) }

/// Returns the file name of each path, with as many of its directories as it takes to tell it from the other paths.
package func shortNames(_ paths: [String]) -> [String] {
    let parts = paths.map { $0.split(separator: "/") }
    return paths.indices.map { index in
        let own = parts[index]
        let count = (1...max(1, own.count)).first { count in
            parts.indices.allSatisfy { $0 == index || !parts[$0].suffix(count).elementsEqual(own.suffix(count)) }
        }
        return count.map { own.suffix($0).joined(separator: "/") } ?? paths[index]
    }
}
