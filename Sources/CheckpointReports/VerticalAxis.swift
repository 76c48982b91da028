/// The vertical axis of a chart: its range, its ticks, and where values are drawn.
struct VerticalAxis {
    /// Where a value is drawn.
    enum Place: Equatable {
        /// On the scale, from 0 at the bottom to 1 at the top.
        case onScale(Double)
        /// On the line for zero, below a logarithmic scale.
        case zero
        /// At the top edge, because the value is infinite or NaN.
        case notFinite
    }

    private let scale: Chart.Scale
    private let low: Double
    private let high: Double
    private let step: Double
    /// Whether the axis has a line for zero below its scale.
    let hasZeroLine: Bool

    /// Creates the axis for the given values.
    ///
    /// A logarithmic scale covers whole decades. A linear scale ignores the values and covers its own range.
    init(_ scale: Chart.Scale, _ values: [Double]) {
        self.scale = scale
        switch scale {
        case .linear(let range):
            (low, high) = (range.lowerBound, range.upperBound)
            step = (high - low) / 4
            hasZeroLine = false
        case .logarithmic:
            let exponents = values.filter { $0.isFinite && $0 > 0 }.map(decimalLogarithm)
            let top = (exponents.max() ?? 0).rounded(.up)
            let bottom = min((exponents.min() ?? 0).rounded(.down), top - 1)
            step = max(1, ((top - bottom) / 8).rounded(.up))
            (low, high) = (bottom, bottom + step * ((top - bottom) / step).rounded(.up))
            hasZeroLine = values.contains { $0 <= 0 }
        }
    }

    /// Returns where a value is drawn; on a linear scale, values outside the range are drawn at its ends.
    func place(of value: Double) -> Place {
        guard value.isFinite else { return .notFinite }
        if case .logarithmic = scale, value <= 0 { return .zero }
        let number = if case .logarithmic = scale { decimalLogarithm(value) } else { value }
        return .onScale((min(max(number, low), high) - low) / (high - low))
    }

    /// The ticks on the scale, from bottom to top.
    ///
    /// Each has its place and a number: the exponent of ten on a logarithmic scale, or the value on a linear one.
    var ticks: [(number: Double, place: Double)] {
        stride(from: low, through: high + step / 1000, by: step).map { ($0, ($0 - low) / (high - low)) }
    }
}
