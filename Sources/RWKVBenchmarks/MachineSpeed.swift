import CRWKVKernels
import Glibc
public import RWKVNumerics

/// The durations of repeated runs.
public struct Timings: Sendable {
    /// CPU seconds summed over all threads, one value per run.
    public private(set) var processor: [Double] = []
    /// Wall-clock seconds, one value per run.
    public private(set) var clock: [Double] = []

    /// Creates timings with no runs.
    public init() {}

    /// Runs `work` once and records how long it takes.
    ///
    /// - Parameter work: the work to time.
    /// - Returns: what `work` returns.
    /// - Throws: what `work` throws.
    public mutating func time<Result, Failure: Error>(
        _ work: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let (processor, clock) = (seconds(CLOCK_PROCESS_CPUTIME_ID), seconds(CLOCK_MONOTONIC))
        let result = try work()
        self.processor.append(seconds(CLOCK_PROCESS_CPUTIME_ID) - processor)
        self.clock.append(seconds(CLOCK_MONOTONIC) - clock)
        return result
    }

    /// Returns the median time in seconds, at least one nanosecond.
    ///
    /// For one thread, the median is of CPU seconds, which other processes disturb least; for several threads, of
    /// wall-clock seconds.
    public func median(threads: Int) -> Double {
        let times = (threads == 1 ? processor : clock).sorted()
        return times.isEmpty ? 1e-9 : max(1e-9, (times[(times.count - 1) / 2] + times[times.count / 2]) / 2)
    }

    private func seconds(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}

extension Kernels {
    /// Multiplies and adds fp32 numbers in registers on all threads, to measure peak FLOP/s.
    ///
    /// - Parameter timings: the timings to which this run is added.
    /// - Returns: the number of floating-point operations.
    public func multiplyAdd(_ timings: inout Timings) -> Double {
        let (rounds, pieces) = (1 << 15, 8 * threads)
        timings.time { forEach(pieces) { _ in _ = machine.multiply_add(rounds) } }
        return Double(pieces * rounds) * machine.multiply_add(1)
    }

    /// Reads bytes on all threads and discards them, to measure memory bandwidth.
    ///
    /// - Parameters:
    ///   - parts: the memory to read; to measure main memory, the total size must exceed the caches.
    ///   - timings: the timings to which this run is added.
    public func read(_ parts: [UnsafeRawBufferPointer], _ timings: inout Timings) {
        let pieces = parts.flatMap { part in
            part.count.parts(of: 1 << 20).map { UnsafeRawBufferPointer(rebasing: part[$0]) }
        }
        timings.time { forEach(pieces.count) { machine.read(pieces[$0].baseAddress, pieces[$0].count) } }
    }
}
