import ArgumentParser

/// A number of bytes as an option's value: `512MiB`, `2GB`, `1000000`; MB is decimal, MiB is binary.
struct ByteCount: ExpressibleByArgument {
    let count: Int

    init?(argument: String) {
        let digits = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let units: [String: Double] = [
            "": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 0x1p10, "MiB": 0x1p20,
            "GiB": 0x1p30,
            "TiB": 0x1p40,
        ]
        guard let number = Double(digits), let unit = units[String(argument.dropFirst(digits.count))],
            number * unit < 0x1p62
        else { return nil }
        // Whole numbers are multiplied as integers, because a Double would round large ones.
        count = Int(digits).map { $0 * Int(unit) } ?? Int(number * unit)
    }
}
