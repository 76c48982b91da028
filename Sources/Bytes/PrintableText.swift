extension Unicode.Scalar {
    /// Whether printing the scalar could move the cursor, reorder the line or show nothing.
    ///
    /// These scalars are controls (C0, DEL, C1), bidirectional marks, line separators, zero-width characters, fillers,
    /// variation selectors and tags.
    public var isUnprintable: Bool {
        switch value {
        case 0x00...0x1F, 0x7F...0x9F, 0xAD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B...0x180F,
            0x200B...0x200F,
            0x2028...0x202E, 0x2060...0x206F, 0x2800, 0x3164, 0xFE00...0xFE0F, 0xFEFF, 0xFFA0,
            0xFFF9...0xFFFB, 0xE0000...0xE0FFF:
            true
        default: false
        }
    }
}

extension String {
    /// Whether the text consists of printable ASCII characters other than double quotes and backslashes.
    ///
    /// Such text needs no escapes in any output.
    public var isPlain: Bool {
        utf8.withContiguousStorageIfAvailable { bytes in
            // The loop has no branches, so the compiler can vectorise it.
            var special: UInt8 = 0
            for byte in bytes {
                special |= byte &- 0x20 < 0x5F ? 0 : 1
                special |= byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") ? 1 : 0
            }
            return special == 0
        } ?? false
    }

    /// Returns the text in a form that is safe to print to a terminal.
    ///
    /// Unprintable scalars become escapes such as `\u{202E}`, and backslashes are doubled to keep the escapes
    /// unambiguous. If the text has more than `limit` scalars, `…` replaces the rest.
    public func printable(limit: Int = .max) -> String {
        if utf8.count <= limit, isPlain { return self }
        var text = ""
        var count = 0
        for scalar in unicodeScalars {
            guard count < limit else { return text + "…" }
            count += 1
            if scalar.isUnprintable {
                text += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
            } else if scalar == "\\" {
                text += "\\\\"
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
