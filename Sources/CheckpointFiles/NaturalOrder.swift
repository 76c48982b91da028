/// Returns whether `a` comes before `b` in natural order.
///
/// Names are compared byte by byte, except that runs of digits are compared by value: `layers.2` comes before
/// `layers.10`.
package func naturallyPrecedes(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    func digits(_ name: [UInt8], from start: Int) -> ArraySlice<UInt8> {
        name[start...].prefix { $0 &- UInt8(ascii: "0") < 10 }
    }
    // Skip the common prefix, except its trailing digits, which can be part of longer numbers.
    var i = zip(a, b).prefix { $0 == $1 }.count
    while i > 0, a[i - 1] &- UInt8(ascii: "0") < 10 { i -= 1 }
    var j = i
    while i < a.count, j < b.count {
        let (x, y) = (digits(a, from: i), digits(b, from: j))
        guard !x.isEmpty, !y.isEmpty else {
            if a[i] != b[j] { return a[i] < b[j] }
            i += 1
            j += 1
            continue
        }
        let (p, q) = (x.drop { $0 == UInt8(ascii: "0") }, y.drop { $0 == UInt8(ascii: "0") })
        if p.count != q.count { return p.count < q.count }
        if let (c, d) = zip(p, q).first(where: { $0 != $1 }) { return c < d }
        i = x.endIndex
        j = y.endIndex
    }
    if i < a.count || j < b.count { return i >= a.count }
    // The names are equal except for leading zeros.
    return a.lexicographicallyPrecedes(b)
}
